"""Which tokens have their keys and values where: the KV of requests that run, and of those that ended. Pure bookkeeping.

A slot is a stretch of places in the store, filled from its beginning. A new request looks for the slot whose tokens begin as
its own do, token by token and of the same adapter: what one adapter computed is never seen by another.

    it goes on with an idle slot         that is the same conversation, or of which it keeps at least half
    else it copies the common beginning  so that a system prompt is computed once, and the other conversation stays whole

Room is made in this order: what idle slots reserved but did not fill, then whole idle slots, the one that was idle the
longest first.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from dialogue.engine.local.token_ranges import TokenRanges


@dataclass(slots=True, eq=False)
class Slot:
    """Some places in a row, and what stands in them."""

    adapter: int  # whose computation it is; 0 = the base model's
    start: int  # its first place
    size: int  # places that it may fill
    key: str  # of the conversation; "" = not known
    tokens: list[int] = field(default_factory=list)  # place start + n holds what tokens[: n + 1] were computed to
    busy: bool = True
    released: int = 0  # counts releases of all slots


@dataclass(frozen=True, slots=True)
class Copy:
    """Places to be copied before anything else is computed, in the order in which they were asked for."""

    source: int
    target: int
    count: int


@dataclass(frozen=True, slots=True)
class Seat:
    """A slot that was taken for a request; its `tokens` are those that need no computation."""

    slot: Slot
    copy: Copy | None = None


class SlotTable:
    """The slots of one store of `places` tokens."""

    def __init__(self, places: int) -> None:
        self._ranges = TokenRanges(places)
        self._slots: list[Slot] = []
        self._releases = 0

    @property
    def slots(self) -> tuple[Slot, ...]:
        """All slots, busy and idle."""
        return tuple(self._slots)

    @property
    def free_places(self) -> int:
        """How many places belong to no slot."""
        return self._ranges.free_places

    def known(self, adapter: int, tokens: list[int]) -> int:
        """Return how many tokens at the beginning need no computation now. The last one always does: it says what comes next."""
        return max((common_prefix(slot.tokens, tokens[:-1]) for slot in self._of(adapter)), default=0)

    def take(self, adapter: int, key: str, tokens: list[int], size: int) -> Seat | None:
        """Take a slot of at least `size` places for a request with these tokens; None = there is no room now."""
        best, match = self._best(adapter, key, tokens[:-1])
        if best is not None and _goes_on(best, key, match) and self._resize(best, size):
            return Seat(self._occupy(best, key, match))
        if not self._could_fit(size):
            return None
        start = self._room(size, spare=best)
        if start is None:  # only without what could have been copied
            start, best = self._room(size), None
        if start is None:
            return None
        slot = Slot(adapter, start, size, key)
        self._slots.append(slot)
        return Seat(slot) if best is None else self._copied(best, slot, match)

    def release(self, slot: Slot) -> None:
        """Let a slot be idle: what it holds may be found again."""
        self._releases += 1
        slot.busy, slot.released = False, self._releases
        if not slot.tokens:
            self.drop(slot)

    def drop(self, slot: Slot) -> None:
        """Forget a slot and what it holds."""
        self._slots.remove(slot)
        self._ranges.give(slot.start, slot.size)

    def drop_idle(self, kept_adapters: frozenset[int]) -> None:
        """Forget idle slots of adapters other than these."""
        for slot in [slot for slot in self._slots if not slot.busy and slot.adapter not in kept_adapters]:
            self.drop(slot)

    def _of(self, adapter: int) -> Iterator[Slot]:
        return (slot for slot in self._slots if slot.adapter == adapter)

    def _best(self, adapter: int, key: str, tokens: list[int]) -> tuple[Slot | None, int]:
        """Return the slot with the longest common beginning; among equals an idle one, and the conversation's own."""
        found = [(common_prefix(slot.tokens, tokens), not slot.busy, slot.key == key, slot) for slot in self._of(adapter)]
        match, _, _, slot = max(found, key=lambda each: each[:3], default=(0, False, False, None))
        return (slot, match) if match else (None, 0)

    def _occupy(self, slot: Slot, key: str, match: int) -> Slot:
        del slot.tokens[match:]
        slot.busy, slot.key = True, key
        return slot

    def _copied(self, source: Slot, slot: Slot, match: int) -> Seat:
        """Let `slot` begin with a copy; the source goes where the request would have gone on with it."""
        slot.tokens = source.tokens[:match]
        if _goes_on(source, slot.key, match):
            self.drop(source)
        return Seat(slot, Copy(source.start, slot.start, match))

    def _resize(self, slot: Slot, size: int) -> bool:
        if size > slot.size and not self._ranges.extend(slot.start + slot.size, size - slot.size):
            return False
        slot.size = max(slot.size, size)
        return True

    def _could_fit(self, size: int) -> bool:
        """Tell whether there would be room without any idle slot: nothing is forgotten in vain."""
        busy = sorted((slot.start, slot.start + slot.size) for slot in self._slots if slot.busy)
        borders = [(0, 0), *busy, (self._ranges.size, self._ranges.size)]
        return any(following[0] - before[1] >= size for before, following in pairwise(borders))

    def _room(self, size: int, spare: Slot | None = None) -> int | None:
        """Return the first of `size` places, taken; idle slots but `spare` give way."""
        start = self._ranges.take(size)
        if start is None:
            self._trim_idle()
            start = self._ranges.take(size)
        idle = sorted((slot for slot in self._slots if not slot.busy and slot is not spare), key=lambda slot: slot.released)
        for slot in idle:
            if start is not None:
                break
            self.drop(slot)
            start = self._ranges.take(size)
        return start

    def _trim_idle(self) -> None:
        for slot in self._slots:
            if not slot.busy:
                self._ranges.give(slot.start + len(slot.tokens), slot.size - len(slot.tokens))
                slot.size = len(slot.tokens)


def common_prefix(one: list[int], other: list[int]) -> int:
    """Return how many tokens two sequences have in common at their beginning. Slices are compared, which is fast."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while low < high - 1:  # the first `low` are equal, the first `high` are not
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low


def _goes_on(slot: Slot, key: str, match: int) -> bool:
    """Tell whether a request goes on with a slot as it is, giving up what stands behind the common beginning."""
    return not slot.busy and (slot.key == key != "" or 2 * match >= len(slot.tokens))
