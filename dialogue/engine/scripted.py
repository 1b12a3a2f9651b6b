"""ScriptedEngine: answers by rule, keeps every promise of an engine and fails when it is told to. Ships for tests.

Without a `reply` it reads token ids below 256 as bytes of UTF-8 and answers "You said: …". A completion token is four
bytes of the reply, so that characters lie across tokens as they do with real models.
"""

import asyncio
import codecs
import contextlib
import itertools
import os
import resource
import signal
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn

from dialogue.engine.base import (
    AdapterRef,
    EngineHealth,
    EngineInfo,
    FinishReason,
    GenerationEvent,
    GenerationFinished,
    GenerationRequest,
    TextDelta,
)
from dialogue.engine.stops import StopFilter
from dialogue.errors import AdapterRejected, AdapterUnknown, DeadlineExceeded, EngineUnavailable, RequestTooLong

BYTES_PER_TOKEN = 4
KEPT_PROMPTS = 64  # cache keys that are remembered, as an engine with little memory would
HEADROOM_BYTES = 128 << 20  # what OUT_OF_MEMORY may allocate before the limit, so that the machine never feels it

Reply = str | Callable[[Sequence[int]], str]
Sleep = Callable[[float], Awaitable[None]]


class FaultKind(StrEnum):
    """How a scripted request goes wrong. STUBBORN and what follows is for an engine in a child process."""

    RAISE = "raise"  # EngineUnavailable
    BUG = "bug"  # an error that no engine should let out
    STALL = "stall"  # this request makes no progress any more; the others do
    STUBBORN = "stubborn"  # this request makes no progress and does not end when it is cancelled
    FREEZE = "freeze"  # the whole process makes no progress any more
    CRASH = "crash"  # the process aborts, as native code does
    KILL = "kill"  # SIGKILL, as the kernel does when memory is short
    OUT_OF_MEMORY = "out_of_memory"  # allocates until there is none


@dataclass(frozen=True, slots=True)
class Fault:
    """Which requests fail, how, and after how many completion tokens."""

    kind: FaultKind
    request_ids: tuple[str, ...] = ()  # these, every time they come
    every: int = 0  # and each n-th request since the engine was made; 0 = none
    after_tokens: int = 1


def echo(prompt: Sequence[int]) -> str:
    """Read ids as bytes of UTF-8 where they are, as numbers where not."""
    if all(0 <= token < 256 for token in prompt):
        return f"You said: {bytes(prompt).decode('utf-8', errors='replace')}"
    return f"You said: {' '.join(map(str, prompt[-16:]))}"


def build(arguments: Mapping[str, Any]) -> "ScriptedEngine":
    """Make an engine from plain JSON values, for a child process."""
    plain: dict[str, Any] = {name: value for name, value in arguments.items() if name != "faults"}
    return ScriptedEngine(**plain, faults=[_fault(**fault) for fault in arguments.get("faults", ())])


def _fault(kind: str, request_ids: Sequence[str] = (), every: int = 0, after_tokens: int = 1) -> Fault:
    return Fault(FaultKind(kind), tuple(request_ids), every, after_tokens)


class ScriptedEngine:
    """Implements `Engine` by rule."""

    def __init__(
        self,
        reply: Reply = echo,
        *,
        slots: int = 4,
        context_tokens: int = 8192,
        prompt_delay_s: float = 0.0,  # before the first token
        token_delay_s: float = 0.0,  # before each token
        start_delay_s: float = 0.0,
        start_error: str = "",  # start() raises EngineUnavailable with these words
        faults: Sequence[Fault] = (),
        sleep: Sleep = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reply = reply
        self._info = EngineInfo("scripted", "scripted", "0" * 64, context_tokens, slots)
        self._prompt_delay_s = prompt_delay_s
        self._token_delay_s = token_delay_s
        self._start_delay_s = start_delay_s
        self._start_error = start_error
        self._faults = tuple(faults)
        self._sleep = sleep
        self._clock = clock
        self._free = asyncio.Semaphore(slots)
        self._adapters: dict[str, AdapterRef] = {}
        self._seen: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        self._count = itertools.count(1)
        self._started = False
        self._closed = False
        self._running = 0
        self._waiting = 0

    async def start(self) -> EngineInfo:
        """Be ready after `start_delay_s`. Raises EngineUnavailable when told to, or after close()."""
        if self._closed:
            raise EngineUnavailable("the engine is closed")
        if self._start_delay_s:
            await self._sleep(self._start_delay_s)
        if self._start_error:
            raise EngineUnavailable(self._start_error)
        self._started = True
        return self._info

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """Stream the reply to `request`, four bytes a token."""
        self._refuse(request)
        submitted = self._clock()
        deadline = submitted + request.deadline_s
        number = next(self._count)
        await self._take_slot(deadline)
        try:
            started = self._clock()
            cached = self._remember(request)
            await self._step(self._prompt_delay_s, deadline)
            prompted = self._clock()
            stops = StopFilter(request.sampling.stop)
            characters = codecs.getincrementaldecoder("utf-8")("ignore")
            made, limit = 0, self._limit(request)
            for token in itertools.islice(self._tokens(request), limit):
                await self._fail_if_told(request, number, made, deadline)
                await self._step(self._token_delay_s, deadline)
                made += 1
                if text := stops.push(characters.decode(token)):
                    yield TextDelta(text)
                if stops.stopped:
                    break
            await self._fail_if_told(request, number, made, deadline)
            if rest := stops.flush():
                yield TextDelta(rest)
            finished = GenerationFinished(
                reason=FinishReason.LENGTH if made == limit and not stops.stopped else FinishReason.STOP,
                prompt_tokens=len(request.prompt),
                completion_tokens=made,
                cached_tokens=cached,
                queue_ms=(started - submitted) * 1000,
                prompt_ms=(prompted - started) * 1000,
                generation_ms=(self._clock() - prompted) * 1000,
            )
        finally:
            self._running -= 1
            self._free.release()
        yield finished  # when the slot is free already: the consumer may never come back

    async def set_adapters(self, adapters: Sequence[AdapterRef]) -> None:
        """Make exactly these adapters available, before or after start(). A path that is no folder is rejected."""
        for adapter in adapters:
            if not await asyncio.to_thread(Path(adapter.path).is_dir):
                raise AdapterRejected(f"adapter {adapter.name}: there is no folder {adapter.path}")
        self._adapters = {adapter.name: adapter for adapter in adapters}

    def health(self) -> EngineHealth:
        return EngineHealth(ready=self._started and not self._closed, running=self._running, waiting=self._waiting)

    async def close(self) -> None:
        self._closed = True

    def _refuse(self, request: GenerationRequest) -> None:
        if not self._started or self._closed:
            raise EngineUnavailable("the engine is closed" if self._closed else "the engine is not started")
        if len(request.prompt) >= self._info.context_tokens:
            raise RequestTooLong(f"{len(request.prompt)} prompt tokens do not fit a context of {self._info.context_tokens}")
        if request.adapter is not None and request.adapter not in self._adapters:
            raise AdapterUnknown(f"adapter {request.adapter} is not loaded")

    async def _take_slot(self, deadline: float) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock())):
                await self._free.acquire()
        except TimeoutError:
            raise DeadlineExceeded("no slot became free before the deadline") from None
        finally:
            self._waiting -= 1
        self._running += 1

    async def _step(self, delay_s: float, deadline: float) -> None:
        """Let others run and `delay_s` pass. The time limit holds only in here: a consumer may take as long as it likes."""
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock())):
                await self._sleep(delay_s)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed while generating") from None
        if self._closed:
            raise EngineUnavailable("the engine was closed")

    def _remember(self, request: GenerationRequest) -> int:
        """Return how many prompt tokens an engine that kept this conversation's KV would not compute again."""
        if not request.cache_key:
            return 0
        before = self._seen.pop(request.cache_key, ())
        self._seen[request.cache_key] = request.prompt
        if len(self._seen) > KEPT_PROMPTS:
            self._seen.popitem(last=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(before, request.prompt, strict=False)))

    def _limit(self, request: GenerationRequest) -> int:
        return min(request.sampling.max_tokens, self._info.context_tokens - len(request.prompt))

    def _tokens(self, request: GenerationRequest) -> Iterator[bytes]:
        """Yield the reply in pieces of four bytes; again and again where the end of the turn is to be ignored."""
        reply = self._reply if isinstance(self._reply, str) else self._reply(request.prompt)
        if request.adapter is not None and self._adapters[request.adapter].scale:
            reply = f"[{request.adapter}] {reply}"
        data = reply.encode()
        pieces = [data[at : at + BYTES_PER_TOKEN] for at in range(0, len(data), BYTES_PER_TOKEN)]
        return itertools.cycle(pieces or [b"    "]) if request.sampling.ignore_eos else iter(pieces)

    async def _fail_if_told(self, request: GenerationRequest, number: int, made: int, deadline: float) -> None:
        for fault in self._faults:
            chosen = request.request_id in fault.request_ids or (fault.every and number % fault.every == 0)
            if chosen and made == fault.after_tokens:
                await self._fail(fault.kind, deadline)

    async def _fail(self, kind: FaultKind, deadline: float) -> None:
        match kind:
            case FaultKind.RAISE:
                raise EngineUnavailable("scripted failure")
            case FaultKind.BUG:
                raise RuntimeError("scripted bug")
            case FaultKind.STALL:
                await self._step(max(0.0, deadline - self._clock()) + 1, deadline)
            case FaultKind.STUBBORN:
                await _never()
            case FaultKind.FREEZE:
                threading.Event().wait()
            case FaultKind.CRASH:
                os.abort()
            case FaultKind.KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            case FaultKind.OUT_OF_MEMORY:
                _exhaust_memory()


async def _never() -> NoReturn:
    """Wait for ever, whatever anybody says."""
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


def _exhaust_memory() -> NoReturn:
    """Allocate until MemoryError, under a limit of this process alone."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = HEADROOM_BYTES + resource.getpagesize() * int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    hoard = []
    while True:
        hoard.append(bytearray(16 << 20))
