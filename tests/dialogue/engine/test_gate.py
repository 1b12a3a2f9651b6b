"""The gate before the child: never more inside than it is wide, strictly in order."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from dialogue.engine.gate import Gate
from tests.virtual_time import run_virtually

WIDTH = 3
visitors = st.lists(
    st.tuples(
        st.floats(0, 5),  # comes
        st.sampled_from([1, 1, 1, WIDTH]),
        st.floats(0.1, 5),  # stays
        st.one_of(st.none(), st.floats(0, 5)),  # gives up after
    ),
    max_size=25,
)


@given(visitors)
def test_never_too_many_and_in_order(plan: list[tuple[float, int, float, float | None]]) -> None:
    """Whoever comes, stays and gives up: the width is kept, who waits enters in the order of coming, and all leave."""

    async def play() -> None:
        gate = Gate(WIDTH)
        inside: list[int] = []
        came: list[int] = []
        entered: list[tuple[float, int]] = []  # who is let in and who just walks in at the same instant may get going in any order

        async def visit(name: int, comes: float, width: int, stays: float) -> None:
            await asyncio.sleep(comes)
            came.append(name)
            try:
                await gate.enter(width)
            except asyncio.CancelledError:
                came.remove(name)
                raise
            entered.append((asyncio.get_running_loop().time(), name))
            inside.append(width)
            try:
                assert sum(inside) <= WIDTH
                assert len(inside) <= gate.inside <= WIDTH
                await asyncio.sleep(stays)
            finally:
                inside.remove(width)
                gate.leave(width)

        tasks = [asyncio.create_task(visit(name, comes, width, stays)) for name, (comes, width, stays, _) in enumerate(plan)]
        for task, (comes, _, _, patience) in zip(tasks, plan, strict=True):
            if patience is not None:
                asyncio.get_running_loop().call_later(comes + patience, task.cancel)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
        assert [name for _, name in sorted(entered, key=lambda at: (at[0], came.index(at[1])))] == [
            name for name in came if name in {name for _, name in entered}
        ]
        assert (gate.inside, gate.waiting) == (0, 0)
        await gate.enter(WIDTH)

    run_virtually(play())


def test_cancelled_in_the_moment_of_entering() -> None:
    """Who is let in and cancelled in the same moment leaves the place to the next one."""

    async def play() -> None:
        gate = Gate(1)
        await gate.enter(1)
        first, second = asyncio.create_task(gate.enter(1)), asyncio.create_task(gate.enter(1))
        await asyncio.sleep(0)
        gate.leave(1)
        first.cancel()
        await second
        assert gate.inside == 1

    run_virtually(play())
