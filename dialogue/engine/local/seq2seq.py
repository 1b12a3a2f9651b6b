"""Encoder–decoders on torch: translation and summaries. Meant to live in a child process (`process.py`), works in any.

    generate ─► a free slot ─► the worker's thread: batches, step by step ─► events of the reply

Each adapter is a merged copy of the weights, so that a step costs the same with it and without.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dialogue.engine.adapters import BaseModelFacts
from dialogue.engine.base import AdapterRef, EngineHealth, EngineInfo, GenerationEvent, GenerationFinished, GenerationRequest
from dialogue.engine.cpu_cores import usable_cores
from dialogue.engine.local.device_failure import end_process
from dialogue.engine.local.passing_thread import in_passing_thread
from dialogue.engine.local.seq2seq_adapter import load_seq2seq_adapter, merged, seq2seq_facts
from dialogue.engine.local.seq2seq_codec import Seq2SeqCodec
from dialogue.engine.local.seq2seq_model import Seq2SeqModel, load_weights
from dialogue.engine.local.seq2seq_reply import Reply
from dialogue.engine.local.seq2seq_worker import Seq2SeqWorker
from dialogue.errors import (
    AdapterRejected,
    AdapterUnknown,
    DeadlineExceeded,
    EngineError,
    EngineUnavailable,
    ModelError,
    RequestTooLong,
)


@dataclass(frozen=True, slots=True)
class Seq2SeqSettings:
    """What an engine is started with."""

    folder: Path  # as `seq2seq_files` describes it
    reference: str
    sha256: str
    context_tokens: int  # source and reply together, per request
    slots: int
    threads: int


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What can answer."""

    codec: Seq2SeqCodec
    models: Mapping[str | None, Seq2SeqModel]  # by adapter; None = the base model
    refs: tuple[AdapterRef, ...] = ()


class Seq2SeqEngine:
    """Implements `Engine` with an encoder–decoder in this process."""

    def __init__(self, settings: Seq2SeqSettings, *, on_fatal: Callable[[Exception], None] | None = None) -> None:
        """`on_fatal` is called in the worker's thread when the device has failed."""
        self._settings = settings
        self._info = EngineInfo("seq2seq", settings.reference, settings.sha256, settings.context_tokens, settings.slots)
        self._adapters: tuple[AdapterRef, ...] = ()
        self._loaded: _Loaded | None = None
        self._worker = Seq2SeqWorker(on_fatal)
        self._free = asyncio.Semaphore(settings.slots)
        self._changing = asyncio.Lock()
        self._replies: set[Reply] = set()  # those that run
        self._waiting = 0
        self._closed = False

    async def start(self) -> EngineInfo:
        """Load the model. Raises EngineUnavailable, and AdapterRejected for an adapter that was set before."""
        async with self._changing:
            if self._closed:
                raise EngineUnavailable("the engine is closed")
            if self._loaded is None:
                torch.set_num_threads(self._settings.threads)
                loaded = await in_passing_thread(_load, self._settings.folder)
                self._loaded = await in_passing_thread(self._with_adapters, loaded, self._adapters)
                self._worker.start()
            return self._info

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """Stream one generation. Raises EngineUnavailable, AdapterUnknown, RequestTooLong and DeadlineExceeded."""
        loop = asyncio.get_running_loop()
        submitted = loop.time()
        loaded = self._accept(request)
        await self._free_slot(submitted + request.deadline_s)
        reply = self._begin(loaded, request)
        queue_ms = (loop.time() - submitted) * 1000
        alarm = loop.call_at(submitted + request.deadline_s, reply.fail, DeadlineExceeded("the deadline passed while generating"))
        try:
            while not isinstance(event := await reply.next(), GenerationFinished):
                yield event
        finally:
            alarm.cancel()
            reply.unwanted = True
            await asyncio.wait({reply.done})  # the slot is free before the caller goes on
        yield replace(event, queue_ms=queue_ms)

    async def set_adapters(self, adapters: Sequence[AdapterRef]) -> None:
        """Make exactly these adapters available; what runs goes on with the one it has. Raises AdapterRejected."""
        async with self._changing:
            if self._loaded is not None and not self._closed:
                self._loaded = await in_passing_thread(self._with_adapters, self._loaded, tuple(adapters))
            self._adapters = tuple(adapters)

    def health(self) -> EngineHealth:
        ready = self._loaded is not None and not self._closed
        return EngineHealth(ready=ready, running=len(self._replies), waiting=self._waiting)

    async def close(self) -> None:
        """End what runs and free the model. Idempotent."""
        self._closed = True
        for reply in tuple(self._replies):
            reply.fail(EngineUnavailable("the engine was closed"))
        async with self._changing:
            await asyncio.to_thread(self._worker.close)
            self._loaded = None

    def _accept(self, request: GenerationRequest) -> _Loaded:
        """Return what takes this request, or refuse it."""
        if self._loaded is None or self._closed:
            raise EngineUnavailable("the engine is closed" if self._closed else "the engine is not started")
        model = self._loaded.models.get(request.adapter)
        if model is None:
            raise AdapterUnknown(f"adapter {request.adapter} is not loaded")
        if not request.prompt or not (
            _are_known(request.prompt, model.vocabulary) and _are_known(request.decoder_prompt, model.reply_vocabulary)
        ):
            raise EngineError("The request holds no token, or one that the model does not know.")
        if self._limit(self._loaded, request) < 1:
            raise RequestTooLong(f"{len(request.prompt)} tokens are more than the model can read")
        return self._loaded

    def _limit(self, loaded: _Loaded, request: GenerationRequest) -> int:
        """Return how long the reply may get; each side of the model has its own length, both together the context."""
        side = loaded.codec.positions or self._settings.context_tokens
        if len(request.prompt) > side:
            return 0
        reply = side - max(0, len(request.decoder_prompt) - 1) if loaded.codec.positions else side
        return min(request.sampling.max_tokens, self._settings.context_tokens - len(request.prompt), reply)

    async def _free_slot(self, deadline: float) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                await self._free.acquire()
        except TimeoutError:
            raise DeadlineExceeded("no slot became free before the deadline") from None
        finally:
            self._waiting -= 1
        if self._closed:
            self._free.release()
            raise EngineUnavailable("the engine was closed")

    def _begin(self, loaded: _Loaded, request: GenerationRequest) -> Reply:
        """Hand a request to the worker; its slot is free when the worker lets go of it."""
        model = loaded.models[request.adapter]
        limit = self._limit(loaded, request)
        reply = Reply(request, request.decoder_prompt or model.beginning, limit, model.eos_ids, loaded.codec.decode)
        self._replies.add(reply)
        reply.done.add_done_callback(lambda _: self._end(reply))
        self._worker.submit(model, reply)
        return reply

    def _end(self, reply: Reply) -> None:
        self._replies.discard(reply)
        self._free.release()

    def _with_adapters(self, loaded: _Loaded, refs: tuple[AdapterRef, ...]) -> _Loaded:
        """Return the base model with these adapters; those that are there already stay. Raises AdapterRejected."""
        known = {ref: loaded.models[ref.name] for ref in loaded.refs}
        models = {ref.name: known.get(ref) or self._merge(loaded, ref) for ref in refs}
        return _Loaded(loaded.codec, {None: loaded.models[None], **models}, refs)

    def _merge(self, loaded: _Loaded, ref: AdapterRef) -> Seq2SeqModel:
        base = loaded.models[None].model
        try:
            adapter = load_seq2seq_adapter(Path(ref.path), base, self._facts(loaded.codec))
        except AdapterRejected as error:
            raise AdapterRejected(f"adapter {ref.name}: {error}") from error
        return Seq2SeqModel(merged(base, adapter, ref.scale))

    def _facts(self, codec: Seq2SeqCodec) -> BaseModelFacts:
        return seq2seq_facts(codec.model_type, self._settings.sha256, codec.sha256, codec.layout_sha256)


def build(arguments: Mapping[str, Any]) -> Seq2SeqEngine:
    """Make an engine from plain JSON values, for a child process."""
    plain: dict[str, Any] = {name: arguments[name] for name in ("reference", "sha256", "context_tokens", "slots")}
    settings = Seq2SeqSettings(Path(arguments["folder"]), threads=arguments["threads"] or usable_cores(), **plain)
    return Seq2SeqEngine(settings, on_fatal=end_process)


def _load(folder: Path) -> _Loaded:
    """Read tokenizer and weights: in float32 on a CPU, in bfloat16 on a GPU. Raises EngineUnavailable."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        codec = Seq2SeqCodec(folder)
    except ModelError as error:
        raise EngineUnavailable(str(error)) from error
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    return _Loaded(codec, {None: Seq2SeqModel(load_weights(folder, device, dtype))})


def _are_known(ids: Sequence[int], vocabulary: int) -> bool:
    return all(0 <= token < vocabulary for token in ids)
