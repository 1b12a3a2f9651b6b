"""Admission: bounded by count, tokens and deadline, fair between users, and told to those who wait."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from dialogue.engine.admission import AdmissionLimits, AdmittedEngine, ServiceRate
from dialogue.engine.base import GenerationEvent, GenerationFinished, GenerationRequest, QueuePosition, SamplingParams, TextDelta
from dialogue.engine.scripted import Fault, FaultKind, ScriptedEngine
from dialogue.errors import DeadlineExceeded, EngineOverloaded, EngineUnavailable
from tests.sizes import record_proof, size
from tests.virtual_time import run_virtually

TOKEN_S = 0.1  # of virtual time


def request(name: str, tokens: int = 10, *, key: str = "", deadline_s: float = 1000) -> GenerationRequest:
    """A request that takes `tokens` * TOKEN_S and costs 2 * `tokens`."""
    sampling = SamplingParams(max_tokens=tokens, ignore_eos=True)
    return GenerationRequest(name, tuple(range(tokens)), sampling, fair_key=key or name, deadline_s=deadline_s)


class Scene:
    """An admitted engine in virtual time, and what became of the requests."""

    def __init__(self, limits: AdmissionLimits | None = None, **scripted: Any) -> None:
        clock = asyncio.get_running_loop().time
        arguments: dict[str, Any] = {"slots": 1, "token_delay_s": TOKEN_S, "context_tokens": 100_000, "clock": clock, **scripted}
        self.engine = AdmittedEngine(ScriptedEngine("abcd", **arguments), limits, clock=clock)
        self.clock: Callable[[], float] = clock
        self.events: dict[str, list[GenerationEvent]] = {}
        self.order: list[str] = []  # names in the order of their first text
        self.tasks: list[asyncio.Task[Any]] = []

    async def submit(self, wanted: GenerationRequest) -> "asyncio.Task[str]":
        """Start a request, and return when it runs or waits or is refused."""
        task = asyncio.create_task(self.run(wanted))
        self.tasks.append(task)
        await asyncio.sleep(0)
        return task

    async def run(self, wanted: GenerationRequest) -> str:
        events = self.events.setdefault(wanted.request_id, [])
        try:
            async for event in self.engine.generate(wanted):
                if isinstance(event, TextDelta) and not any(isinstance(seen, TextDelta) for seen in events):
                    self.order.append(wanted.request_id)
                events.append(event)
        except (EngineOverloaded, EngineUnavailable, DeadlineExceeded) as error:
            return type(error).__name__
        return "finished"

    def positions(self, name: str) -> list[int]:
        return [event.position for event in self.events[name] if isinstance(event, QueuePosition)]


def test_positions_are_told() -> None:
    """Who waits hears the place at once and whenever it changes; who finds a free slot hears of no queue."""

    async def play() -> None:
        scene = Scene()
        await scene.engine.start()
        for name in ("a", "b", "c", "d"):
            await scene.submit(request(name))
        assert scene.engine.health().running == 1
        assert scene.engine.health().waiting == 3
        await asyncio.gather(*scene.tasks)
        assert [scene.positions(name) for name in ("a", "b", "c", "d")] == [[], [1], [2, 1], [3, 2, 1]]
        assert scene.order == ["a", "b", "c", "d"]
        finished = scene.events["c"][-1]
        assert isinstance(finished, GenerationFinished)
        assert finished.queue_ms == pytest.approx(2000, abs=20)

    run_virtually(play())


def test_a_hoarder_is_overtaken() -> None:
    """Somebody new goes before the second of many requests of somebody else, whose places move back."""

    async def play() -> None:
        scene = Scene()
        await scene.engine.start()
        for number in range(4):
            await scene.submit(request(f"h{number}", key="hoarder"))
        await scene.submit(request("new"))
        await asyncio.gather(*scene.tasks)
        assert scene.order == ["h0", "new", "h1", "h2", "h3"]
        assert scene.positions("h3") == [3, 4, 3, 2, 1]

    run_virtually(play())


def test_waiting_room_is_bounded_by_count() -> None:
    """One more than may wait is refused at once, with a time to come back; nobody else is harmed."""

    async def play() -> None:
        scene = Scene(AdmissionLimits(max_waiting=2))
        await scene.engine.start()
        await scene.submit(request("warm"))
        await asyncio.gather(*scene.tasks)
        for name in ("a", "b", "c"):
            await scene.submit(request(name))
        with pytest.raises(EngineOverloaded) as refused:
            await anext(scene.engine.generate(request("d")))
        assert 1 <= refused.value.retry_after_s <= 3
        assert [await task for task in scene.tasks] == ["finished"] * 4

    run_virtually(play())


def test_waiting_room_is_bounded_by_tokens() -> None:
    """Tokens count as well as heads; but a single request that is larger than the room may wait alone."""

    async def play() -> None:
        scene = Scene(AdmissionLimits(max_queue_tokens=100))
        await scene.engine.start()
        await scene.submit(request("a", 10))
        large = await scene.submit(request("large", 200))
        assert await (await scene.submit(request("b", 200, key="b"))) == "EngineOverloaded"
        small = await scene.submit(request("small", 1))
        assert await large == "EngineOverloaded"
        assert await small == "finished"

    run_virtually(play())


def test_a_full_room_sends_away_the_newest_of_who_has_most() -> None:
    """A hoarder cannot fill the waiting room against the others."""

    async def play() -> None:
        scene = Scene(AdmissionLimits(max_waiting=4))
        await scene.engine.start()
        for number in range(5):
            await scene.submit(request(f"h{number}", key="hoarder"))
        other = await scene.submit(request("other"))
        sixth = await scene.submit(request("h5", key="hoarder"))
        assert await other == "finished"
        assert await sixth == "EngineOverloaded"
        assert [await task for task in scene.tasks[:5]] == ["finished"] * 4 + ["EngineOverloaded"]

    run_virtually(play())


def test_too_late_is_refused_at_once() -> None:
    """Who would start after the deadline hears so before waiting, from what finished requests took."""

    async def play() -> None:
        scene = Scene()
        await scene.engine.start()
        await scene.submit(request("warm", 10))
        await asyncio.gather(*scene.tasks)
        for name in ("a", "b", "c"):
            await scene.submit(request(name, 50, key="same"))
        began = scene.clock()
        stream = scene.engine.generate(request("late", deadline_s=4, key="same"))
        with pytest.raises(EngineOverloaded, match="after its deadline") as refused:
            await anext(stream)
        assert scene.clock() == began
        assert refused.value.retry_after_s == pytest.approx(15 - 4, rel=0.05)
        assert await (await scene.submit(request("in time", deadline_s=17, key="same"))) == "finished"

    run_virtually(play())


def test_deadline_while_waiting() -> None:
    """Who still waits at the deadline gets DeadlineExceeded then, and frees the place."""

    async def play() -> None:
        scene = Scene()
        await scene.engine.start()
        await scene.submit(request("a", 50))
        assert await (await scene.submit(request("b", deadline_s=2))) == "DeadlineExceeded"
        assert scene.clock() == pytest.approx(2, abs=0.01)
        assert scene.engine.health().waiting == 0

    run_virtually(play())


def test_deadline_while_generating() -> None:
    """An answer that is not there at the deadline is given up, and the slot goes to the next one."""

    async def play() -> None:
        scene = Scene()
        await scene.engine.start()
        slow = await scene.submit(request("slow", 500, deadline_s=3))
        await scene.submit(request("next"))
        assert await slow == "DeadlineExceeded"
        assert scene.clock() == pytest.approx(3, abs=0.01)
        assert await scene.tasks[1] == "finished"

    run_virtually(play())


def test_the_deadline_holds_against_an_engine_that_ignores_it() -> None:
    """The inner engine is cancelled at the deadline even if it does not look at the clock."""

    async def play() -> None:
        scene = Scene(clock=lambda: 0.0)
        await scene.engine.start()
        assert await (await scene.submit(request("slow", 500, deadline_s=3))) == "DeadlineExceeded"
        assert scene.engine.health().running == 0

    run_virtually(play())


@pytest.mark.parametrize("when", ["waiting", "admitted", "running"])
def test_cancelling_gives_back_the_place(when: str) -> None:
    """Cancelled while waiting, just as its turn comes, or while it runs: the next one gets the slot."""

    async def play() -> None:
        scene = Scene()
        await scene.engine.start()
        first = await scene.submit(request("first"))
        second = await scene.submit(request("second"))
        third = await scene.submit(request("third"))
        if when == "running":
            first.cancel()
        elif when == "waiting":
            second.cancel()
        else:
            await first
            second.cancel()
        await asyncio.wait(scene.tasks)
        assert await third == "finished"
        health = scene.engine.health()
        assert (health.running, health.waiting) == (0, 0)

    run_virtually(play())


def test_a_consumer_that_stops_reading_at_the_end_holds_nothing() -> None:
    """The slot is free with the last event, even if the generator is never closed."""

    async def play() -> None:
        scene = Scene()
        await scene.engine.start()
        stream = scene.engine.generate(request("a"))
        while not isinstance(await anext(stream), GenerationFinished):
            pass
        assert await (await scene.submit(request("b"))) == "finished"
        await stream.aclose()

    run_virtually(play())


def test_failures_free_the_slot() -> None:
    """An error of the inner engine passes through and frees the slot."""

    async def play() -> None:
        scene = Scene(faults=[Fault(FaultKind.RAISE, request_ids=("bad",))])
        await scene.engine.start()
        assert await (await scene.submit(request("bad"))) == "EngineUnavailable"
        assert await (await scene.submit(request("good"))) == "finished"

    run_virtually(play())


def test_close_sends_everybody_away() -> None:
    """Who runs and who waits gets EngineUnavailable."""

    async def play() -> None:
        scene = Scene()
        await scene.engine.start()
        for name in ("a", "b", "c"):
            await scene.submit(request(name))
        await scene.engine.close()
        assert [await task for task in scene.tasks] == ["EngineUnavailable"] * 3

    run_virtually(play())


def test_service_rate() -> None:
    """The first observation is the estimate, later ones move it by their weight."""
    rate = ServiceRate(weight=0.5)
    assert rate.seconds(100) == 0
    rate.observe(100, 10)
    assert rate.seconds(100) == pytest.approx(10)
    rate.observe(100, 20)
    assert rate.seconds(100) == pytest.approx(15)


SLOTS = 4
MEAN_TOKENS = 6
SLOW_TOKEN_S = 0.3
CAPACITY = SLOTS / (MEAN_TOKENS * SLOW_TOKEN_S)  # requests per second


async def p99_of_others(seed: int, count: int, *, flooded: bool, fair: bool) -> float:
    """Return the 99th percentile, in seconds, of the time from submission to the last token of eight users' requests.

    They bring a fifth of what the engine can do; with `flooded` a ninth user brings the other four fifths. Arrivals are
    random, so the queue is long at times. Without `fair` the engine does not know whose request is whose.
    """
    scene = Scene(slots=SLOTS, token_delay_s=SLOW_TOKEN_S)
    await scene.engine.start()
    latencies: list[float] = []

    async def one(user: str, tokens: int) -> None:
        began = scene.clock()
        wanted = request(f"{user} {began}", tokens, key=user, deadline_s=120)
        outcome = await scene.run(wanted if fair else replace(wanted, fair_key="everybody"))
        if user != "flood":
            latencies.append(scene.clock() - began if outcome == "finished" else 120)

    async def arrive(users: Sequence[str], share: float, dice: random.Random) -> None:
        """Bring one request after the other, until there are enough of those that are measured."""
        while len(latencies) < count:
            await asyncio.sleep(dice.expovariate(CAPACITY * share))
            scene.tasks.append(asyncio.create_task(one(dice.choice(users), dice.randint(1, 2 * MEAN_TOKENS - 1))))

    others = arrive([f"user {number}" for number in range(8)], 0.2, random.Random(seed))
    flood = arrive(["flood"], 0.8, random.Random(seed + 1))
    if flooded:
        await asyncio.gather(others, flood)
    else:
        flood.close()
        await others
    await asyncio.gather(*scene.tasks)
    await scene.engine.close()
    return sorted(latencies)[int(len(latencies) * 0.99)]


def test_one_user_with_most_of_the_load_does_not_slow_the_others() -> None:
    """One user with 80 % of a full load raises the others' p99 by at most half; first-in-first-out fails that."""
    seed, count = 7, size("engine_fairness", small=300, proof=5000)
    alone = run_virtually(p99_of_others(seed, count, flooded=False, fair=True))
    beside = run_virtually(p99_of_others(seed, count, flooded=True, fair=True))
    unfair = run_virtually(p99_of_others(seed, count, flooded=True, fair=False))
    assert beside <= 1.5 * alone
    assert unfair > 1.5 * alone, "the proof would not notice an unfair queue"
    result = f"others' p99 alone {alone:.2f} s, beside the flood x{beside / alone:.2f}; first in, first out x{unfair / alone:.2f}"
    record_proof("engine_fairness", seed=seed, size=count, result=result)
