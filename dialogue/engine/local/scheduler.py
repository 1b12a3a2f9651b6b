"""What is computed in the next step: which tokens of which requests. Pure; knows no model and no thread.

    waiting ─► a slot, as soon as there is room ─► its prompt, in chunks ─► a token at each step ─► ended
       └───────────── put back when memory is out: it goes on later, with what it has ─────────────┘

A step may be planned before the tokens that the last one chose are read: they stand as UNREAD at the end of their sequences until
`learn` says what they are. A sequence that turns out to have ended takes no harm from the step that was already on its way.

Every step holds at most `tokens` tokens: first one for each request that generates, then as much of the prompts as fits, in the
order in which they came. So a long prompt makes nobody wait for longer than a step, and a request begins at the next one.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from dialogue.engine.local.slot_table import Copy, Slot, SlotTable, common_prefix

WORTH_WAITING = 16  # tokens that another request computes right now, and that would only have to be copied afterwards
UNREAD = -1  # a token that the device has chosen, or will; no vocabulary holds it
EASE_AFTER = 512  # steps without want of memory, after which more is dared again


@dataclass(slots=True, eq=False)
class Sequence:
    """A request as the scheduler sees it. Its last token is never computed before the step that asks what follows."""

    tokens: list[int]  # the prompt, then what was generated
    adapter: int = 0
    key: str = ""
    room: int = 0  # the most tokens that it may ever have
    slot: Slot | None = None
    cached: int | None = None  # tokens that needed no computation when it began; None = it has not begun
    cancelled: bool = False  # may be set in any thread; it is gone at the next step
    unread: int = 0  # how many tokens at the end are UNREAD

    @property
    def computed(self) -> int:
        """How many tokens have their keys and values in the slot."""
        return len(self.slot.tokens) if self.slot else 0

    @property
    def pending(self) -> int:
        """How many do not."""
        return len(self.tokens) - self.computed

    @property
    def is_full(self) -> bool:
        """Tell whether its last token is being made: then there is nothing to compute for it any more."""
        return self.unread > 0 and len(self.tokens) >= self.room

    def expect(self) -> None:
        """The next token is being made; at the next step it is computed in its turn."""
        self.tokens.append(UNREAD)
        self.unread += 1

    def learn(self, token: int) -> None:
        """Say what the first of the unread tokens is."""
        place = len(self.tokens) - self.unread
        self.tokens[place] = token
        self.unread -= 1
        if self.slot is not None and place < len(self.slot.tokens):  # a step that was launched meanwhile has computed it
            self.slot.tokens[place] = token


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some tokens of one sequence that are computed in a step."""

    sequence: Sequence
    slot: Slot
    start: int  # the position of the first one
    count: int

    @property
    def tokens(self) -> list[int]:
        """Their ids."""
        return self.sequence.tokens[self.start : self.start + self.count]

    @property
    def samples(self) -> bool:
        """Tell whether the next token is chosen after it."""
        return self.start + self.count == len(self.sequence.tokens)


@dataclass(frozen=True, slots=True)
class Step:
    """What is computed at once: copies first, in their order."""

    chunks: tuple[Chunk, ...]  # in the order of their slots
    copies: tuple[Copy, ...]

    @property
    def token_count(self) -> int:
        """How many tokens it computes."""
        return sum(chunk.count for chunk in self.chunks)


@dataclass(slots=True)
class Bounds:
    """How much is dared at once. Less after memory ran out, more again after a while."""

    tokens: int  # of a step; never less than `sequences`, so that whoever runs gets on at each step
    sequences: int  # that run
    _most: tuple[int, int] = field(init=False)
    _calm: int = 0

    def __post_init__(self) -> None:
        self.tokens = max(self.tokens, self.sequences)
        self._most = (self.tokens, self.sequences)

    def shrink(self, tokens: int) -> bool:
        """A step of `tokens` tokens was too much: dare half of it. Returns whether it was more than one."""
        self._calm = 0
        self.tokens = max(1, tokens // 2)
        self.sequences = max(1, min(self.sequences, self.tokens))
        return tokens > 1

    def note_success(self) -> None:
        """A step had memory enough."""
        self._calm += 1
        if self._calm >= EASE_AFTER:
            self._calm = 0
            tokens, sequences = self._most
            self.tokens, self.sequences = min(tokens, 2 * self.tokens), min(sequences, 2 * self.sequences)


class Scheduler:
    """Sequences that wait and run, over the slots of one table."""

    def __init__(self, table: SlotTable, bounds: Bounds) -> None:
        self.table = table
        self.bounds = bounds
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []  # in the order in which they began

    @property
    def running(self) -> tuple[Sequence, ...]:
        """Those that hold a slot."""
        return tuple(self._running)

    @property
    def waiting(self) -> tuple[Sequence, ...]:
        """Those that do not, in the order in which they will begin."""
        return tuple(self._waiting)

    @property
    def idle(self) -> bool:
        """Tell whether there is nothing to do."""
        return not self._running and not self._waiting

    def submit(self, sequence: Sequence) -> None:
        """Let a sequence wait for its turn."""
        self._waiting.append(sequence)

    def drop_cancelled(self) -> tuple[Sequence, ...]:
        """Forget what nobody wants any more; return it, its slots free."""
        gone = tuple(sequence for sequence in (*self._running, *self._waiting) if sequence.cancelled)
        for sequence in gone:
            self.end(sequence)
        return gone

    def plan(self) -> Step:
        """Return the next step; without chunks where nothing can be done."""
        decoding = [sequence for sequence in self._running if sequence.pending == 1 and not sequence.is_full]
        reading = [sequence for sequence in self._running if sequence.pending > 1]
        chunks, left = _chunks((*decoding, *reading), self.bounds.tokens)
        copies: list[Copy] = []
        while left and self._waiting and len(self._running) < self.bounds.sequences and (seated := self._seat(copies)):
            added, left = _chunks((seated,), left)
            chunks += added
        return Step(tuple(sorted(chunks, key=lambda chunk: chunk.slot.start)), tuple(copies))

    def commit(self, step: Step) -> None:
        """A step was computed, or is surely going to be."""
        for chunk in step.chunks:
            chunk.slot.tokens += chunk.tokens
        self.bounds.note_success()

    def end(self, sequence: Sequence) -> None:
        """A sequence is done or given up; what its slot holds may be found again."""
        if sequence.slot is None:
            self._waiting.remove(sequence)
        else:
            self._vacate(sequence)

    def put_back(self, step: Step) -> bool:
        """Memory ran out in this step: dare less, and let the youngest wait. Returns False where it was down to one token."""
        lessened = self.bounds.shrink(step.token_count)
        for sequence in reversed(self._running[self.bounds.sequences :]):
            self._vacate(sequence)
            self._waiting.appendleft(sequence)
        return lessened

    def _vacate(self, sequence: Sequence) -> None:
        self._running.remove(sequence)
        if sequence.slot is not None:
            self.table.release(sequence.slot)
        sequence.slot = None

    def _seat(self, copies: list[Copy]) -> Sequence | None:
        """Give the first that waits a slot; None = it has to wait."""
        sequence = self._waiting[0]
        if self._is_worth_waiting(sequence):
            return None
        seat = self.table.take(sequence.adapter, sequence.key, sequence.tokens, sequence.room)
        if seat is None:
            return None
        self._running.append(self._waiting.popleft())
        sequence.slot = seat.slot
        if sequence.cached is None:
            sequence.cached = len(seat.slot.tokens)
        if seat.copy is not None:
            copies.append(seat.copy)
        return sequence

    def _is_worth_waiting(self, sequence: Sequence) -> bool:
        """Tell whether a prompt that is being read now begins like this one, so that the beginning is computed once."""
        reading = [each for each in self._running if each.pending > 1 and each.adapter == sequence.adapter]
        shared = max((common_prefix(each.tokens[:-1], sequence.tokens[:-1]) for each in reading), default=0)
        return shared >= WORTH_WAITING and shared - self.table.known(sequence.adapter, sequence.tokens) >= WORTH_WAITING


def _chunks(sequences: Iterable[Sequence], left: int) -> tuple[list[Chunk], int]:
    """Return a chunk for each sequence as long as tokens are left, and how many are left then."""
    chunks: list[Chunk] = []
    for sequence in sequences:
        count = min(sequence.pending, left)
        if count and sequence.slot is not None:
            chunks.append(Chunk(sequence, sequence.slot, sequence.computed, count))
            left -= count
    return chunks, left
