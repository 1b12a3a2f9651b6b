"""ProcessEngine: any engine in a supervised child process.

A crash, a hang or an exhausted memory ends the child, never the bot. The child is started again, at once at first, then
with growing pauses. What ran in it raises EngineUnavailable, to be tried again by the caller under the same request id;
what ran in it at two deaths raises RequestPoisoned from then on (see `suspects`). A request that the child had not even
taken goes to the next child unnoticed.

    generate ─► gate (as wide as the engine has slots; a suspect takes all of it) ─► child ─► stream of events
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import structlog

from dialogue.engine.base import AdapterRef, EngineHealth, EngineInfo, GenerationEvent, GenerationFinished, GenerationRequest
from dialogue.engine.child_process import ChildProcess, ProcessLimits
from dialogue.engine.child_stream import ChildStream
from dialogue.engine.gate import Gate
from dialogue.engine.spec import EngineSpec
from dialogue.engine.suspects import Suspects
from dialogue.errors import AdapterRejected, DeadlineExceeded, DialogueError, EngineUnavailable, RequestPoisoned

log = structlog.get_logger(__name__)

UNNOTICED_RETRIES = 3  # of a request whose child died before it took it

T = TypeVar("T")


class _NeverBegunError(DialogueError):
    """The child died before it took the request: nobody was told anything, so the next child may have it."""


class ProcessEngine:
    """Implements `Engine` around an engine in a child process."""

    def __init__(self, spec: EngineSpec, limits: ProcessLimits | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._spec = spec
        self._limits = limits or ProcessLimits()
        self._clock = clock
        self._info: EngineInfo | None = None
        self._child: ChildProcess | None = None
        self._adapters: tuple[AdapterRef, ...] = ()
        self._gate = Gate(1)
        self._suspects = Suspects()
        self._changing = asyncio.Lock()  # held while a child is started: the restart and set_adapters() take turns
        self._changed = asyncio.Event()  # replaced at each change of _child, _start_error or _closed
        self._start_error = ""  # why the last start failed; empty = it did not
        self._closed = False
        self._failures = 0  # deaths and failed starts in a row
        self._restarts = 0
        self._born = 0.0  # when the child in use became ready
        self._children: set[ChildProcess] = set()  # all that are not gone: starting, in use, retiring
        self._watchers: set[asyncio.Task[None]] = set()

    @property
    def child_pid(self) -> int:
        """The process id of the child that takes requests now; 0 while there is none."""
        return self._child.pid if self._child else 0

    async def start(self) -> EngineInfo:
        """Start the first child. Raises EngineUnavailable; there is no second attempt by itself."""
        async with self._changing:
            if self._closed:
                raise EngineUnavailable("the engine is closed")
            if self._info is None:
                try:
                    self._use(*await self._launch(self._adapters))
                except AdapterRejected as error:
                    raise EngineUnavailable(str(error)) from error
            return self._started()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """Stream one generation from the child. Raises what the hosted engine raises, EngineUnavailable and RequestPoisoned."""
        submitted = self._clock()
        deadline = submitted + request.deadline_s
        for _ in range(UNNOTICED_RETRIES):
            child, stream = await self._open(request, deadline)
            waited_ms = (self._clock() - submitted) * 1000
            try:
                while not isinstance(event := await self._before(deadline, stream.next()), GenerationFinished):
                    yield event
                self._note_success(request.request_id)
                yield replace(event, queue_ms=event.queue_ms + waited_ms)
            except _NeverBegunError:
                continue
            finally:
                child.cancel(stream)
            return
        raise EngineUnavailable(f"the engine died {UNNOTICED_RETRIES} times before it took the request")

    async def set_adapters(self, adapters: Sequence[AdapterRef]) -> None:
        """Make exactly these adapters available; what runs goes on. Raises AdapterRejected and keeps the old ones.

        An engine that loads adapters only at its start is warmed in a second child; new requests go there, the first
        child ends with its last request.
        """
        async with self._changing:
            if self._closed:
                raise EngineUnavailable("the engine is closed")
            if self._info is not None:
                if self._child is not None and not self._spec.adapters_at_start:
                    await self._load(self._child, adapters)
                else:
                    await self._replace_child(adapters)
            self._adapters = tuple(adapters)

    def health(self) -> EngineHealth:
        trouble = self._trouble()
        figures = self._child.figures if self._child else {}
        return EngineHealth(not trouble, trouble, self._gate.inside, self._gate.waiting, self._restarts, figures)

    async def close(self) -> None:
        """End every child and raise EngineUnavailable in what still runs or waits. Idempotent."""
        self._closed = True
        self._notify()
        for child in tuple(self._children):
            child.closing = True
            await (child.close() if child.streams or child is self._child else child.kill("was closed"))
            self._judge(child, "the engine was closed")
        for watcher in (watchers := tuple(self._watchers)):
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)

    def _trouble(self) -> str:
        """Say why no request can run at the moment; empty = one can."""
        if self._closed:
            return "closed"
        if self._info is None:
            return "not started"
        return "" if self._child is not None else self._start_error or "restarting"

    def _started(self) -> EngineInfo:
        if self._info is None or self._closed:
            raise EngineUnavailable("the engine is closed" if self._closed else "the engine is not started")
        return self._info

    async def _open(self, request: GenerationRequest, deadline: float) -> tuple[ChildProcess, ChildStream]:
        """Wait for the gate and a living child, and hand the request over. The gate is left when the stream has ended."""
        slots = self._started().slots
        if self._suspects.is_condemned(request.request_id):
            raise RequestPoisoned("this request killed the engine twice; it is not tried again")
        width = slots if self._suspects.must_run_alone(request.request_id) else 1
        await self._before(deadline, self._gate.enter(width))
        try:
            child = await self._before(deadline, self._living_child())
            remaining = replace(request, deadline_s=max(0.0, deadline - self._clock()))
            return child, child.open(remaining, on_end=lambda: self._gate.leave(width))
        except BaseException:
            self._gate.leave(width)
            raise

    async def _living_child(self) -> ChildProcess:
        """Wait out a restart; raise EngineUnavailable as long as it fails."""
        while self._child is None or self._closed:
            if self._closed or self._start_error:
                raise EngineUnavailable("the engine is closed" if self._closed else self._start_error)
            await self._changed.wait()
        return self._child

    async def _before(self, deadline: float, result: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock())):
                return await result
        except TimeoutError:
            raise DeadlineExceeded("the deadline of the request passed") from None

    async def _launch(self, adapters: Sequence[AdapterRef]) -> tuple[ChildProcess, EngineInfo]:
        child = ChildProcess(self._spec, self._limits)
        self._children.add(child)
        child.gone.add_done_callback(lambda _: self._children.discard(child))
        return child, await child.start(adapters)

    def _use(self, child: ChildProcess, info: EngineInfo) -> None:
        """Send new requests to this child from now on."""
        self._child, self._info, self._start_error = child, info, ""
        self._born = self._clock()
        self._gate.width = info.slots
        self._spawn_watcher(self._watch(child))
        self._notify()
        log.info("engine_started", pid=child.pid, engine=info.engine, model=info.model, slots=info.slots)

    async def _load(self, child: ChildProcess, adapters: Sequence[AdapterRef]) -> None:
        try:
            await child.set_adapters(adapters)
        except EngineUnavailable as error:
            raise AdapterRejected(f"the engine did not survive them: {error}") from error

    async def _replace_child(self, adapters: Sequence[AdapterRef]) -> None:
        try:
            child, info = await self._launch(adapters)
        except EngineUnavailable as error:
            raise AdapterRejected(str(error)) from error
        old = self._child
        self._use(child, info)
        if old is not None:
            self._spawn_watcher(self._retire(old))

    async def _retire(self, old: ChildProcess) -> None:
        """Let the requests of a replaced child come to their end, then end it."""
        if old.streams:
            await asyncio.wait([stream.ended for stream in old.streams])
        await old.close()

    async def _watch(self, child: ChildProcess) -> None:
        """Wait for the death of a child, judge it, and start the next one if this one was in use."""
        sentence = await asyncio.shield(child.gone)
        self._judge(child, sentence)
        if child is self._child:
            self._child = None
            self._notify()
            if self._clock() - self._born > self._limits.backoff_s[-1]:
                self._failures = 0
            await self._restart()

    async def _restart(self) -> None:
        while self._child is None and not self._closed:
            pause = self._limits.backoff_s[min(self._failures, len(self._limits.backoff_s) - 1)]
            self._failures += 1
            await asyncio.sleep(pause)
            async with self._changing:
                if self._child is None and not self._closed:  # set_adapters() may have been faster
                    await self._try_restart()

    async def _try_restart(self) -> None:
        try:
            launched = await self._launch(self._adapters)
        except (EngineUnavailable, AdapterRejected) as error:
            self._start_error = str(error)
            self._notify()
            log.warning("engine_restart_failed", reason=self._start_error, attempts=self._failures)
        else:
            self._restarts += 1
            self._use(*launched)

    def _judge(self, child: ChildProcess, sentence: str) -> None:
        """End the streams that a dead child took along, and remember whom to suspect."""
        streams = [stream for stream in child.streams if not stream.ended.done()]
        if not child.closing:
            self._suspects.died({stream.request_id for stream in streams if stream.begun})
            log.warning("engine_died", pid=child.pid, reason=sentence, running=len(streams))
        for stream in streams:
            stream.end(self._verdict(child, stream, sentence))

    def _verdict(self, child: ChildProcess, stream: ChildStream, sentence: str) -> DialogueError:
        if child.closing:
            return EngineUnavailable("the engine was closed")
        if not stream.begun:
            return _NeverBegunError()
        if self._suspects.is_condemned(stream.request_id):
            return RequestPoisoned(f"this request killed the engine twice: {sentence}")
        return EngineUnavailable(sentence)

    def _note_success(self, request_id: str) -> None:
        self._suspects.finished(request_id)
        self._failures = 0

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _spawn_watcher(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._watchers.add(task)
        task.add_done_callback(self._watchers.discard)
