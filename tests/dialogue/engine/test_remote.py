"""The remote engine: what is sent to a server, what comes back, and which server it is."""

import asyncio
import re
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from dialogue.engine.base import FinishReason, SamplingParams, TextDelta
from dialogue.engine.remote import RemoteEngine
from dialogue.errors import EngineUnavailable, RequestTooLong
from tests.dialogue.engine.remote_scene import ASK, KEY, answer, engine_at
from tests.fakes.completion_server import (
    SeenRequest,
    completion_server,
    hang,
    say,
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


async def test_a_broken_last_character_is_dropped() -> None:
    """A replacement character that ends an answer is half a character, and is not shown; inside the text it stays."""
    async with (
        completion_server(behaviours=[tell("a\ufffd", "b", "\ufffd", "\ufffd", reason="length")]) as server,
        engine_at(server) as engine,
    ):
        assert (await answer(engine))[0] == "a\ufffdb"
