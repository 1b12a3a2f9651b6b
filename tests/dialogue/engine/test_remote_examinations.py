"""Examinations of a server that failed: one for all who wait, whoever gives up meanwhile."""

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from dialogue.engine.remote import RemoteEngine
from dialogue.errors import DeadlineExceeded, EngineUnavailable
from tests.dialogue.engine.remote_scene import ASK, answer, engine_at, fall_silent, two_servers, until_asked
from tests.fakes.completion_server import CompletionServer, completion_server, refuse

CROWD = 32


async def _crowd(engine: RemoteEngine) -> list[object]:
    """Send many requests at once; return the text or the error of each."""
    requests = (answer(engine, replace(ASK, request_id=f"r{number}", cache_key=f"c{number}")) for number in range(CROWD))
    outcomes = await asyncio.gather(*requests, return_exceptions=True)
    return [outcome if isinstance(outcome, BaseException) else outcome[0] for outcome in outcomes]


async def _let_it_fail(engine: RemoteEngine, *servers: CompletionServer) -> None:
    """Let the next request fail, so that the servers are examined before they are used again."""
    for server in servers:
        server.behaviours.append(refuse(500))
    with pytest.raises(EngineUnavailable):
        await answer(engine)
    for server in servers:
        server.seen.clear()


@pytest.mark.parametrize("slots", [1, 64])
async def test_who_waits_for_a_server_that_is_down_shares_one_examination(slots: int) -> None:
    """However many requests wait for a server that is down, and however few slots it has: one examination, one noted failure.

    Once, each of them examined it after the other; with a server that hangs most of them reached their deadline instead.
    """
    async with completion_server() as server, engine_at(server, slots=slots) as engine:
        await _let_it_fail(engine, server)
        server.keys = {"another"}
        with capture_logs() as logs:
            outcomes = await _crowd(engine)
        assert {str(outcome).partition(" ")[2] for outcome in outcomes} == {"refuses the key (401 at /v1/models); it is remote.api_key"}
        assert [type(outcome) for outcome in outcomes] == [EngineUnavailable] * CROWD
        assert [request.path for request in server.seen] == ["/v1/models"]
        assert [entry["failures"] for entry in logs if entry["event"] == "remote_server_failed"] == [2]
        assert (engine.health().running, engine.health().waiting) == (0, 0)


async def test_one_of_two_servers_that_failed_comes_back() -> None:
    """When all failed, each is examined once for everybody, and all are answered by the one that is back."""
    async with two_servers() as (first, second, engine):
        await _let_it_fail(engine, first, second)
        first.keys = {"another"}
        assert await _crowd(engine) == ["Hello world!"] * CROWD
        for server in (first, second):
            assert [request.path for request in server.seen].count("/v1/models") == 1


async def test_who_waits_for_a_server_that_came_back_is_answered() -> None:
    """One examination lets all of them in, one after the other where the slots are few."""
    async with completion_server() as server, engine_at(server, slots=2) as engine:
        await _let_it_fail(engine, server)
        assert await _crowd(engine) == ["Hello world!"] * CROWD
        assert [request.path for request in server.seen].count("/v1/models") == 1


async def test_one_incident_counts_once() -> None:
    """Requests that a failing server takes along at the same time are one failure of it."""
    async with completion_server(behaviours=[refuse(500)] * CROWD) as server, engine_at(server) as engine:
        with capture_logs() as logs:
            assert {type(outcome) for outcome in await _crowd(engine)} == {EngineUnavailable}
    assert [entry["failures"] for entry in logs if entry["event"] == "remote_server_failed"] == [1]


async def test_an_examination_outlives_who_began_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who gives up, or has no time left, does not end the examination that others wait for."""
    async with completion_server() as server, engine_at(server) as engine:
        await _let_it_fail(engine, server)
        speak = fall_silent(server, monkeypatch)
        first, second = (asyncio.create_task(answer(engine)) for _ in range(2))
        await until_asked(server, "/v1/models")
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        with pytest.raises(DeadlineExceeded):
            await answer(engine, replace(ASK, deadline_s=0.05))
        speak.set()
        assert (await second)[0] == "Hello world!"
        assert [request.path for request in server.seen].count("/v1/models") == 1


async def test_closing_ends_an_examination(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for an examination hears at once that the engine is closed; that is no failure of the server, and nothing goes on."""
    async with completion_server() as server, engine_at(server) as engine:
        await _let_it_fail(engine, server)
        fall_silent(server, monkeypatch)
        waiting = asyncio.create_task(answer(engine))
        await until_asked(server, "/v1/models")
        with capture_logs() as logs:
            async with asyncio.timeout(10):
                await engine.close()
            with pytest.raises(EngineUnavailable, match="closed"):
                await waiting
        assert logs == []
