"""One completion from one server: the request goes out, server-sent events come in, every failure gets its type.

Errors speak of the server without naming it ("answered 500: …"); the caller knows which one it was.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import httpx2

from dialogue.engine.base import GenerationEvent, GenerationRequest
from dialogue.engine.completion_stream import CompletionStream, StreamBroken
from dialogue.engine.remote_servers import Json, error_from, words_of
from dialogue.engine.stops import StopFilter
from dialogue.errors import DeadlineExceeded, EngineUnavailable

T = TypeVar("T")

MAX_ERROR_BYTES = 64 << 10
MAX_EVENT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class RemoteTimeouts:
    """How long a server may be silent, in seconds. The deadline of a request holds besides."""

    connect_s: float = 5.0
    examine_s: float = 30.0  # all questions of one examination; all adapters of one promotion
    first_token_s: float = 60.0  # a long prompt on a busy server
    between_tokens_s: float = 30.0
    health_s: float = 10.0  # the answer of an idle server that is asked how it is
    look_s: float = 5.0  # between two looks at servers that failed or have nothing to do


@dataclass(frozen=True, slots=True)
class RemoteCall:
    """What is needed to ask one server for one generation."""

    client: httpx2.AsyncClient
    url: str  # of /v1/completions
    body: Json
    request: GenerationRequest
    deadline: float  # seconds on `clock`
    timeouts: RemoteTimeouts
    secret: str  # never shown, whatever the server says
    keep_alive: bool = True
    clock: Callable[[], float] = time.monotonic

    async def stream(self) -> AsyncGenerator[GenerationEvent, None]:
        """Stream the generation. Raises EngineError; closing cancels it on the server."""
        started = self.clock()
        until, first = started + self.timeouts.first_token_s, 0.0
        completion = CompletionStream(len(self.request.prompt), StopFilter(self.request.sampling.stop))
        async with self._response(until) as response, aclosing(_events(response)) as events:
            while not completion.ended and (data := await self._within(anext(events, None), until)) is not None:
                if delta := self._fed(completion, data):
                    first = first or self.clock()
                    yield delta
                until = self.clock() + self.timeouts.between_tokens_s
        if completion.reason is None:
            raise EngineUnavailable("ended the stream before the generation was complete")
        if rest := completion.rest():
            yield rest
        now = self.clock()
        yield completion.finished(((first or now) - started) * 1000, (now - started) * 1000)

    @asynccontextmanager
    async def _response(self, until: float) -> AsyncIterator[httpx2.Response]:
        """Send the request and give the answer, whose body has not been read. Raises EngineError for a refusal."""
        headers = {"Accept": "text/event-stream"} | ({} if self.keep_alive else {"Connection": "close"})
        outgoing = self.client.build_request("POST", self.url, json=self.body, headers=headers)
        response = await self._within(self.client.send(outgoing, stream=True), until)
        try:
            if response.status_code != httpx2.codes.OK:
                words = words_of(await self._within(read_at_most(response, MAX_ERROR_BYTES), until), self.secret)
                raise error_from(response.status_code, response.headers.get("retry-after", ""), words, self.request)
            yield response
        finally:
            await response.aclose()

    def _fed(self, completion: CompletionStream, data: str) -> GenerationEvent | None:
        try:
            return completion.feed(data)
        except StreamBroken as broken:
            words = words_of(str(broken).encode("utf-8", "replace"), self.secret)
            raise error_from(broken.status, "", words, self.request) from None

    async def _within(self, result: Awaitable[T], until: float) -> T:
        """Wait, but not longer than `until` and the deadline; errors of the network become typed ones."""
        now = self.clock()
        try:
            async with asyncio.timeout(max(0.0, min(until, self.deadline) - now)):
                return await result
        except TimeoutError:
            if self.deadline <= until:
                raise DeadlineExceeded("the deadline of the request passed") from None
            raise EngineUnavailable(f"was silent for {until - now:.0f} s") from None
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise EngineUnavailable(f"broke the connection ({type(error).__name__})") from None


async def _events(response: httpx2.Response) -> AsyncGenerator[str, None]:
    """Yield the data of each server-sent event."""
    async for event in httpx2.EventSource(response, max_event_size=MAX_EVENT_BYTES):
        yield event.data


async def read_at_most(response: httpx2.Response, limit: int) -> bytes:
    """Return the first `limit` bytes of a body, whatever the server sends."""
    data = b""
    async with aclosing(response.aiter_bytes()) as chunks:
        async for chunk in chunks:
            data += chunk
            if len(data) >= limit:
                break
    return data[:limit]
