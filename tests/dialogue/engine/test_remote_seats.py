"""Admission per server: no server gets more than its bound, who finds all taken waits in order, and no slot is lost."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue.engine.base import TextDelta
from dialogue.engine.remote_seats import Seats, Unexamined
from dialogue.engine.remote_servers import ServerFacts, ServerKind
from dialogue.engine.replicas import WAIT, Replica, choose
from dialogue.errors import DeadlineExceeded, EngineUnavailable
from tests.dialogue.engine.remote_scene import ASK, answer, engine_at, two_servers
from tests.fakes.completion_server import completion_server, hang, then

FACTS = ServerFacts(ServerKind.VLLM, "0.33.0", 512, 64, "", {}, {})
HOLD = then(["Hi"], hang)


async def test_overflow_goes_to_the_next_server() -> None:
    """When a conversation's server is full, the next one with a free slot answers, though it has to read the history anew."""
    async with two_servers(slots=1) as (first, second, engine):
        first.behaviours.append(HOLD)
        async with aclosing(engine.generate(ASK)) as held:
            assert await anext(held) == TextDelta("Hi")
            assert (await answer(engine))[0] == "Hello world!"
        assert (len(first.completions()), len(second.completions())) == (1, 1)


async def test_who_finds_all_slots_taken_waits() -> None:
    """When every server is full, a request waits, is counted as waiting, and goes as soon as a slot is given back."""
    async with completion_server(behaviours=[HOLD]) as server, engine_at(server, slots=1) as engine:
        async with aclosing(engine.generate(ASK)) as held:
            await anext(held)
            waiting = asyncio.create_task(answer(engine))
            await asyncio.sleep(0)
            assert (engine.health().running, engine.health().waiting) == (1, 1)
        assert (await waiting)[0] == "Hello world!"
        assert (engine.health().running, engine.health().waiting) == (0, 0)


async def test_waiting_ends_with_the_deadline() -> None:
    """Who waits for a slot waits no longer than its deadline, and leaves nothing behind."""
    async with completion_server(behaviours=[HOLD]) as server, engine_at(server, slots=1) as engine:
        async with aclosing(engine.generate(ASK)) as held:
            await anext(held)
            with pytest.raises(DeadlineExceeded):
                await answer(engine, replace(ASK, deadline_s=0.05))
            assert (engine.health().running, engine.health().waiting) == (1, 0)
        assert len(server.completions()) == 1


async def test_closing_sends_away_who_waits() -> None:
    """Nobody waits for an engine that is closed."""
    async with (
        completion_server(behaviours=[HOLD]) as server,
        engine_at(server, slots=1) as engine,
        aclosing(engine.generate(ASK)) as held,
    ):
        await anext(held)
        waiting = asyncio.create_task(answer(engine))
        await asyncio.sleep(0)
        await engine.close()
        with pytest.raises(EngineUnavailable, match="closed"):
            await waiting


async def test_a_server_that_fails_sends_its_queue_elsewhere() -> None:
    """Who waited for a full server goes to one that came back, once that is all there is."""
    now = [0.0]
    one, other = _replicas(2, slots=1)
    seats = Seats([one, other], clock=lambda: now[0])
    other.failed("broke", 0.0)
    assert await seats.take("a", (), 9.0) is one
    waiting = asyncio.create_task(seats.take("b", (), 9.0))
    await asyncio.sleep(0)
    other.examined(FACTS, 1, {})
    seats.look()
    assert await waiting is other


async def test_an_examination_waits_for_no_slot() -> None:
    """When no server is up, one that failed is given to everybody to examine, though its slots are still taken; none is taken by that."""
    (server,) = _replicas(1, slots=1)
    seats = Seats([server])
    assert await seats.take("a", (), 9e9) is server
    waiting = asyncio.create_task(seats.take("b", (), 9e9))
    await asyncio.sleep(0)
    server.failed("broke", 0.0)
    seats.look()
    assert await waiting == await seats.take("c", (), 9e9) == Unexamined(server)
    assert server.running == 1
    seats.leave(server)
    assert server.running == 0


async def test_a_slot_given_to_somebody_who_gives_up() -> None:
    """Who gives up in the very moment in which a slot is given gives it back."""
    (server,) = _replicas(1, slots=1)
    seats = Seats([server])
    assert await seats.take("a", (), 9e9) is server
    waiting = asyncio.create_task(seats.take("b", (), 9e9))
    await asyncio.sleep(0)
    seats.leave(server)
    assert (server.running, seats.waiting) == (1, 0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert server.running == 0


class _Crowd:
    """Requests that come, hold a slot until they are told to go, or give up at any moment."""

    def __init__(self, replicas: list[Replica]) -> None:
        self.replicas = replicas
        self.now = 0.0
        self.seats = Seats(replicas, clock=lambda: self.now)
        self.requests: list[tuple[asyncio.Task[None], asyncio.Event]] = []

    def act(self, action: str, which: int) -> None:
        server = self.replicas[which % len(self.replicas)]
        task, leave = self.requests[which % len(self.requests)] if self.requests else (None, asyncio.Event())
        match action:
            case "come":
                leave = asyncio.Event()
                self.requests.append((asyncio.create_task(self._request(str(which), leave)), leave))
            case "leave":
                leave.set()
            case "give up" if task is not None:
                task.cancel()
            case "fail":
                server.failed("broke", self.now)
            case "come back":
                server.examined(FACTS, server.slots, {})
                self.seats.look()
            case "pause":
                server.refused("busy", self.now + which)

    async def settle(self) -> None:
        """Let everybody do what they can do now, and look whether it was right."""
        self.seats.look()
        for _ in range(5):
            await asyncio.sleep(0)
        assert all(0 <= replica.running <= replica.slots for replica in self.replicas)
        assert self.seats.waiting == 0 or choose(self.replicas, "any", self.now) is WAIT

    async def go_home(self) -> None:
        for _, leave in self.requests:
            leave.set()
        await asyncio.gather(*(task for task, _ in self.requests), return_exceptions=True)

    async def _request(self, key: str, leave: asyncio.Event) -> None:
        server = await self.seats.take(key, (), self.now + 1e6)
        if isinstance(server, Replica):  # what has to be examined first takes no slot
            try:
                await leave.wait()
            finally:
                self.seats.leave(server)


ACTIONS = st.sampled_from(["come", "come", "come", "leave", "give up", "fail", "come back", "pause", "settle"])


@given(st.lists(st.tuples(ACTIONS, st.integers(0, 9)), max_size=60), st.integers(1, 3), st.integers(1, 3))
def test_no_slot_is_lost_or_given_twice(actions: list[tuple[str, int]], servers: int, slots: int) -> None:
    """Whoever comes, leaves, fails or gives up: no server runs more than its slots, nobody waits beside a free one, none is lost."""

    async def play() -> None:
        crowd = _Crowd(_replicas(servers, slots=slots))
        for action, which in actions:
            crowd.now += 1.0
            crowd.act(action, which)
            if action == "settle":
                await crowd.settle()
        await crowd.settle()
        await crowd.go_home()
        assert [replica.running for replica in crowd.replicas] == [0] * servers
        assert crowd.seats.waiting == 0

    asyncio.run(play())


def _replicas(count: int, *, slots: int) -> list[Replica]:
    return [Replica(f"http://host{number}", f"host{number}", FACTS, slots=slots) for number in range(count)]
