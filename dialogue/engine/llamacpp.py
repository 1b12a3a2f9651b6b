"""llama.cpp, embedded: the default engine on a CPU. Meant to live in a child process (`process.py`), works in any.

    generate ─► a free slot (`llama_slots`) ─► worker thread: LlamaServer.complete ─► chunks ─► events (`llama_request`)

The server of xllamacpp always opens an HTTP port on the loopback as well. Nobody is meant to use it: it has a random key and
no pages, and Kefu itself speaks HTTP with it for one thing only (`erase`).
"""

import asyncio
import http.client
import json
import os
import secrets
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dialogue.engine.base import AdapterRef, EngineHealth, EngineInfo, GenerationEvent, GenerationFinished, GenerationRequest
from dialogue.engine.cpu_cores import usable_cores
from dialogue.engine.llama_request import Generation, OnChunk, body
from dialogue.engine.llama_slots import PROMPT_SIMILARITY, Seat, SlotTable
from dialogue.engine.lora_gguf import ServedFiles, prepare_adapter
from dialogue.errors import AdapterRejected, AdapterUnknown, DeadlineExceeded, EngineUnavailable, RequestTooLong

# A cancelled request is noticed between two batches, and what other slots generate waits for a batch: 256 tokens are at most
# a second with the default model on two cores. With eight users smaller ones carry less (0.91 of the library's own 512 with 64,
# 0.95 with 128, 0.99 with 256: `kefu bench engine --users 8`), and make the last of them wait longer for a first token.
BATCH_TOKENS = 256
# How long OpenMP's threads spin at a barrier before they sleep. Its default is milliseconds: on cores that others
# use as well, that is the difference between 30 tokens/s and none. Alone on the machine it costs nothing (measured).
SPIN_COUNT = "1000"
LOG_ERRORS = 1  # llama.cpp's verbosity
MAX_THREADS = 256  # far more than slots: threads are made when they are needed
ERASE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What a server is started with."""

    model: Path  # GGUF
    context_tokens: int  # of each slot
    slots: int
    threads: int
    cache_ram_mib: int  # for the KV of conversations that lost their slot; 0 = none


class LlamaServer:
    """A loaded model. Every method blocks; `complete` may run in as many threads as there are slots."""

    def __init__(self, settings: ServerSettings, loras: Sequence[Path] = ()) -> None:
        """Load the model. Holds the interpreter's lock while it does. Raises EngineUnavailable."""
        self.api_key = secrets.token_urlsafe(32)
        library = _library()
        try:
            self._server: Any = library.Server(_parameters(library, settings, loras, self.api_key))
        except RuntimeError as error:
            raise EngineUnavailable(f"llama.cpp cannot load {settings.model}: {error}") from error
        self.address: str = self._server.listening_address
        self._await_loop(len(loras))

    def complete(self, request: str, on_chunk: OnChunk) -> None:
        """Run one completion to its end, or until `on_chunk` returns True."""
        self._server.handle_completions(request, on_chunk)

    def erase(self, slot: int) -> None:
        """Forget what an idle slot holds. Raises EngineUnavailable."""
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=ERASE_TIMEOUT_S)
        try:
            headers = {"Authorization": f"Bearer {self.api_key}", "Content-Type": "application/json"}
            connection.request("POST", f"/slots/{slot}?action=erase", "{}", headers)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise EngineUnavailable(f"llama.cpp does not erase a slot: {error}") from error
        finally:
            connection.close()
        if status != http.client.OK:
            raise EngineUnavailable(f"llama.cpp does not erase a slot: it answers {status}")

    def _await_loop(self, adapters: int) -> None:
        """Generate a token: a server that is freed before its loop has begun would wait for itself for ever."""
        lora = [{"id": number, "scale": 1.0 if number == 0 else 0.0} for number in range(adapters)]
        self.complete(json.dumps({"prompt": [0], "n_predict": 1, "stream": True, "lora": lora, "id_slot": 0}), lambda _: False)

    def close(self) -> None:
        """Free the model. Nothing may run any more."""
        self._server = None


def _library() -> Any:
    """Import xllamacpp: here, because OpenMP reads its setting once, when the library that brings it is loaded."""
    os.putenv("GOMP_SPINCOUNT", SPIN_COUNT)
    import xllamacpp  # noqa: PLC0415

    return xllamacpp


def _parameters(library: Any, settings: ServerSettings, loras: Sequence[Path], api_key: str) -> Any:
    parameters = library.CommonParams()
    parameters.model.path = str(settings.model)
    parameters.n_ctx = settings.context_tokens * settings.slots  # not unified: each slot has its share for itself
    parameters.n_parallel = settings.slots
    parameters.kv_unified = False
    parameters.n_batch = parameters.n_ubatch = max(BATCH_TOKENS, settings.slots)
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = settings.threads
    parameters.fit_params = False  # would shrink the context without a word
    parameters.warmup = True
    parameters.cont_batching = parameters.cache_prompt = True
    parameters.cache_ram_mib = settings.cache_ram_mib
    parameters.cache_idle_slots = False  # a slot is saved when another conversation needs it, not at every request
    parameters.slot_prompt_similarity = PROMPT_SIMILARITY
    parameters.lora_adapters = [library.CommonAdapterLoraInfo(str(path), 1.0) for path in loras]
    parameters.lora_init_without_apply = True  # each request says which it wants
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [api_key]
    parameters.n_threads_http = 2
    parameters.endpoint_slots = parameters.endpoint_props = parameters.endpoint_metrics = parameters.ui = False
    parameters.slot_save_path = os.devnull + os.sep  # allows `erase`; nothing can be saved there
    parameters.use_jinja, parameters.chat_template = (
        False,
        "chatml",
    )  # prompts come as ids; a template that it cannot read would keep it from starting
    parameters.verbosity = LOG_ERRORS
    return parameters


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
    settings: dict[str, Any] = {name: arguments[name] for name in ("context_tokens", "slots", "cache_ram_mib")}
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
