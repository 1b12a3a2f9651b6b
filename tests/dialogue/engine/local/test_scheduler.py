"""The scheduler and its slots, over a store that remembers what each place was computed from."""

import random
from collections.abc import Mapping
from collections.abc import Sequence as Values
from itertools import pairwise, takewhile

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from dialogue.engine.local.scheduler import EASE_AFTER, UNREAD, Bounds, Scheduler, Sequence, Step
from dialogue.engine.local.slot_table import Slot, SlotTable, common_prefix
from dialogue.engine.local.token_ranges import TokenRanges
from tests.sizes import record_proof, size

PLACES = 60
Origin = tuple[int, tuple[int, ...]]  # an adapter, and the tokens up to the one at the place


class Memory:
    """A store that keeps in each place what its keys and values would depend on, and checks what a step looks at."""

    def __init__(self, places: int = PLACES) -> None:
        self.places: list[Origin | None] = [None] * places

    def compute(self, step: Step, truth: Mapping[Sequence, list[int]] | None = None) -> None:
        """Compute a step. `truth` holds the tokens as the device knows them, those included that nobody has read."""
        known = truth if truth is not None else {chunk.sequence: chunk.sequence.tokens for chunk in step.chunks}
        for copy in step.copies:
            self.places[copy.target : copy.target + copy.count] = self.places[copy.source : copy.source + copy.count]
        for chunk in step.chunks:
            for position in range(chunk.start, chunk.start + chunk.count):
                self.places[chunk.slot.start + position] = (chunk.sequence.adapter, tuple(known[chunk.sequence][: position + 1]))
        for chunk in step.chunks:  # all of them see the store as the step leaves it
            self.check(chunk.slot, chunk.sequence.adapter, known[chunk.sequence][: chunk.start + chunk.count])
            assert chunk.start + chunk.count <= chunk.slot.size

    def check(self, slot: Slot, adapter: int, tokens: Values[int]) -> None:
        """Check that the beginning of a slot was computed by this adapter from these tokens, as far as they are read."""
        tokens = list(takewhile(lambda token: token != UNREAD, tokens))
        held = self.places[slot.start : slot.start + len(tokens)]
        assert held == [(adapter, tuple(tokens[: position + 1])) for position in range(len(tokens))]


class Run:
    """A scheduler at work on random requests."""

    def __init__(self, seed: int, *, tokens: int = 7, sequences: int = 3, overlaps: bool = False) -> None:
        """`overlaps` = a step is launched before the tokens of the one before are read, as on a GPU."""
        self.random = random.Random(seed)
        self.memory = Memory()
        self.scheduler = Scheduler(SlotTable(PLACES), Bounds(tokens, sequences))
        self.ended = 0
        self.truth: dict[Sequence, list[int]] = {}
        self.unread: list[tuple[Sequence, int]] = []
        self.overlaps = overlaps

    def submit(self) -> Sequence:
        """Add a request; tokens are few, so that many begin alike."""
        prompt = [self.random.choice((1, 1, 1, 2)) for _ in range(self.random.randint(1, 30))]
        sequence = Sequence(
            prompt, self.random.randrange(3), self.random.choice(("", "a", "b")), room=len(prompt) + self.random.randint(1, 12)
        )
        self.truth[sequence] = list(prompt)
        self.scheduler.submit(sequence)
        return sequence

    def step(self) -> Step:
        """Compute a step, sometimes in vain for want of memory."""
        self.scheduler.drop_cancelled()
        bounds = self.scheduler.bounds
        step = self.scheduler.plan()
        assert step.token_count <= bounds.tokens
        assert len(self.scheduler.running) <= bounds.sequences
        self.memory.compute(step, self.truth)
        self.check()
        if step.chunks and bounds.tokens > 1 and self.random.random() < 0.05:
            self.read()
            self.scheduler.put_back(step)
            return step
        self.scheduler.commit(step)
        launched = [self.choose(chunk.sequence) for chunk in step.chunks if chunk.samples]
        if self.overlaps:
            self.read()
        self.unread = launched
        if not self.overlaps:
            self.read()
        self.check()
        return step

    def choose(self, sequence: Sequence) -> tuple[Sequence, int]:
        """Let the device choose what follows."""
        token = self.random.choice((1, 2))
        self.truth[sequence].append(token)
        sequence.expect()
        return sequence, token

    def read(self) -> None:
        """Take note of what the device has chosen; some replies end with it before their room is full."""
        for sequence, token in self.unread:
            if sequence in self.scheduler.running:
                sequence.learn(token)
                if len(sequence.tokens) - sequence.unread == sequence.room or self.random.random() < 0.1:
                    self.scheduler.end(sequence)
                    self.ended += 1
        self.unread = []

    def check(self) -> None:
        """Check that slots hold what they say, share no place, and that those of nobody are free."""
        slots = sorted(self.scheduler.table.slots, key=lambda slot: slot.start)
        for slot in slots:
            self.memory.check(slot, slot.adapter, slot.tokens)
            assert len(slot.tokens) <= slot.size
        for one, other in pairwise(slots):
            assert one.start + one.size <= other.start
        assert self.scheduler.table.free_places == PLACES - sum(slot.size for slot in slots)
        assert {id(sequence.slot) for sequence in self.scheduler.running} == {id(slot) for slot in slots if slot.busy}


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 4), st.booleans())
@settings(max_examples=size("scheduler_runs", small=60, proof=2000), deadline=None)
def test_nobody_sees_what_another_computed(seed: int, tokens: int, sequences: int, overlaps: bool) -> None:
    """Whatever comes, goes, is copied, thrown away or put back: a token sees its own tokens under its own adapter, and nothing else."""
    run = Run(seed, tokens=tokens, sequences=sequences, overlaps=overlaps)
    for _ in range(40):
        if run.random.random() < 0.5:
            run.submit()
        run.step()


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 4), st.booleans())
@settings(max_examples=size("scheduler_ends", small=40, proof=1000), deadline=None)
def test_nobody_starves(seed: int, tokens: int, sequences: int, overlaps: bool) -> None:
    """Every request that was submitted comes to its end, and whoever generates gets a token at each step."""
    run = Run(seed, tokens=tokens, sequences=sequences, overlaps=overlaps)
    for _ in range(12):
        run.submit()
    while not run.scheduler.idle:
        generating = [sequence for sequence in run.scheduler.running if sequence.pending == 1 and not sequence.is_full]
        waits = any(sequence.is_full for sequence in run.scheduler.running)
        step = run.step()
        assert step.chunks or waits, "there is something to do, and nothing is done"
        assert set(generating) <= {chunk.sequence for chunk in step.chunks}
    assert run.ended == 12


@pytest.mark.parametrize("overlaps", [False, True])
def test_cancelled_requests_leave_nothing_behind(overlaps: bool) -> None:
    """Requests that are cancelled at any moment leave no busy slot, no place taken and no other request disturbed."""
    count, seed = size("random_cancels", small=1000, proof=20_000), 11
    run = Run(seed, overlaps=overlaps)
    cancelled = 0
    while cancelled < count:
        alive = [*run.scheduler.running, *run.scheduler.waiting]
        if len(alive) < 8:
            run.submit()
        elif run.random.random() < 0.7:
            run.random.choice(alive).cancelled = True
            cancelled += 1
        run.step()
    for sequence in (*run.scheduler.running, *run.scheduler.waiting):
        sequence.cancelled = True
    run.step()
    assert run.scheduler.idle
    run.scheduler.table.drop_idle(frozenset())
    assert run.scheduler.table.free_places == PLACES
    record_proof("random_cancels", seed=seed, size=count, result="no slot left behind")


def test_a_long_prompt_stalls_nobody() -> None:
    """While a long prompt is read in pieces, others get a token at each step and a short one begins at the next."""
    scheduler = Scheduler(SlotTable(400), Bounds(tokens=10, sequences=4))
    talking, reading, short = Sequence([1], room=50), Sequence(list(range(2, 102)), room=120), Sequence([7, 8], room=20)
    scheduler.submit(talking)
    scheduler.submit(reading)
    scheduler.commit(scheduler.plan())
    talking.tokens.append(5)
    scheduler.submit(short)
    for _ in range(5):
        step = scheduler.plan()
        assert talking in {chunk.sequence for chunk in step.chunks}
        assert step.token_count == 10
        scheduler.commit(step)
        talking.tokens.append(5)


def test_a_common_beginning_is_computed_once() -> None:
    """Of requests that come at the same time and begin alike the first computes the beginning, the others copy it."""
    scheduler, memory = Scheduler(SlotTable(400), Bounds(tokens=64, sequences=8)), Memory(400)
    system = list(range(40))
    sequences = [Sequence([*system, 100 + number, 7], room=60) for number in range(4)]
    for sequence in sequences:
        scheduler.submit(sequence)
    steps = [scheduler.plan()]
    while steps[-1].chunks and len(steps) < 10:
        memory.compute(steps[-1])
        scheduler.commit(steps[-1])
        steps.append(scheduler.plan())
    assert [sequence.cached for sequence in sequences] == [0, 40, 40, 40]
    assert sum(step.token_count for step in steps) == 42 + 3 * 2


def test_a_conversation_goes_on_in_its_place() -> None:
    """The next turn of a conversation computes what is new, copies nothing and keeps its slot."""
    scheduler, memory = Scheduler(SlotTable(400), Bounds(tokens=64, sequences=2)), Memory(400)
    first = Sequence(list(range(30)), key="talk", room=40)
    drain(scheduler, memory, first)
    second = Sequence([*range(30), 50, 51], key="talk", room=60)
    steps = drain(scheduler, memory, second)
    assert (second.cached, steps[0].token_count, steps[0].copies) == (30, 2, ())
    assert len(scheduler.table.slots) == 1


def test_another_conversation_keeps_what_it_had() -> None:
    """A conversation that shares only the system prompt with an idle one copies it; the idle one stays whole."""
    scheduler, memory = Scheduler(SlotTable(400), Bounds(tokens=200, sequences=2)), Memory(400)
    drain(scheduler, memory, Sequence([*range(20), *range(100, 160)], key="one", room=90))
    other = Sequence([*range(20), 7, 7], key="two", room=40)
    drain(scheduler, memory, other)
    again = Sequence([*range(20), *range(100, 160), 5], key="one", room=90)
    drain(scheduler, memory, again)
    assert (other.cached, again.cached) == (20, 80)


def test_another_adapter_finds_nothing() -> None:
    """The same tokens under another adapter are computed anew."""
    scheduler, memory = Scheduler(SlotTable(400), Bounds(tokens=64, sequences=2)), Memory(400)
    drain(scheduler, memory, Sequence(list(range(30)), adapter=1, key="talk", room=40))
    other = Sequence(list(range(30)), adapter=2, key="talk", room=40)
    drain(scheduler, memory, other)
    assert other.cached == 0


def test_the_longest_idle_gives_way() -> None:
    """When room is needed, first the reserve of idle slots goes, then the slot that was idle the longest."""
    scheduler, memory = Scheduler(SlotTable(100), Bounds(tokens=64, sequences=2)), Memory(100)
    for number in range(3):
        drain(scheduler, memory, Sequence([number] * 20, key=str(number), room=30))
    drain(scheduler, memory, Sequence([3] * 20, key="3", room=20))
    assert [scheduler.table.known(0, [number] * 20) for number in range(4)] == [19, 19, 19, 19]
    drain(scheduler, memory, Sequence([4] * 20, key="4", room=25))
    assert [scheduler.table.known(0, [number] * 20) for number in range(5)] == [0, 19, 19, 19, 19]


def test_what_cannot_fit_costs_nobody_anything() -> None:
    """A request that has to wait for running ones throws no idle slot away."""
    table = SlotTable(100)
    idle = table.take(0, "", [1] * 20, 20)
    assert idle is not None
    idle.slot.tokens = [1] * 20
    table.release(idle.slot)
    assert table.take(0, "", [2] * 60, 60) is not None
    assert table.take(0, "", [3] * 60, 60) is None
    assert table.known(0, [1] * 20) == 19


def test_less_is_dared_after_memory_ran_out_and_more_after_a_while() -> None:
    """Each failure halves the step down to one token of one request; a long calm doubles it again."""
    bounds = Bounds(tokens=16, sequences=8)
    assert [(bounds.shrink(tokens), bounds.tokens, bounds.sequences) for tokens in (16, 8, 4, 2, 1)] == [
        (True, 8, 8), (True, 4, 4), (True, 2, 2), (True, 1, 1), (False, 1, 1),
    ]  # fmt: skip
    for _ in range(10 * EASE_AFTER):
        bounds.note_success()
    assert (bounds.tokens, bounds.sequences) == (16, 8)


@given(st.lists(st.integers(1, 2), max_size=40), st.lists(st.integers(1, 2), max_size=40))
def test_common_prefix(one: list[int], other: list[int]) -> None:
    """It is the number of places from the beginning where both have the same."""
    expected = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    assert common_prefix(one, other) == common_prefix(other, one) == expected


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9)), max_size=60), st.integers(1, 40))
def test_ranges_never_overlap(orders: list[tuple[bool, int]], places: int) -> None:
    """What is taken is taken once, what is given back can be taken as a whole again."""
    ranges, held = TokenRanges(places), list[tuple[int, int]]()
    for takes, count in orders:
        if takes and (start := ranges.take(count)) is not None:
            held.append((start, count))
        elif held:
            ranges.give(*held.pop(count % len(held)))
        taken = [place for start, length in held for place in range(start, start + length)]
        assert len(set(taken)) == len(taken) == places - ranges.free_places
    for start, count in held:
        ranges.give(start, count)
    assert ranges.take(places) == 0


def test_ranges_extend_into_free_places_alone() -> None:
    """A stretch grows where nobody is behind it."""
    ranges = TokenRanges(10)
    assert ranges.take(4) == 0
    assert ranges.extend(4, 3)
    assert ranges.take(2) == 7
    assert not ranges.extend(7, 1)
    assert not ranges.extend(9, 2)
    assert ranges.extend(9, 1)
    assert ranges.free_places == 0


def drain(scheduler: Scheduler, memory: Memory, sequence: Sequence) -> list[Step]:
    """Let a sequence's prompt be read to its end, then end it; return the steps."""
    scheduler.submit(sequence)
    steps: list[Step] = []
    while not scheduler.idle:
        step = scheduler.plan()
        assert step.chunks
        memory.compute(step)
        scheduler.commit(step)
        steps.append(step)
        for chunk in step.chunks:
            if chunk.samples:
                scheduler.end(chunk.sequence)
    return steps
