"""The remote engine against servers that fail: every failure has its type, its sentence and its place."""

import asyncio
import re
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from dialogue.config import RemoteConfig
from dialogue.engine.base import (
    FinishReason,
    SamplingParams,
    TextDelta,
)
from dialogue.engine.remote import RemoteEngine
from dialogue.errors import (
    DeadlineExceeded,
    EngineOverloaded,
    EngineUnavailable,
    RequestTooLong,
)
from tests.dialogue.engine.remote_scene import ASK, KEY, OFTEN, QUICK, answer, engine_at, two_servers, until_health
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
    send_json,
    tell,
    then,
)


async def test_an_answer() -> None:
    """Texts arrive as they are sent; the counts are the server's."""
    async with (
        completion_server(behaviours=[tell("Hi", " you", usage={"prompt_tokens_details": {"cached_tokens": 3}})]) as server,
        engine_at(server) as engine,
    ):
        text, last = await answer(engine)
    assert text == "Hi you"
    assert (last.reason, last.prompt_tokens, last.completion_tokens, last.cached_tokens) == (FinishReason.STOP, 4, 2, 3)


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
    "another page": (_not_events, EngineUnavailable, "broke the connection"),
    "endless event": (_huge_event, EngineUnavailable, "broke the connection"),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_failures_are_typed(name: str) -> None:
    """Each failure of a server ends in its error, with the server's name and a reason, and leaves nothing running."""
    behaviour, kind, words = FAILURES[name]
    async with completion_server(behaviours=[behaviour]) as server, engine_at(server, timeouts=QUICK) as engine:
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
    async with completion_server(behaviours=[_trickle]) as server, engine_at(server, timeouts=QUICK) as engine:
        with pytest.raises(DeadlineExceeded):
            await answer(engine, replace(ASK, deadline_s=0.1))
        async with asyncio.timeout(5):
            await server.hung_up.wait()


async def test_a_prompt_that_cannot_fit_is_not_sent() -> None:
    """A prompt that fills the context is refused here; the reply's length is cut to what is left."""
    async with completion_server(context=64) as server, engine_at(server) as engine:
        with pytest.raises(RequestTooLong):
            await answer(engine, replace(ASK, prompt=tuple(range(64))))
        await answer(engine, replace(ASK, prompt=tuple(range(60))))
        assert [request.body["max_tokens"] for request in server.completions()] == [4]


async def test_closing_cancels_on_the_server() -> None:
    """Closing the generator ends the connection, which is how these servers learn that nobody listens."""
    async with completion_server(behaviours=[then(["Hi"], hang)]) as server, engine_at(server) as engine:
        async with aclosing(engine.generate(ASK)) as events:
            assert await anext(events) == TextDelta("Hi")
        async with asyncio.timeout(1):
            await server.hung_up.wait()


async def test_another_server_takes_over_before_the_first_token() -> None:
    """What fails before its first token goes to the next server unseen; the caller gets one whole answer."""
    bad = [refuse(500), refuse(429), _hang_at_once, then([], cut), then([], reset)]
    for behaviour in bad:
        async with two_servers() as (first, second, engine):
            first.behaviours.append(behaviour)
            assert (await answer(engine))[0] == "Hello world!"
            assert (len(first.completions()), len(second.completions())) == (1, 1)


async def test_nothing_is_repeated_after_the_first_token() -> None:
    """What fails after its first token is the caller's to repeat: the second server is not asked."""
    for last in (cut, reset, hang, say({"error": "boom"})):
        async with two_servers() as (first, second, engine):
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


async def test_a_conversation_stays_on_its_server() -> None:
    """Requests of one conversation go to one server; many conversations use them all."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(completion_server()) for _ in range(3)]
        engine = await stack.enter_async_context(engine_at(*servers))
        for turn in range(2):
            for number in range(24):
                await answer(engine, replace(ASK, request_id=f"{number}-{turn}", cache_key=f"conversation-{number}"))
        salts = [[request.body["cache_salt"] for request in server.completions()] for server in servers]
    assert all(salts)
    assert sum(len(set(of_server)) for of_server in salts) == 24


async def test_a_server_that_comes_later() -> None:
    """One of two servers is enough to start; the other is used once it is there, and counts among the slots from the start."""
    async with completion_server() as gone:
        port = int(gone.url.rpartition(":")[2])
    now = [0.0]
    async with completion_server() as there, engine_at(gone, there, timeouts=OFTEN, clock=lambda: now[0], slots=3) as engine:
        assert engine.health().detail.startswith("1 of 2")
        assert (await engine.start()).slots == 6
        now[0] += 2.0
        async with completion_server(port):
            await until_health(engine, "2 of 2")


async def test_an_idle_server_that_falls_ill() -> None:
    """A server that nobody uses is asked how it is: when it is ill or gone, no conversation has to find out."""
    now = [0.0]
    async with two_servers() as (first, second, _), engine_at(first, second, timeouts=OFTEN, clock=lambda: now[0]) as engine:
        for ill in ({"health": 503}, {"is_down": True}):
            vars(first).update(ill)
            await until_health(engine, "1 of 2")
            first.seen.clear()
            await answer(engine)
            assert first.completions() == []
            vars(first).update(health=200, is_down=False)
            now[0] += 60.0
            await until_health(engine, "2 of 2")


async def test_a_proxy_that_hides_the_health_page() -> None:
    """A page that is not there says nothing against the server behind it."""
    async with completion_server(health=404) as server, engine_at(server, timeouts=OFTEN) as engine:
        async with asyncio.timeout(10):
            while sum(request.path == "/health" for request in server.seen) < 2:  # noqa: ASYNC110 - a list of the fake
                await asyncio.sleep(0.01)
        assert engine.health().detail == "1 of 1 servers answer"


BODIES: dict[str, dict[str, object]] = {
    "vllm": {"model": "base", "top_k": 40, "repetition_penalty": 1.1},
    "sglang": {"model": "base", "top_k": 40, "repetition_penalty": 1.1},
}


@pytest.mark.parametrize("kind", BODIES)
async def test_what_is_sent(kind: str) -> None:
    """Prompts go out as token ids, sampling is spelled as the server spells it, every value explicitly."""
    sampling = SamplingParams(max_tokens=9, temperature=0.5, top_p=0.9, seed=3, stop=("END",))
    async with completion_server(kind=kind) as server, engine_at(server) as engine:
        await answer(engine, replace(ASK, sampling=sampling))
        await answer(engine, replace(ASK, sampling=replace(sampling, top_k=0, stop=())))
        first, second = (request.body for request in server.completions())
    salt = first.pop("cache_salt")
    assert re.fullmatch(r"[0-9a-f]{64}", salt)
    assert first == BODIES[kind] | {
        "prompt": [5, 6, 7, 8],
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "min_p": 0.0,
        "seed": 3,
        "stop": ["END"],
        "ignore_eos": False,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert second["top_k"] == -1
    assert "stop" not in second


@pytest.mark.parametrize(("key", "different"), [("", 6), (KEY, 3)], ids=["without a key", "with one key"])
async def test_cache_salts(key: str, different: int) -> None:
    """A salt is the same for the turns of a conversation, and in every process with the same key; another one for another."""
    async with completion_server() as server:
        for _ in range(2):
            async with engine_at(server, api_key=key) as engine:
                for conversation in ("a", "a", "b", ""):
                    await answer(engine, replace(ASK, cache_key=conversation))
        salts = [request.body["cache_salt"] for request in server.completions()]
    assert salts[0] == salts[1]
    assert len(set(salts)) == different
    assert not any("conversation" in salt for salt in salts)


async def test_the_key_goes_nowhere_else() -> None:
    """The key is sent as a bearer token and stands in no error, no log and no health line, even when the server repeats it."""

    async def parrot(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        await send_json(writer, 500, {"error": {"message": f"bad {request.headers['authorization']}"}})

    echo = then([], say({"error": {"message": f"I know {KEY}"}}))
    with capture_logs() as logs:
        async with completion_server(behaviours=[parrot, echo]) as server, engine_at(server) as engine:
            told = [str(await _error(engine)), str(await _error(engine)), engine.health().detail]
            assert {request.headers["authorization"] for request in server.seen} == {f"Bearer {KEY}"}
    assert all("[key]" in words for words in told)
    assert KEY not in str(told) + str(logs)


async def _error(engine: RemoteEngine) -> Exception:
    with pytest.raises(EngineUnavailable) as caught:
        await answer(engine)
    return caught.value


def _three_ids(_: str) -> list[int]:
    return [1, 2, 3]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "openai"}, "not vLLM, SGLang or llama.cpp"),
        ({"takes_ids": False}, "does not take token ids"),
        ({"keys": {"another"}}, "refuses the key"),
        ({"model": "other"}, "does not serve 'base'"),
        ({"context": None}, "how long its context is"),
        ({"tokenize": _three_ids}, "other tokens than remote.tokenizer"),
    ],
    ids=["another kind", "no ids", "wrong key", "another model", "no context", "another tokenizer"],
)
async def test_unfit_servers_are_refused(settings: dict[str, Any], words: str) -> None:
    """A server that cannot serve is refused at the start, with a sentence that says what is wrong."""
    async with completion_server(**settings) as server:
        engine = RemoteEngine(RemoteConfig((server.url,), "base", KEY), encode=_bytes_of)
        try:
            with pytest.raises(EngineUnavailable, match=words) as caught:
                await engine.start()
            assert server.url.removeprefix("http://") in str(caught.value)
        finally:
            await engine.close()


def _bytes_of(text: str) -> list[int]:
    return list(text.encode())


async def test_the_same_tokenizer_is_accepted() -> None:
    """A server that cuts the probe texts as we do is accepted; one without /tokenize is accepted with a warning."""
    for page, warnings in ((_bytes_of, 0), (None, 1)):
        with capture_logs() as logs:
            async with completion_server(tokenize=page) as server:
                engine = RemoteEngine(RemoteConfig((server.url,), "base"), encode=_bytes_of)
                await engine.start()
                await engine.close()
        assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["remote_tokenizer_unchecked"] * warnings


async def test_an_old_vllm_is_warned_about() -> None:
    """A vLLM before 0.33 is used with a warning."""
    for version, warned in (("0.32.1", True), ("0.33.0", False), ("1.0.0", False)):
        with capture_logs() as logs:
            async with completion_server(version=version) as server, engine_at(server):
                pass
        assert any(entry["event"] == "remote_server_old" for entry in logs) is warned


async def test_nobody_there() -> None:
    """A server that is not there is named, and starting again later is possible."""
    async with completion_server() as gone:
        port = int(gone.url.rpartition(":")[2])
    engine = RemoteEngine(RemoteConfig((gone.url,), "base"))
    with pytest.raises(EngineUnavailable, match=f"127.0.0.1:{port} does not answer"):
        await engine.start()
    async with completion_server(port):
        assert (await engine.start()).engine == "remote(vllm)"
        await engine.close()


@pytest.mark.parametrize("url", ["http://user:pass@host", "ftp://host", "host:80", "http://host/?key=1"])
def test_addresses_with_secrets_are_refused(url: str) -> None:
    """An address takes no password and no query: those end in logs."""
    with pytest.raises(EngineUnavailable) as caught:
        RemoteEngine(RemoteConfig((url,), "base"))
    assert "pass@" not in str(caught.value)


async def test_a_broken_last_character_is_dropped() -> None:
    """A replacement character that ends an answer is half a character, and is not shown; inside the text it stays."""
    async with (
        completion_server(behaviours=[tell("a\ufffd", "b", "\ufffd", "\ufffd", reason="length")]) as server,
        engine_at(server) as engine,
    ):
        assert (await answer(engine))[0] == "a\ufffdb"
