"""The remote engine against servers that fail: every failure has its type, its sentence and its place."""

import asyncio
import re
from contextlib import aclosing
from dataclasses import replace

import pytest

from dialogue.engine.base import TextDelta
from dialogue.errors import DeadlineExceeded, EngineError, EngineOverloaded, EngineUnavailable, RequestTooLong
from tests.dialogue.engine.remote_scene import ASK, PATIENT, QUICK, answer, engine_at, two_servers
from tests.fakes.completion_server import (
    Behaviour,
    SeenRequest,
    begin_stream,
    choice,
    completion_server,
    cut,
    hang,
    refuse,
    reset,
    say,
    send_event,
    then,
)


async def _not_events(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
    await begin_stream(writer, "text/html")
    writer.write(b"<html>a proxy's page</html>")


async def _huge_event(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
    await begin_stream(writer)
    writer.write(b"data: " + b"x" * (2 << 20))
    await writer.drain()


async def _hang_at_once(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
    await hang(writer)


FAILURES: dict[str, tuple[Behaviour, type[Exception], str]] = {
    "truncated stream": (then(["Hi"], cut), EngineUnavailable, "before the generation was complete"),
    "truncated chunk": (then(["Hi"], say('{"choices": [{"te')), EngineUnavailable, "no JSON"),
    "torn connection": (then(["Hi"], reset), EngineUnavailable, "broke the connection"),
    "error in the middle": (then(["Hi"], say({"error": {"message": "CUDA error", "code": 500}})), EngineUnavailable, "CUDA error"),
    "error as text": (then(["Hi"], say({"error": "out of memory"})), EngineUnavailable, "out of memory"),
    "aborted by the server": (then(["Hi"], say(choice("", "abort"))), EngineUnavailable, "abort"),
    "a list for a chunk": (then(["Hi"], say("[1, 2]")), EngineUnavailable, "no completion"),
    "a number for a text": (then(["Hi"], say({"choices": [{"text": 7}]})), EngineUnavailable, "no completion"),
    "silent at first": (_hang_at_once, EngineUnavailable, "silent"),
    "silent in the middle": (then(["Hi"], hang), EngineUnavailable, "silent"),
    "server error": (refuse(500, "boom"), EngineUnavailable, "answered 500: boom"),
    "still loading": (refuse(503, "Loading model"), EngineUnavailable, "answered 503"),
    "wrong key": (refuse(401, "who are you"), EngineUnavailable, "refuses the key"),
    "too much to do": (refuse(429, "slow down", "Retry-After: 7\r\n"), EngineOverloaded, "too much to do"),
    "too much for now": (refuse(503, "queue full", "Retry-After: 3\r\n"), EngineOverloaded, "too much to do"),
    "too long for vLLM": (
        refuse(400, "This model's maximum context length is 512 tokens. However, you requested 900"),
        RequestTooLong,
        "do not fit",
    ),
    "too long for SGLang": (refuse(400, "The input (600 tokens) is longer than the model's context length"), RequestTooLong, "do not fit"),
    "too much for a proxy": (refuse(413, "Request Entity Too Large"), RequestTooLong, "do not fit"),
    "a bad request": (refuse(400, "seed must be an integer"), EngineError, "refuses the request (400): seed must be"),
    "a value that it does not take": (refuse(422, "top_k: out of range"), EngineError, "refuses the request (422): top_k"),
    "a bad request, told late": (then(["Hi"], say({"error": {"message": "bad", "code": 400}})), EngineError, "refuses the request (400)"),
    "no such page": (refuse(404, "Not Found"), EngineUnavailable, "answered 404"),
    "asked too slowly": (refuse(408, "Request Timeout"), EngineUnavailable, "answered 408"),
    "another page": (_not_events, EngineUnavailable, "broke the connection"),
    "endless event": (_huge_event, EngineUnavailable, "broke the connection"),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_failures_are_typed(name: str) -> None:
    """Each failure of a server ends in its error, with the server's name and a reason, and leaves nothing running."""
    behaviour, kind, words = FAILURES[name]
    timeouts = QUICK if "silent" in name else PATIENT
    async with completion_server(behaviours=[behaviour]) as server, engine_at(server, timeouts=timeouts) as engine:
        with pytest.raises(kind, match=re.escape(words)) as caught:
            await answer(engine)
        assert type(caught.value) is kind
        assert kind is RequestTooLong or server.url.removeprefix("http://") in str(caught.value)
        assert engine.health().running == 0


async def test_when_to_come_back() -> None:
    """Retry-After of a 429 is handed on; without one it is a few seconds."""
    now = [0.0]
    behaviours = [refuse(429, headers="Retry-After: 7\r\n"), refuse(429)]
    async with completion_server(behaviours=behaviours) as server, engine_at(server, clock=lambda: now[0]) as engine:
        with pytest.raises(EngineOverloaded) as told:
            await answer(engine)
        now[0] = 7.0
        with pytest.raises(EngineOverloaded) as untold:
            await answer(engine)
    assert (told.value.retry_after_s, untold.value.retry_after_s) == (7.0, 5.0)


async def test_nobody_is_asked_before_the_time_it_said() -> None:
    """Inside a Retry-After no request goes out: the caller hears what is left of it; afterwards the server is asked again."""
    now = [0.0]
    refusal = refuse(429, headers="Retry-After: 7\r\n")
    async with completion_server(behaviours=[refusal]) as server, engine_at(server, clock=lambda: now[0]) as engine:
        for moment, left in ((0.0, 7.0), (5.0, 2.0)):
            now[0] = moment
            with pytest.raises(EngineOverloaded, match="too much to do") as caught:
                await answer(engine)
            assert caught.value.retry_after_s == left
        assert len(server.completions()) == 1
        now[0] = 7.0
        assert (await answer(engine))[0] == "Hello world!"


async def test_the_deadline_holds() -> None:
    """A server that says nothing costs no more time than the request has."""
    async with completion_server(behaviours=[_hang_at_once]) as server, engine_at(server) as engine:
        with pytest.raises(DeadlineExceeded):
            await answer(engine, replace(ASK, deadline_s=0.05))


async def _trickle(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
    await begin_stream(writer)
    while True:
        await send_event(writer, choice("drop "))
        await asyncio.sleep(0.01)


async def test_a_server_that_trickles() -> None:
    """A server that is slow but never silent is ended by the deadline, and hears that nobody listens."""
    async with completion_server(behaviours=[_trickle]) as server, engine_at(server) as engine:
        with pytest.raises(DeadlineExceeded):
            await answer(engine, replace(ASK, deadline_s=0.5))
        async with asyncio.timeout(20):
            await server.hung_up.wait()


async def test_another_server_takes_over_before_the_first_token() -> None:
    """What fails before its first token goes to the next server unseen; the caller gets one whole answer."""
    bad = [refuse(500), refuse(429), _hang_at_once, then([], cut), then([], reset)]
    for behaviour in bad:
        async with two_servers(timeouts=QUICK if behaviour is _hang_at_once else PATIENT) as (first, second, engine):
            first.behaviours.append(behaviour)
            assert (await answer(engine))[0] == "Hello world!"
            assert (len(first.completions()), len(second.completions())) == (1, 1)


async def test_nothing_is_repeated_after_the_first_token() -> None:
    """What fails after its first token is the caller's to repeat: the second server is not asked."""
    for last in (cut, reset, hang, say({"error": "boom"})):
        async with two_servers(timeouts=QUICK if last is hang else PATIENT) as (first, second, engine):
            first.behaviours.append(then(["Hi"], last))
            async with aclosing(engine.generate(ASK)) as events:
                assert await anext(events) == TextDelta("Hi")
                with pytest.raises(EngineUnavailable):
                    await anext(events)
            assert second.completions() == []


async def test_a_failed_server_is_left_alone() -> None:
    """After a failure the next requests go elsewhere; when it is time, the server is examined and used again."""
    async with two_servers() as (first, second, engine):
        first.behaviours.append(refuse(500))
        await answer(engine)
        await answer(engine)
        assert (len(first.completions()), len(second.completions())) == (1, 2)
        assert "answered 500" in engine.health().detail
        assert engine.health().ready


async def test_all_servers_busy() -> None:
    """When every server has too much to do, the caller hears the shortest time."""
    async with two_servers() as (first, second, engine):
        first.behaviours.append(refuse(429, headers="Retry-After: 9\r\n"))
        second.behaviours.append(refuse(429, headers="Retry-After: 3\r\n"))
        with pytest.raises(EngineOverloaded) as caught:
            await answer(engine)
        assert caught.value.retry_after_s == 3


@pytest.mark.parametrize("behaviour", [refuse(400), refuse(413), refuse(422)], ids=["400", "413", "422"])
async def test_a_refused_request_is_no_failure_of_the_server(behaviour: Behaviour) -> None:
    """A request that a server refuses for its own fault is asked of no other, and the server is used as before.

    Once, each was repeated on every server, took them all out of use and opened the circuit breaker for everybody.
    """
    async with two_servers() as (first, second, engine):
        first.behaviours.append(behaviour)
        with pytest.raises(EngineError) as caught:
            await answer(engine)
        assert not isinstance(caught.value, EngineUnavailable)
        assert engine.health().detail == "2 of 2 servers answer"
        assert (await answer(engine))[0] == "Hello world!"
        assert [request.path for request in first.seen] == ["/v1/completions"] * 2
        assert second.completions() == []


async def test_a_server_that_came_back_with_a_smaller_context() -> None:
    """A prompt is compared with what the server has now: it is not sent with no room for a reply."""
    long = replace(ASK, prompt=tuple(range(64)))
    async with completion_server(behaviours=[refuse(500)]) as server, engine_at(server) as engine:
        with pytest.raises(EngineUnavailable):
            await answer(engine, long)
        server.context = 64
        server.seen.clear()
        with pytest.raises(RequestTooLong, match="context of 64"):
            await answer(engine, long)
        assert server.completions() == []
        assert engine.health().detail == "1 of 1 servers answer"
        assert (await answer(engine))[0] == "Hello world!"
