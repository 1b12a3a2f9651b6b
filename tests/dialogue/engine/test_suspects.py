"""Which request killed the engine."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from dialogue.engine.suspects import FATAL_DEATHS, REMEMBERED, Suspects


class Naive(Suspects):
    """The planted fault: suspects are tried again beside the others."""

    def must_run_alone(self, request_id: str) -> bool:
        return False


def condemned_after(suspects: Suspects, guilty: list[bool], slots: int, choices: list[int]) -> set[int]:
    """Play a supervisor: requests in order, as many at once as there are slots, a suspect alone. Return who was condemned.

    Of those that run, `choices` picks whose moment comes: a guilty one kills the engine, an innocent one finishes. What
    was killed goes to the end of the queue, unless it is condemned.
    """
    queue = deque(range(len(guilty)))
    running: list[int] = []
    condemned: set[int] = set()
    picks = iter(choices * (2 + 3 * len(guilty)))
    while queue or running:
        while queue and len(running) < slots and not any(suspects.must_run_alone(str(each)) for each in running):
            if running and suspects.must_run_alone(str(queue[0])):
                break
            running.append(queue.popleft())
        acting = running[next(picks) % len(running)]
        if not guilty[acting]:
            suspects.finished(str(acting))
            running.remove(acting)
            continue
        suspects.died(map(str, running))
        for each in running:
            if suspects.is_condemned(str(each)):
                condemned.add(each)
            else:
                queue.append(each)
        running.clear()
    return condemned


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(1, 5), st.lists(st.integers(0, 99), min_size=1, max_size=40))
def test_the_guilty_and_nobody_else(guilty: list[bool], slots: int, choices: list[int]) -> None:
    """However they run beside one another, exactly the requests that kill the engine are condemned."""
    assert condemned_after(Suspects(), guilty, slots, choices) == {number for number, is_guilty in enumerate(guilty) if is_guilty}


def test_without_solitude_the_innocent_suffer() -> None:
    """The play above notices when suspects are tried again beside one another."""
    assert condemned_after(Naive(), [False, True], 2, [1]) == {0, 1}


def test_finishing_clears() -> None:
    """A suspect that finishes begins anew."""
    suspects = Suspects()
    suspects.died(["a"])
    assert suspects.must_run_alone("a")
    suspects.finished("a")
    assert not suspects.must_run_alone("a")
    suspects.died(["a"])
    assert not suspects.is_condemned("a")


def test_memory_is_bounded() -> None:
    """Suspects that never come back are forgotten, the oldest first; the condemned ones as well."""
    suspects = Suspects()
    for _ in range(FATAL_DEATHS):
        suspects.died(["old"])
    suspects.died(f"{number}" for number in range(REMEMBERED))
    assert not suspects.is_condemned("old")
    assert suspects.must_run_alone("0")
