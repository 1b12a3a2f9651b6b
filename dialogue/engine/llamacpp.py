"""llama.cpp, embedded: the default engine on a CPU. Meant to live in a child process (`process.py`), works in any.

generate ─► a free slot (`llama_slots`) ─► worker thread: `llama_server` completes ─► chunks ─► events (`llama_request`)
"""

import asyncio
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dialogue.engine.base import AdapterRef, EngineHealth, EngineInfo, GenerationEvent, GenerationFinished, GenerationRequest
from dialogue.engine.cpu_cores import usable_cores
from dialogue.engine.llama_request import Generation, body
from dialogue.engine.llama_server import LlamaServer, ServerSettings
from dialogue.engine.llama_slots import Seat, SlotTable
from dialogue.engine.lora_gguf import ServedFiles, prepare_adapter
from dialogue.errors import AdapterRejected, AdapterUnknown, DeadlineExceeded, EngineUnavailable, RequestTooLong

MAX_THREADS = 256  # far more than slots: threads are made when they are needed


@dataclass(frozen=True, slots=True)
class _Adapter:
    ref: AdapterRef
    lora: Path  # GGUF


class _Runtime:
    """A server with its slots and adapters. New adapters mean a new one; the old one ends with its last request."""

    def __init__(self, server: LlamaServer, slots: int, adapters: Sequence[_Adapter]) -> None:
        self.server = server
        self.free = asyncio.Semaphore(slots)
        self.table = SlotTable(slots, cached_adapter=adapters[0].ref.name if adapters else None)
        self.users = 0  # requests that wait or run
        self._scales = {each.ref.name: (number, each.ref.scale) for number, each in enumerate(adapters)}
        self._changed = asyncio.Event()

    def has(self, adapter: str | None) -> bool:
        """Tell whether requests may name this adapter; None is the base model."""
        return adapter is None or adapter in self._scales

    def lora(self, adapter: str | None) -> list[dict[str, float]]:
        """Return the `lora` of a request: every adapter at 0 but the wanted one."""
        return [{"id": number, "scale": scale if name == adapter else 0.0} for name, (number, scale) in self._scales.items()]

    @contextmanager
    def used(self) -> Iterator[None]:
        """Keep the server alive."""
        self.users += 1
        try:
            yield
        finally:
            self.users -= 1
            self._changed.set()

    def release(self, seat: Seat, generated: int | None) -> None:
        """Give a slot to the next one."""
        self.table.release(seat, generated)
        self.free.release()
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until requests have come to their ends so far that `condition` holds."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()


class LlamaCppEngine:
    """Implements `Engine` with llama.cpp in this process."""

    def __init__(self, settings: ServerSettings, files: ServedFiles, *, reference: str, cache_dir: Path) -> None:
        """Prepare an engine for `settings.model`, known as `reference`. Adapters must fit `files` and are converted into `cache_dir`."""
        self._settings = settings
        self._files = files
        self._info = EngineInfo("llamacpp", reference, files.sha256, settings.context_tokens, settings.slots)
        self._cache_dir = cache_dir
        self._adapters: tuple[_Adapter, ...] = ()
        self._runtime: _Runtime | None = None  # takes new requests
        self._runtimes: set[_Runtime] = set()  # that one, and those that end
        self._generations: set[Generation] = set()
        self._retiring: set[asyncio.Task[None]] = set()
        self._changing = asyncio.Lock()
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="llamacpp")
        self._closed = False

    async def start(self) -> EngineInfo:
        """Load the model. Raises EngineUnavailable."""
        async with self._changing:
            if self._closed:
                raise EngineUnavailable("the engine is closed")
            if self._runtime is None:
                await self._load(self._adapters)
            return self._info

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """Stream one generation. Raises EngineUnavailable, AdapterUnknown, RequestTooLong and DeadlineExceeded."""
        runtime = self._accept(request)
        loop = asyncio.get_running_loop()
        submitted = loop.time()
        with runtime.used():
            await self._free_slot(runtime, submitted + request.deadline_s)
            queue_ms = (loop.time() - submitted) * 1000
            generation, done = self._begin(runtime, request)
            alarm = loop.call_at(submitted + request.deadline_s, generation.fail, DeadlineExceeded("the deadline passed while generating"))
            try:
                while not isinstance(event := await generation.next(), GenerationFinished):
                    yield event
            finally:
                alarm.cancel()
                generation.cancel()
                await asyncio.wait({done})  # the slot is free before the caller goes on
        yield replace(event, queue_ms=queue_ms)

    async def set_adapters(self, adapters: Sequence[AdapterRef]) -> None:
        """Make exactly these adapters available. After start() this loads a second server beside the first. Raises AdapterRejected."""
        async with self._changing:
            prepared = [_Adapter(ref, await asyncio.to_thread(self._prepare, ref)) for ref in adapters]
            if self._runtime is not None and not self._closed:
                try:
                    await self._load(prepared)
                except EngineUnavailable as error:
                    raise AdapterRejected(str(error)) from error
            self._adapters = tuple(prepared)

    def health(self) -> EngineHealth:
        running = sum(runtime.table.running for runtime in self._runtimes)
        users = sum(runtime.users for runtime in self._runtimes)
        return EngineHealth(ready=self._runtime is not None and not self._closed, running=running, waiting=max(0, users - running))

    async def close(self) -> None:
        """End what runs and free the model. Idempotent."""
        self._closed = True
        for generation in self._generations:
            generation.fail(EngineUnavailable("the engine was closed"))
        async with self._changing:
            for runtime in tuple(self._runtimes):
                await self._end(runtime, lambda runtime=runtime: not runtime.table.running)
            for task in (retiring := tuple(self._retiring)):
                task.cancel()
            await asyncio.gather(*retiring, return_exceptions=True)
        self._threads.shutdown(wait=False)

    def _accept(self, request: GenerationRequest) -> _Runtime:
        """Return the server that takes this request, or refuse it."""
        if self._runtime is None or self._closed:
            raise EngineUnavailable("the engine is closed" if self._closed else "the engine is not started")
        if not self._runtime.has(request.adapter):
            raise AdapterUnknown(f"adapter {request.adapter} is not loaded")
        if len(request.prompt) >= self._settings.context_tokens:
            raise RequestTooLong(f"{len(request.prompt)} prompt tokens do not fit a context of {self._settings.context_tokens}")
        return self._runtime

    async def _free_slot(self, runtime: _Runtime, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await runtime.free.acquire()
        except TimeoutError:
            raise DeadlineExceeded("no slot became free before the deadline") from None
        if self._closed:
            runtime.free.release()
            raise EngineUnavailable("the engine was closed")

    def _begin(self, runtime: _Runtime, request: GenerationRequest) -> "tuple[Generation, asyncio.Future[None]]":
        """Start a request in a free slot; the future is done when the slot is free again."""
        generation = Generation(request)
        seat = runtime.table.take(request.cache_key, request.adapter, request.prompt)
        limit = min(request.sampling.max_tokens, self._settings.context_tokens - len(request.prompt))
        text = body(request, seat.index, limit, runtime.lora(request.adapter))
        self._generations.add(generation)

        def end(_: asyncio.Future[None]) -> None:
            self._generations.discard(generation)
            runtime.release(seat, generation.generated)

        done = asyncio.get_running_loop().run_in_executor(self._threads, _work, runtime.server, seat, text, generation)
        done.add_done_callback(end)
        return generation, done

    def _prepare(self, ref: AdapterRef) -> Path:
        return prepare_adapter(Path(ref.path), self._files, self._cache_dir)

    async def _load(self, adapters: Sequence[_Adapter]) -> None:
        """Load a server and send new requests there; the one before it ends with its last request."""
        handlers = _signal_handlers()
        try:
            server = await asyncio.to_thread(LlamaServer, self._settings, [each.lora for each in adapters])
        finally:
            _restore(handlers)
        old, self._runtime = self._runtime, _Runtime(server, self._settings.slots, adapters)
        self._runtimes.add(self._runtime)
        if old is not None:
            task = asyncio.create_task(self._end(old, lambda: not old.users and not old.table.running))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def _end(self, runtime: _Runtime, condition: Callable[[], bool]) -> None:
        """Free a server when `condition` holds."""
        await runtime.until(condition)
        self._runtimes.discard(runtime)
        await asyncio.to_thread(runtime.server.close)


def build(arguments: Mapping[str, Any]) -> LlamaCppEngine:
    """Make an engine from plain JSON values, for a child process: the fields of ServerSettings and what the engine takes."""
    settings: dict[str, Any] = {name: arguments[name] for name in ("context_tokens", "slots", "cache_ram_mib", "speculation")}
    hashes: dict[str, str] = {name: arguments[name] for name in ("sha256", "tokenizer_sha256", "template_sha256")}
    model = Path(arguments["model"])
    return LlamaCppEngine(
        ServerSettings(model=model, threads=arguments["threads"] or usable_cores(), **settings),
        ServedFiles(model, **hashes),
        reference=arguments["reference"],
        cache_dir=Path(arguments["cache_dir"]),
    )


def _work(server: LlamaServer, seat: Seat, text: str, generation: Generation) -> None:
    """Run a request, in a worker thread."""
    try:
        if seat.erase:
            server.erase(seat.index)
        server.complete(text, generation.on_chunk)
    except Exception as error:  # noqa: BLE001 - whatever it was, the request ends with it and says so
        generation.on_end(error)
    else:
        generation.on_end()


def _signal_handlers() -> dict[signal.Signals, Any]:
    """Return who handles the signals that llama.cpp takes for itself; nothing where they cannot be set again."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: handler for number in (signal.SIGINT, signal.SIGTERM) if (handler := signal.getsignal(number)) is not None}


def _restore(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
