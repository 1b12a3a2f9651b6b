"""Fair queueing, as a pure data structure."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue.engine.fair_queue import Entry, FairQueue

KEYS = ("a", "b", "c")
waiting = st.lists(st.tuples(st.sampled_from(KEYS), st.integers(1, 900)), min_size=1, max_size=60)


def served_unfairly(entries: list[tuple[str, int]], *, by_key: bool) -> bool:
    """Tell whether, while two keys both waited, one was ever served more than an entry of each ahead of the other."""
    queue: FairQueue[str] = FairQueue()
    for key, cost in entries:
        queue.push(key if by_key else "", cost, key)
    largest: dict[str, int] = {key: max((cost for owner, cost in entries if owner == key), default=0) for key in KEYS}
    served: dict[str, int] = dict.fromkeys(KEYS, 0)
    while queue:
        backlogged = {entry.item for entry in queue.order()}
        for a, b in combinations(sorted(backlogged), 2):
            if abs(served[a] - served[b]) > largest[a] + largest[b]:
                return True
        entry = queue.pop()
        served[entry.item] += entry.cost
    return False


@given(waiting)
def test_fair_while_all_wait(entries: list[tuple[str, int]]) -> None:
    """Between keys that both wait, the served tokens differ by at most one entry of each."""
    assert not served_unfairly(entries, by_key=True)


def test_first_in_first_out_would_not_be_fair() -> None:
    """The measure above catches a queue that ignores whose the entries are."""
    assert served_unfairly([("a", 100)] * 10 + [("b", 100)] * 10, by_key=False)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.sampled_from(KEYS), st.integers(0, 900)),
        st.tuples(st.just("pop"), st.just(""), st.just(0)),
        st.tuples(st.just("remove"), st.just(""), st.integers(0, 50)),
    ),
    max_size=80,
)


@given(steps)
def test_nothing_is_lost_or_reordered(actions: list[tuple[str, str, int]]) -> None:
    """Whatever comes and goes, every entry is served once or removed, in order within its key, and the books are right."""
    queue: FairQueue[int] = FairQueue()
    inside: dict[int, Entry[int]] = {}
    served: list[Entry[int]] = []
    for count, (action, key, number) in enumerate(actions):
        if action == "push":
            inside[count] = queue.push(key, number, count)
        elif action == "pop" and inside:
            expected = queue.order()[0].item
            served.append(queue.pop())
            assert served[-1].item == expected
            del inside[expected]
        elif action == "remove" and inside:
            chosen = list(inside)[number % len(inside)]
            queue.remove(inside.pop(chosen))
        assert sorted(inside) == sorted(entry.item for entry in queue.order())
        assert queue.tokens == sum(entry.cost for entry in inside.values())
    served += [queue.pop() for _ in range(len(queue))]
    for key in KEYS:
        mine = [entry.item for entry in served if entry.key == key]
        assert mine == sorted(mine)


def test_a_newcomer_overtakes_a_hoarder() -> None:
    """Who comes for the first time waits for one entry of the others at most."""
    queue: FairQueue[str] = FairQueue()
    for number in range(20):
        queue.push("hoarder", 100, f"hoarder {number}")
    queue.pop()
    entry = queue.push("newcomer", 300, "newcomer")
    assert queue.order()[0] == entry


def test_idle_time_earns_nothing() -> None:
    """A key that was away for long gets its share from now on, not what it did not use."""
    queue: FairQueue[str] = FairQueue()
    queue.push("away", 1, "away")
    for _ in range(50):
        queue.push("busy", 100, "busy")
    for _ in range(41):
        queue.pop()
    for _ in range(10):
        queue.push("away", 100, "away")
    assert [queue.pop().item for _ in range(4)].count("away") == 2


def test_removal_pays_back() -> None:
    """Who gives up a long request does not pay for it with the next one."""
    queue: FairQueue[str] = FairQueue()
    long = queue.push("a", 8000, "long")
    queue.push("a", 10, "short")
    queue.push("b", 10, "b")
    queue.remove(long)
    queue.remove(long)
    assert queue.order()[0].item == "short"


def test_heaviest_and_newest() -> None:
    """The key with the most waiting tokens, and what came last of it."""
    queue: FairQueue[str] = FairQueue()
    for key, cost, item in [("a", 10, "a1"), ("b", 7, "b1"), ("b", 7, "b2"), ("a", 1, "a2")]:
        queue.push(key, cost, item)
    assert queue.heaviest_key() == "b"
    assert queue.newest("b").item == "b2"
    assert queue.tokens_of("a") == 11
    assert queue.tokens_before("c") == 10 + 7


def test_empty() -> None:
    """Nothing can be served from an empty queue."""
    with pytest.raises(IndexError):
        FairQueue().pop()


def test_strangers_leave_nothing_behind() -> None:
    """Keys that came once are forgotten when they have paid, and all of them when the engine is idle."""
    queue: FairQueue[int] = FairQueue()
    for number in range(1000):
        queue.push("regular", 10, number)
        queue.push("regular", 10, number)
        queue.push(f"stranger {number}", 1, number)
        queue.pop()
        queue.pop()
    assert len(queue._paid_until) < 200
    queue.settle()
    assert not queue._paid_until
