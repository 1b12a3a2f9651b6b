"""RemoteEngine: servers that stream completions of token ids, on one machine or many.

    generate ─► a slot on a server ─► POST /v1/completions ─► server-sent events ─► TextDelta …, GenerationFinished

A conversation stays on one server, where its KV lies; another one takes over when that server is full, or fails before its
first token. After the first token nothing is tried again here: the caller decides. Closing the stream cancels on the server.
"""

import asyncio
import hmac
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

import httpx2
import structlog

from dialogue.config import RemoteConfig
from dialogue.engine.base import AdapterRef, EngineHealth, EngineInfo, GenerationEvent, GenerationRequest
from dialogue.engine.remote_call import RemoteCall, RemoteTimeouts
from dialogue.engine.remote_examine import Encode
from dialogue.engine.remote_fleet import Fleet
from dialogue.engine.remote_seats import Seats, Unexamined
from dialogue.engine.remote_servers import ServerKind, completion_body
from dialogue.engine.replicas import Replica
from dialogue.errors import AdapterUnknown, DeadlineExceeded, EngineError, EngineOverloaded, EngineUnavailable, RequestTooLong

log = structlog.get_logger(__name__)


class RemoteEngine:
    """Implements `Engine` over HTTP.

    `encode` cuts plain text into ids as the prompts are cut; where a server has /tokenize, the two are compared at the start.
    """

    def __init__(
        self,
        config: RemoteConfig,
        *,
        encode: Encode | None = None,
        timeouts: RemoteTimeouts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._timeouts = timeouts or RemoteTimeouts()
        self._clock = clock
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {config.api_key}"} if config.api_key else {},
            timeout=httpx2.Timeout(None, connect=self._timeouts.connect_s),  # the rest is timed by what is waited for
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=32),
            trust_env=False,
        )
        self._fleet = Fleet(config, self._client, encode, self._timeouts, clock)
        self._seats = Seats(self._fleet.replicas, clock)
        self._salt_key = salt_key(config.api_key)
        self._info: EngineInfo | None = None
        self._looking: asyncio.Task[None] | None = None
        self._running = 0
        self._closed = False

    async def start(self) -> EngineInfo:
        """Examine the servers; one that can serve is enough. Raises EngineUnavailable with what is wrong."""
        if self._closed:
            raise EngineUnavailable("the engine is closed")
        if self._info is None:
            self._info = await self._fleet.start()
            self._looking = asyncio.create_task(self._keep_looking())
        return self._info

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """Stream one generation. Raises every EngineError but RequestPoisoned."""
        self._check(request)
        deadline = self._clock() + request.deadline_s
        refusals: list[EngineError] = []
        tried: set[str] = set()
        self._running += 1
        try:
            while (replica := await self._seat(request, tried, deadline, refusals)) is not None:
                tried.add(replica.url)
                begun = False
                try:
                    async with aclosing(self._attempt(replica, request, deadline)) as events:
                        async for event in events:
                            begun = True
                            yield event
                except (EngineUnavailable, EngineOverloaded, AdapterUnknown) as error:
                    if self._closed:
                        raise EngineUnavailable("the engine is closed") from None
                    refusals.append(self._fleet.noted(replica, error))
                    if begun:
                        raise refusals[-1] from None
                except EngineError as error:
                    raise named(replica, error) from None
                else:
                    return
                finally:
                    self._seats.leave(replica)
            raise worth_telling(refusals)
        finally:
            self._running -= 1

    async def set_adapters(self, adapters: Sequence[AdapterRef]) -> None:
        """Make sure that the servers have these adapters; new requests may name them. Raises AdapterRejected."""
        await self._fleet.set_adapters(adapters)

    def health(self) -> EngineHealth:
        replicas = self._fleet.replicas
        answering = sum(replica.facts is not None for replica in replicas)
        troubled = [replica for replica in replicas if replica.facts is None or replica.is_resting(self._clock())]
        troubles = "".join(f"; {replica.label} {replica.detail}" for replica in troubled if replica.detail)
        ready = self._info is not None and not self._closed and answering > 0
        said = f"{answering} of {len(replicas)} servers answer{troubles}"
        return EngineHealth(ready, said, running=self._running - self._seats.waiting, waiting=self._seats.waiting)

    async def close(self) -> None:
        """Break off what runs and leave the servers. Idempotent."""
        self._closed = True
        self._seats.close()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._fleet.close()
        await self._client.aclose()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self._timeouts.look_s)
            try:
                await self._fleet.look()
                self._seats.look()
            except Exception:  # without these looks a server that was away would never come back
                log.exception("remote_look_broke")

    async def _seat(self, request: GenerationRequest, tried: set[str], deadline: float, refusals: list[EngineError]) -> Replica | None:
        """Wait for a slot on a server that was not tried, and see to it that one is examined when none is up.

        None when there is none, or all that are left asked for a pause.
        """
        try:
            while isinstance(found := await self._seats.take(request.cache_key or request.request_id, tried, deadline), Unexamined):
                if (error := await self._trouble_with(found.replica, deadline)) is not None:
                    tried.add(found.replica.url)
                    refusals.append(error)
        except EngineOverloaded as error:
            refusals.append(error)
            return None
        return found

    async def _trouble_with(self, replica: Replica, deadline: float) -> EngineUnavailable | None:
        """Have a server examined; return why it cannot serve. Raises DeadlineExceeded, EngineUnavailable once closed."""
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock())):
                await self._fleet.examine(replica)
        except TimeoutError:
            raise DeadlineExceeded("the deadline of the request passed") from None
        except EngineUnavailable as error:
            if self._closed:
                raise EngineUnavailable("the engine is closed") from None
            return error
        return None

    def _check(self, request: GenerationRequest) -> None:
        if self._info is None or self._closed:
            raise EngineUnavailable("the engine is closed" if self._closed else "the engine is not started")
        if request.adapter is not None and request.adapter not in self._fleet.adapters:
            raise AdapterUnknown(f"the adapter {request.adapter!a} is not loaded")
        check_length(request, self._info.context_tokens)

    async def _attempt(self, replica: Replica, request: GenerationRequest, deadline: float) -> AsyncGenerator[GenerationEvent, None]:
        """Stream one generation from one server."""
        if (facts := replica.facts) is None:
            raise EngineUnavailable(replica.detail)  # another request found out in this moment
        check_length(request, facts.context_tokens)  # it may have come back with less than it had at the start
        salt = hmac.new(self._salt_key, (request.cache_key or request.request_id).encode(), "sha256").hexdigest()
        if request.adapter is not None and request.adapter not in replica.adapters:
            raise AdapterUnknown(f"was not given the adapter {request.adapter!a} yet")
        handle = None if request.adapter is None else replica.adapters[request.adapter]
        call = RemoteCall(
            client=self._client,
            url=f"{replica.url}/v1/completions",
            body=completion_body(facts, self._config.model, request, handle, salt),
            request=request,
            deadline=deadline,
            timeouts=self._timeouts,
            secret=self._config.api_key,
            keep_alive=facts.kind is not ServerKind.LLAMACPP,  # llama.cpp drops a connection that has carried a stream
            clock=self._clock,
        )
        async with aclosing(call.stream()) as events:
            async for event in events:
                replica.answered()
                yield event


def salt_key(api_key: str) -> bytes:
    """Return the secret behind the cache salts.

    Processes that share a key share it, so that whichever of them has the next message of a conversation finds its KV again.
    Without a key, every process keeps its own.
    """
    return hmac.digest(api_key.encode(), b"kefu cache salt", "sha256") if api_key else secrets.token_bytes(32)


def check_length(request: GenerationRequest, context_tokens: int) -> None:
    """Raise RequestTooLong for a prompt that leaves no room for a reply."""
    if len(request.prompt) >= context_tokens:
        raise RequestTooLong(f"{len(request.prompt)} tokens do not fit into a context of {context_tokens}")


def named(replica: Replica, error: EngineError) -> EngineError:
    """Return a refusal of the request with the server's name in it; too long and too late are no matter of one server."""
    return EngineError(f"{replica.label} {error}") if type(error) is EngineError else error


def worth_telling(refusals: Sequence[EngineError]) -> EngineError:
    """Of what all servers said, return what helps the caller most: come back soon, then what is wrong."""
    overloaded = [error for error in refusals if isinstance(error, EngineOverloaded)]
    if overloaded:
        return min(overloaded, key=lambda error: error.retry_after_s)
    return next((error for error in refusals if isinstance(error, AdapterUnknown)), refusals[0])
