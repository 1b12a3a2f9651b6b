"""The limiter: rates, pauses, turns and memory, in virtual time."""

import asyncio
from collections.abc import Coroutine
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.ratelimit import SHORTEST_SLEEP_S, Priority, RateLimiter, Rates
from tests.virtual_time import run_virtually

UNLIMITED = Rates(0, 0, 0, 0)


def limiter(rates: Rates) -> RateLimiter:
    """A limiter on the clock of the running loop."""
    return RateLimiter(rates, clock=asyncio.get_running_loop().time)


class Log:
    """Notes when calls begin and end."""

    def __init__(self, subject: RateLimiter) -> None:
        self.subject = subject
        self.begun: list[tuple[float, str, Priority]] = []
        self.running: set[str] = set()

    async def call(
        self, chat: str = "1", *, at: float = 0.0, lasts: float = 0.0, priority: Priority = Priority.FINAL, is_group: bool = False
    ) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(at)
        async with self.subject.slot(chat, is_group=is_group, priority=priority):
            assert chat not in self.running
            self.running.add(chat)
            self.begun.append((loop.time(), chat, priority))
            await asyncio.sleep(lasts)
            self.running.remove(chat)

    def times(self, chat: str | None = None) -> list[float]:
        return [at for at, where, _ in self.begun if chat in {None, where}]


async def all_of(*calls: Coroutine[Any, Any, None]) -> None:
    await asyncio.gather(*calls)


def most_in_any(times: list[float], window_s: float) -> int:
    """Return how many calls began in the busiest stretch of less than `window_s`."""
    ordered = sorted(times)
    return max((sum(1 for at in ordered if start <= at < start + window_s - 1e-6) for start in ordered), default=0)


ARRIVALS = st.lists(
    st.tuples(
        st.sampled_from(["1", "2", "-3"]),
        st.floats(0, 20),
        st.floats(0, 2),
        st.sampled_from(list(Priority)),
    ),
    max_size=60,
)


@given(ARRIVALS, st.integers(1, 4), st.integers(1, 8), st.sampled_from([0.5, 2.0, 5.0]))
def test_rates_are_never_exceeded(arrivals: list[tuple[str, float, float, Priority]], burst: int, per_minute: int, overall: float) -> None:
    """Whatever arrives, no stretch of time holds more calls than the rates allow, no chat two at once, and every call is made."""

    async def scenario() -> Log:
        log = Log(limiter(Rates(1.0, burst, per_minute, overall)))
        await all_of(*(log.call(chat, at=at, lasts=lasts, priority=how, is_group=chat < "0") for chat, at, lasts, how in arrivals))
        return log

    log = run_virtually(scenario())
    assert len(log.begun) == len(arrivals)
    assert most_in_any(log.times("-3"), 60) <= per_minute
    # A call begins up to a tick of the clock behind its place, so two of them can be that much closer.
    assert most_in_any(log.times(), max(1.0, 1 / overall) - 2 * SHORTEST_SLEEP_S) <= max(1, int(overall))
    for chat in ("1", "2", "-3"):
        for window_s in (0.5, 1.0, 3.0, 10.0):
            assert most_in_any(log.times(chat), window_s) <= burst + window_s


def test_nothing_runs_inside_a_pause() -> None:
    """A pause holds back calls that come later and calls that wait already, in this chat alone."""

    async def scenario() -> tuple[list[float], list[float]]:
        subject = limiter(Rates(1.0, 1, 0, 0))
        log = Log(subject)

        async def refused() -> None:
            async with subject.slot("1"):
                await asyncio.sleep(0.5)
                subject.pause("1", 600)
                assert subject.paused_s("1") == 600

        later = [log.call("1", at=at) for at in (0.1, 0.2, 30.0, 599.0)]
        await all_of(refused(), *later, log.call("2", at=1.0))
        return log.times("1"), log.times("2")

    paused, other = run_virtually(scenario())
    assert min(paused) >= 600.5
    assert len(paused) == 4
    assert other == [1.0]


def test_a_pause_reaches_a_call_that_sleeps_already() -> None:
    """A call that waits for its rate when the pause begins does not go at the time it had reckoned with."""

    async def scenario() -> list[float]:
        subject = limiter(Rates(1.0, 1, 0, 0))
        log = Log(subject)
        await log.call()
        waiting = asyncio.create_task(log.call())
        await asyncio.sleep(0.5)
        subject.pause("1", 10)
        await waiting
        return log.times()

    assert run_virtually(scenario()) == [0.0, pytest.approx(10.5)]


def test_pauses_that_end_together_let_no_flood_through() -> None:
    """Calls whose turn passed during a pause book a new one: the rate of the whole bot holds afterwards too."""

    async def scenario() -> list[float]:
        subject = limiter(Rates(0, 0, 0, 1.0))
        log = Log(subject)
        calls = [asyncio.create_task(log.call(str(number))) for number in range(5)]
        await asyncio.sleep(0.5)
        for number in range(5):
            subject.pause(str(number), 100)
        await asyncio.gather(*calls)
        return log.times()

    assert run_virtually(scenario()) == pytest.approx([0.0, 100.5, 101.5, 102.5, 103.5])


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    """Of two pauses the one that ends later holds."""

    async def scenario() -> float:
        subject = limiter(UNLIMITED)
        subject.pause("1", 60)
        subject.pause("1", 1)
        return subject.paused_s("1")

    assert run_virtually(scenario()) == 60


def test_a_busy_chat_does_not_delay_another() -> None:
    """While a hundred calls wait in one chat, a call in another goes at once."""

    async def scenario() -> list[float]:
        log = Log(limiter(Rates()))
        await all_of(*(log.call("1") for _ in range(100)), log.call("2", at=5.0))
        return log.times("2")

    assert run_virtually(scenario()) == [5.0]


def test_final_answers_go_before_previews() -> None:
    """A final answer overtakes the previews that wait in its chat, also one that is first in line."""

    async def scenario() -> list[Priority]:
        log = Log(limiter(Rates(1.0, 1, 0, 0)))
        previews = (log.call(at=0.1, priority=Priority.PREVIEW) for _ in range(3))
        await all_of(log.call(), *previews, log.call(at=0.5), log.call(at=0.6))
        return [priority for _, _, priority in log.begun]

    final, preview = Priority.FINAL, Priority.PREVIEW
    assert run_virtually(scenario()) == [final, final, final, preview, preview, preview]


def test_final_answers_of_all_chats_go_before_previews() -> None:
    """When the whole bot is at its limit, a preview that waits yields to the final answers of other chats."""

    async def scenario() -> list[str]:
        log = Log(limiter(Rates(0, 0, 0, 1.0)))
        preview = log.call("preview", at=0.1, priority=Priority.PREVIEW)
        await all_of(log.call("0"), preview, *(log.call(str(number), at=0.2) for number in range(1, 4)))
        return [chat for _, chat, _ in log.begun]

    assert run_virtually(scenario())[-1] == "preview"


def test_previews_leave_room_for_a_final_answer() -> None:
    """However many previews a chat gets, a placeholder and its edit then go at once."""

    async def scenario() -> list[float]:
        subject = limiter(Rates())
        log = Log(subject)
        while asyncio.get_running_loop().time() < 10.05:
            if subject.has_room("1"):
                await log.call(priority=Priority.PREVIEW)
            await asyncio.sleep(0.1)
        started = asyncio.get_running_loop().time()
        log.begun.clear()
        await log.call()
        await log.call()
        return [at - started for at in log.times()]

    assert run_virtually(scenario()) == [0.0, 0.0]


def test_there_is_no_room_where_a_call_runs_waits_or_pauses() -> None:
    """`has_room` says no exactly where a preview would have to wait."""

    async def scenario() -> None:
        subject = limiter(Rates(1.0, 3, 0, 0))
        assert subject.has_room("1")
        async with subject.slot("1"):
            assert not subject.has_room("1")
            assert subject.has_room("2")
        assert not subject.has_room("1")  # two calls are kept for a final answer
        assert subject.has_room("1", priority=Priority.FINAL)
        await asyncio.sleep(1)
        assert subject.has_room("1")
        subject.pause("1", 5)
        assert not subject.has_room("1", priority=Priority.FINAL)

    run_virtually(scenario())


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5), st.sampled_from(list(Priority))), max_size=20))
def test_cancelled_calls_leave_nothing_behind(calls: list[tuple[float, float, Priority]]) -> None:
    """Whenever calls are cancelled, waiting or running, the chat goes on and is forgotten in the end."""

    async def scenario() -> int:
        subject = limiter(Rates(1.0, 1, 20, 2.0))
        log = Log(subject)

        async def cut_short(at: float, after: float, priority: Priority) -> None:
            task = asyncio.create_task(_hold(subject, at, priority))
            await asyncio.sleep(after)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        await all_of(*(cut_short(*call) for call in calls))
        await log.call(at=100.0)
        assert log.begun[0][0] < 101 + 100
        await asyncio.sleep(100)
        subject.lane("other")
        return len(subject)

    assert run_virtually(scenario()) == 1


async def _hold(subject: RateLimiter, at: float, priority: Priority) -> None:
    await asyncio.sleep(at)
    async with subject.slot("1", is_group=True, priority=priority):
        await asyncio.sleep(1.5)


def test_calls_that_wait_go_on_when_the_first_in_line_is_cancelled() -> None:
    """The call behind a cancelled one takes its place."""

    async def scenario() -> list[float]:
        log = Log(limiter(Rates(1.0, 1, 0, 0)))
        await log.call()
        first = asyncio.create_task(log.call())
        second = asyncio.create_task(log.call())
        await asyncio.sleep(0.5)
        first.cancel()
        await second
        return log.times()

    assert run_virtually(scenario()) == [0.0, pytest.approx(1.0)]


def test_silent_chats_are_forgotten() -> None:
    """Of a hundred thousand chats, each with one call, only those of the last seconds are remembered."""

    async def scenario() -> int:
        subject = limiter(Rates(overall_s=0))
        most = 0
        for number in range(100_000):
            async with subject.slot(str(number)):
                pass
            most = max(most, len(subject))
            if number % 100 == 0:
                await asyncio.sleep(0.1)
        return most

    assert run_virtually(scenario()) < 5_000


def test_without_limits_nothing_is_remembered() -> None:
    """With all rates at 0 a chat is forgotten as soon as its call ends, and calls in it still do not run side by side."""

    async def scenario() -> list[float]:
        subject = limiter(UNLIMITED)
        log = Log(subject)
        await all_of(*(log.call(lasts=1.0) for _ in range(4)))
        assert len(subject) == 0
        return log.times()

    times = run_virtually(scenario())
    assert [later - earlier for earlier, later in pairwise(times)] == [1.0, 1.0, 1.0]
