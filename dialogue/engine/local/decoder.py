"""Decoders on torch: any causal language model that transformers loads. Meant to live in a child process, works in any.

    generate ─► the worker's thread: scheduler, model, sampling ─► events of the reply

A token's way: `scheduler` decides that it is computed, `decoder_model` computes the step, `slot_attention` lets it see its own
slot, `token_sampling` chooses what follows, `decoder_reply` makes text of it.
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dialogue.engine.adapters import BaseModelFacts, load_adapter
from dialogue.engine.base import AdapterRef, EngineHealth, EngineInfo, GenerationEvent, GenerationFinished, GenerationRequest
from dialogue.engine.cpu_cores import usable_cores
from dialogue.engine.local.decoder_load import FULL, LoadedDecoder, Needs, load_decoder
from dialogue.engine.local.decoder_reply import DecoderReply
from dialogue.engine.local.decoder_worker import STEP_TOKENS, DecoderWorker
from dialogue.engine.local.device_failure import end_process
from dialogue.engine.local.lora_layers import LoadedAdapter, LoraWeights
from dialogue.engine.local.memory import unless_out_of_memory
from dialogue.engine.local.passing_thread import in_passing_thread
from dialogue.engine.local.scheduler import Bounds, Scheduler
from dialogue.engine.local.slot_table import SlotTable
from dialogue.engine.model_files import ModelFiles
from dialogue.errors import AdapterRejected, AdapterUnknown, DeadlineExceeded, EngineError, EngineUnavailable, ModelError, RequestTooLong


@dataclass(frozen=True, slots=True)
class DecoderSettings:
    """What an engine is started with."""

    files: ModelFiles
    cache_dir: Path
    context_tokens: int  # prompt and reply together, per request
    slots: int
    threads: int
    cache_ram_mib: int  # for the KV of conversations that do not run; on a GPU it is the GPU's memory
    tokenizer_sha256: str = ""
    template_sha256: str = ""
    weights: str = FULL  # or INT8
    graphs: bool = True  # on a GPU, replay recorded steps
    overlap: bool = True  # on a GPU, launch a step before the last one's tokens are read


@dataclass(frozen=True, slots=True)
class _Adapters:
    """Those that requests may name."""

    loaded: Mapping[str, LoadedAdapter] = field(default_factory=dict)
    refs: tuple[AdapterRef, ...] = ()


class DecoderEngine:
    """Implements `Engine` with a decoder in this process."""

    def __init__(
        self,
        settings: DecoderSettings,
        *,
        on_fatal: Callable[[Exception], None] | None = None,
        make_table: Callable[[int], SlotTable] = SlotTable,
    ) -> None:
        """`on_fatal` is called in the worker's thread when the device has failed; without it the engine is of no use from then on.

        `make_table` makes the table of slots for a number of places.
        """
        self._settings = settings
        self._on_fatal = on_fatal
        self._make_table = make_table
        files = settings.files
        self._info = EngineInfo("local", files.reference, files.sha256, settings.context_tokens, settings.slots)
        self._decoder: LoadedDecoder | None = None
        self._worker: DecoderWorker | None = None
        self._adapters = _Adapters()
        self._held: tuple[LoadedAdapter, ...] = ()  # installed: those, and what running requests began with
        self._wanted: tuple[AdapterRef, ...] = ()
        self._numbers = itertools.count(1)
        self._changing = asyncio.Lock()
        self._replies: set[DecoderReply] = set()  # those that wait or run
        self._closed = False

    async def start(self) -> EngineInfo:
        """Load the model. Raises EngineUnavailable, and AdapterRejected for an adapter that was set before."""
        async with self._changing:
            if self._closed:
                raise EngineUnavailable("the engine is closed")
            if self._worker is None:
                torch.set_num_threads(self._settings.threads)
                decoder = await in_passing_thread(_load, self._settings)
                worker = self._made_worker(decoder)
                worker.start()
                try:
                    await self._load(decoder, worker, self._wanted)
                except AdapterRejected:
                    await asyncio.to_thread(worker.close)
                    raise
                self._decoder, self._worker = decoder, worker
            return self._info

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """Stream one generation. Raises EngineUnavailable, AdapterUnknown, RequestTooLong and DeadlineExceeded."""
        reply = self._begin(request)
        loop = asyncio.get_running_loop()
        alarm = loop.call_later(request.deadline_s, reply.fail, DeadlineExceeded("the deadline of the request passed"))
        try:
            while not isinstance(event := await reply.next(), GenerationFinished):
                yield event
        finally:
            alarm.cancel()
            reply.give_up()
            await asyncio.wait({reply.done})  # the slot is free before the caller goes on
        yield event

    async def set_adapters(self, adapters: Sequence[AdapterRef]) -> None:
        """Make exactly these adapters available; what runs goes on with the one it has. Raises AdapterRejected."""
        async with self._changing:
            if self._decoder is not None and self._worker is not None and not self._closed:
                await self._load(self._decoder, self._worker, tuple(adapters))
            self._wanted = tuple(adapters)

    def health(self) -> EngineHealth:
        ready = self._worker is not None and self._worker.alive and not self._closed
        running, figures = (self._worker.running, self._worker.figures) if self._worker else (0, {})
        return EngineHealth(ready=ready, running=running, waiting=max(0, len(self._replies) - running), figures=figures)

    async def close(self) -> None:
        """End what runs and free the model. Idempotent."""
        self._closed = True
        for reply in tuple(self._replies):
            reply.fail(EngineUnavailable("the engine was closed"))
        async with self._changing:
            if self._worker is not None:
                await asyncio.to_thread(self._worker.close)
            self._decoder = None

    def _made_worker(self, decoder: LoadedDecoder) -> DecoderWorker:
        kind = decoder.model.device.type
        scheduler = Scheduler(self._make_table(decoder.model.store.places), Bounds(STEP_TOKENS[kind], self._settings.slots))
        return DecoderWorker(decoder.model, scheduler, self._on_fatal, overlaps=kind == "cuda" and self._settings.overlap)

    def _begin(self, request: GenerationRequest) -> DecoderReply:
        """Hand a request to the worker, or refuse it."""
        if self._decoder is None or self._worker is None or self._closed or not self._worker.alive:
            raise EngineUnavailable("the engine is closed" if self._closed else "the engine is not started")
        adapter = self._number(request.adapter)
        if not request.prompt or not all(0 <= token < self._decoder.vocabulary for token in request.prompt):
            raise EngineError("The request holds no token, or one that the model does not know.")
        limit = min(request.sampling.max_tokens, self._settings.context_tokens - len(request.prompt))
        if limit < 1:
            raise RequestTooLong(f"{len(request.prompt)} prompt tokens do not fit a context of {self._settings.context_tokens}")
        reply = DecoderReply(request, adapter, limit, self._decoder.eos_ids, partial(self._decoder.tokenizer.decode, skip_special=True))
        self._replies.add(reply)
        reply.done.add_done_callback(lambda _: self._replies.discard(reply))
        self._worker.submit(reply)
        return reply

    def _number(self, adapter: str | None) -> int:
        if adapter is None:
            return 0
        if adapter not in self._adapters.loaded:
            raise AdapterUnknown(f"adapter {adapter} is not loaded")
        return self._adapters.loaded[adapter].number

    async def _load(self, decoder: LoadedDecoder, worker: DecoderWorker, refs: tuple[AdapterRef, ...]) -> None:
        """Load what is new, then install the whole set; those that are there already stay what they are. Raises AdapterRejected."""
        before = self._adapters
        known = {ref: before.loaded[ref.name] for ref in before.refs}
        loaded = {ref.name: known.get(ref) or await asyncio.to_thread(self._read, decoder, ref) for ref in refs}
        # From here on nobody begins with an adapter that goes, so that those in use are known.
        self._adapters = _Adapters({name: each for name, each in before.loaded.items() if loaded.get(name) is each})
        try:
            await self._install(decoder, worker, tuple(loaded.values()))
        except Exception:
            self._adapters = before
            raise
        self._adapters = _Adapters(loaded, refs)

    def _read(self, decoder: LoadedDecoder, ref: AdapterRef) -> LoadedAdapter:
        try:
            adapter = load_adapter(Path(ref.path), self._facts(decoder))
        except AdapterRejected as error:
            raise AdapterRejected(f"adapter {ref.name}: {error}") from error
        return LoadedAdapter(next(self._numbers), adapter.pairs, adapter.config.r, ref.scale * adapter.config.scaling)

    def _facts(self, decoder: LoadedDecoder) -> BaseModelFacts:
        files = self._settings.files
        config = decoder.model.model.config
        return BaseModelFacts(
            architecture=files.architecture,
            sha256=files.sha256,
            layers=config.num_hidden_layers,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            projections=decoder.model.lora.shapes,
            tokenizer_sha256=self._settings.tokenizer_sha256,
            template_sha256=self._settings.template_sha256,
        )

    async def _install(self, decoder: LoadedDecoder, worker: DecoderWorker, adapters: tuple[LoadedAdapter, ...]) -> None:
        """Let the worker compute with these, and with those that running requests began with. A single one is merged."""
        used = {reply.sequence.adapter for reply in self._replies} - {each.number for each in adapters}
        retired = [each for each in self._held if each.number in used]
        weights = await in_passing_thread(_prepared, decoder, adapters, retired)
        await worker.change(weights)
        self._held = (*adapters, *retired)


def build(arguments: Mapping[str, Any]) -> DecoderEngine:
    """Make an engine from plain JSON values, for a child process."""
    return DecoderEngine(settings_of(arguments), on_fatal=end_process)


def settings_of(arguments: Mapping[str, Any]) -> DecoderSettings:
    """Return what plain JSON values, those of `factory.local_spec`, say."""
    plain: dict[str, Any] = {
        name: arguments[name] for name in ("context_tokens", "slots", "weights", "cache_ram_mib", "tokenizer_sha256", "template_sha256")
    }
    described: dict[str, Any] = dict(arguments["files"])
    paths: dict[str, Any] = {name: Path(described[name]) for name in ("path", "tokenizer_path")}
    files = ModelFiles(**described | paths)
    return DecoderSettings(files, Path(arguments["cache_dir"]), threads=arguments["threads"] or usable_cores(), **plain)


def _load(settings: DecoderSettings) -> LoadedDecoder:
    needs = Needs(settings.context_tokens, settings.slots, settings.cache_ram_mib << 20, settings.weights, graphs=settings.graphs)
    return load_decoder(settings.files, settings.cache_dir, needs)


def _prepared(decoder: LoadedDecoder, adapters: Sequence[LoadedAdapter], retired: Sequence[LoadedAdapter]) -> LoraWeights:
    """Return the weights of a set. Raises AdapterRejected when there is no memory for them, or the model's files are gone."""
    prepare = decoder.model.lora.prepare
    try:
        made = unless_out_of_memory(lambda: prepare(adapters[0], retired)) if len(adapters) == 1 else None
        if made is None:  # several, or a second copy of the layers does not fit: without merging
            made = unless_out_of_memory(lambda: prepare(None, [*adapters, *retired]))
    except ModelError as error:  # of a model in int8, whose exact weights are read again
        raise AdapterRejected(str(error)) from error
    if made is None:
        raise AdapterRejected("there is no memory for these adapters")
    return made
