"""A remote engine in front of loopback servers, for the tests of it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from dialogue.config import RemoteConfig
from dialogue.engine.base import GenerationFinished, GenerationRequest, SamplingParams, TextDelta
from dialogue.engine.remote import RemoteEngine
from dialogue.engine.remote_call import RemoteTimeouts
from tests.fakes.completion_server import CompletionServer, Json, completion_server, send_json

KEY = "sk-very-secret-4711"
QUICK = RemoteTimeouts(connect_s=30, first_token_s=0.3, between_tokens_s=0.3, look_s=3600)  # for servers that fall silent
PATIENT = RemoteTimeouts(connect_s=30, look_s=3600)
OFTEN = RemoteTimeouts(connect_s=30, look_s=0.01)
GREEDY = SamplingParams(max_tokens=8, temperature=0)
ASK = GenerationRequest("r1", (5, 6, 7, 8), GREEDY, cache_key="conversation-1", deadline_s=20)


@asynccontextmanager
async def engine_at(
    *servers: CompletionServer,
    timeouts: RemoteTimeouts = PATIENT,
    clock: Callable[[], float] = time.monotonic,
    api_key: str = KEY,
    **settings: Any,
) -> AsyncIterator[RemoteEngine]:
    """Start an engine in front of servers. `settings` are fields of RemoteConfig."""
    config = RemoteConfig(tuple(server.url for server in servers), "base", api_key, **settings)
    engine = RemoteEngine(config, timeouts=timeouts, clock=clock)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.close()


async def answer(engine: RemoteEngine, request: GenerationRequest = ASK) -> tuple[str, GenerationFinished]:
    """Return the text and the last event of a generation."""
    events = [event async for event in engine.generate(request)]
    last = events[-1]
    assert isinstance(last, GenerationFinished)
    return "".join(event.text for event in events if isinstance(event, TextDelta)), last


@asynccontextmanager
async def two_servers(
    *, timeouts: RemoteTimeouts = PATIENT, **settings: Any
) -> AsyncIterator[tuple[CompletionServer, CompletionServer, RemoteEngine]]:
    """Two servers, the first of which is where ASK goes, and an engine before them. `settings` are fields of RemoteConfig."""
    async with completion_server() as one, completion_server() as other, engine_at(one, other, timeouts=timeouts, **settings) as engine:
        await answer(engine)
        first, second = (one, other) if one.completions() else (other, one)
        first.seen.clear()
        yield first, second, engine


async def until_health(engine: RemoteEngine, words: str) -> None:
    """Wait until the engine says so of its servers."""
    async with asyncio.timeout(30):
        while words not in engine.health().detail:  # noqa: ASYNC110 - health() is a snapshot
            await asyncio.sleep(0.01)


def fall_silent(server: CompletionServer, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Let a server read what it is asked and say nothing, its streams aside; return what lets it speak again."""
    port, speak = urlsplit(server.url).port, asyncio.Event()

    async def late(writer: asyncio.StreamWriter, status: int, told: Json, headers: str = "") -> None:
        if writer.get_extra_info("sockname")[1] == port:
            await speak.wait()
        await send_json(writer, status, told, headers)

    monkeypatch.setattr("tests.fakes.completion_server.send_json", late)
    return speak


async def until_asked(server: CompletionServer, path: str) -> None:
    """Wait until somebody has asked a server for a page."""
    async with asyncio.timeout(30):
        while path not in [request.path for request in server.seen]:  # noqa: ASYNC110 - a list of the fake
            await asyncio.sleep(0.01)
