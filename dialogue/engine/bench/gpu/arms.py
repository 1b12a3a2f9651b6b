"""The arms of the GPU bench. All of them answer the same prompts of random ids, greedily, at the same length."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from dialogue.engine.base import GenerationFinished, GenerationRequest, SamplingParams
from dialogue.engine.bench.gpu.shapes import Shape, cost, random_model
from dialogue.engine.bench.metrics import ModelCost
from dialogue.engine.bench.samples import Sample
from dialogue.engine.local.decoder_model import DecoderModel
from dialogue.engine.local.decoder_reply import DecoderReply
from dialogue.engine.local.decoder_trial import settle_attention
from dialogue.engine.local.decoder_worker import STEP_TOKENS, DecoderWorker
from dialogue.engine.local.kv_store import KvStore
from dialogue.engine.local.lora_layers import LoadedAdapter
from dialogue.engine.local.scheduler import Bounds, Scheduler
from dialogue.engine.local.slot_table import SlotTable
from dialogue.engine.local.varlen_attention import OverSlots
from dialogue.engine.lora_pairs import ATTENTION, FEED_FORWARD, LoraPair, Place

Prompts = Sequence[Sequence[int]]

ADAPTERS: Final = 16
RANK: Final = 16
DEADLINE_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Way:
    """One way to answer."""

    says: str
    graphs: bool = True
    overlaps: bool = True
    adapters: int = 0  # requests are shared out among them; a single one is merged
    batch: int = 0  # of transformers.generate; 0 = Kefu's engine, 1 = one by one, more = as many as there are users
    users: int = 10**6  # with more it is not measured: it would take too long


WAYS: Final = {
    "local": Way("Kefu's engine on torch"),
    "local-no-graphs": Way("the same without recorded steps", graphs=False),
    "local-no-overlap": Way("the same, each step waiting for the tokens of the one before", overlaps=False),
    "local-merged": Way("the same with one adapter, merged", adapters=1),
    "local-adapters": Way(f"the same with {ADAPTERS} adapters in one batch", adapters=ADAPTERS),
    "generate": Way("transformers.generate, one request after the other", batch=1, users=1),
    "static": Way("transformers.generate, one padded batch", batch=2, users=64),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that is measured. Kefu's engine puts layers of its own into it."""

    model: Any
    cost: ModelCost
    linear: Mapping[str, nn.Linear]  # by their place

    def as_made(self) -> Any:
        """Return the model as transformers made it."""
        self.model.set_attn_implementation("sdpa")
        for place, part in self.linear.items():
            self.model.set_submodule(place, part)
        return self.model


def subject(shape: Shape, device: str, seed: int) -> Subject:
    """Make a model of random weights."""
    model = random_model(shape, device, seed)
    return Subject(model, cost(model), {place: part for place, part in model.named_modules() if isinstance(part, nn.Linear)})


@dataclass(slots=True)
class Measured:
    """What a run was like."""

    samples: list[Sample]
    seconds: float
    about: dict[str, Any] = field(default_factory=dict)


class EngineArm:
    """Kefu's thread over a model, without a child process and without a tokenizer."""

    def __init__(self, model: Any, way: Way, users: int, tokens_each: int) -> None:
        places = users * tokens_each
        self._decoder = DecoderModel(model, KvStore(model, places), graphs=way.graphs)
        settle_attention(self._decoder)
        self._owners = self._installed(way.adapters)
        scheduler = Scheduler(SlotTable(places), Bounds(STEP_TOKENS[model.device.type], users))
        self._worker = DecoderWorker(self._decoder, scheduler, overlaps=way.overlaps)
        self._worker.start()

    def run(self, prompts: Prompts, reply_tokens: int) -> Measured:
        """Let all ask at once; return when the last one is answered."""
        measured = asyncio.run(self._ask(prompts, reply_tokens))
        is_flash = isinstance(self._decoder.attention_over, OverSlots)
        measured.about = {"graphs": self._decoder.graphs is not None, "attention": "flash varlen" if is_flash else "sdpa by request"}
        return measured

    def close(self) -> None:
        self._worker.close()

    def _installed(self, count: int) -> list[int]:
        """Install so many random adapters; return their numbers, or that of the base model."""
        if not count:
            return [0]
        adapters = [random_adapter(self._decoder, number) for number in range(1, count + 1)]
        lora = self._decoder.lora
        self._decoder.install(lora.prepare(adapters[0], []) if count == 1 else lora.prepare(None, adapters))
        return [each.number for each in adapters]

    async def _ask(self, prompts: Prompts, reply_tokens: int) -> Measured:
        began = time.perf_counter()
        samples = await asyncio.gather(*(self._answer(number, prompt, reply_tokens, began) for number, prompt in enumerate(prompts)))
        return Measured(list(samples), time.perf_counter() - began)

    async def _answer(self, number: int, prompt: Sequence[int], reply_tokens: int, began: float) -> Sample:
        sampling = SamplingParams(max_tokens=reply_tokens, temperature=0, repetition_penalty=1, ignore_eos=True)
        request = GenerationRequest(str(number), tuple(prompt), sampling, deadline_s=DEADLINE_S)
        asked = time.perf_counter()
        reply = DecoderReply(request, self._owners[number % len(self._owners)], reply_tokens, frozenset(), _text)
        self._worker.submit(reply)
        arrivals: list[float] = []
        while not isinstance(event := await reply.next(), GenerationFinished):
            arrivals.append(1000 * (time.perf_counter() - asked))
        ended = 1000 * (time.perf_counter() - asked)
        await asyncio.wait({reply.done})
        return _sample(number, prompt, arrivals, ended, tokens=event.completion_tokens, asked=1000 * (asked - began))


class GenerateArm:
    """transformers' own `generate`, with its attention for this device, and with its linear layers."""

    def __init__(self, measured: Subject, way: Way) -> None:
        self._model = measured.as_made()
        self._way = way

    def run(self, prompts: Prompts, reply_tokens: int) -> Measured:
        """Answer prompts of equal length, which need no padding."""
        began = time.perf_counter()
        width = 1 if self._way.batch == 1 else len(prompts)
        samples: list[Sample] = []
        for first in range(0, len(prompts), width):
            arrivals, ended = self._generate(prompts[first : first + width], reply_tokens, began)
            asked = enumerate(prompts[first : first + width], first)
            samples += [_sample(number, prompt, arrivals, ended, tokens=reply_tokens) for number, prompt in asked]
        return Measured(samples, time.perf_counter() - began, {"attention": "sdpa"})

    def close(self) -> None:
        """Nothing is kept."""

    def _generate(self, prompts: Prompts, reply_tokens: int, began: float) -> tuple[list[float], float]:
        ids = torch.tensor([list(prompt) for prompt in prompts], device=self._model.device)
        stamps = _Stamps(began)
        with torch.inference_mode():
            self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=reply_tokens,
                do_sample=False,
                stopping_criteria=[stamps],
            )
            if ids.is_cuda:
                torch.cuda.synchronize()
        return stamps.arrivals, 1000 * (time.perf_counter() - began)


class _Stamps:
    """Is asked by transformers after each token whether that was enough, and takes the time."""

    def __init__(self, began: float) -> None:
        self.arrivals: list[float] = []
        self._began = began

    def __call__(self, ids: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
        ids[0, -1].item()  # what the host has not seen has not arrived
        self.arrivals.append(1000 * (time.perf_counter() - self._began))
        return torch.zeros(ids.shape[0], dtype=torch.bool, device=ids.device)


def opened(measured: Subject, way: Way, users: int, tokens_each: int) -> EngineArm | GenerateArm:
    """Return an arm that is ready. Close it."""
    return GenerateArm(measured, way) if way.batch else EngineArm(measured.model, way, users, tokens_each)


def random_adapter(decoder: DecoderModel, number: int, *, rank: int = RANK, strength: float = 0.001) -> LoadedAdapter:
    """Return an adapter on all linear parts. `strength` is that of its update."""
    numbers, shapes = np.random.default_rng(number), decoder.lora.shapes
    pairs: dict[Place, LoraPair] = {}
    for layer in range(decoder.model.config.num_hidden_layers):
        for name in (*ATTENTION, *FEED_FORWARD):
            outputs, inputs = shapes[name]
            a, b = numbers.random((rank, inputs), np.float32), numbers.random((outputs, rank), np.float32)
            pairs[layer, name] = LoraPair(a - 0.5, strength * (b - 0.5))
    return LoadedAdapter(number, pairs, rank, scale=1.0)


def _text(tokens: Sequence[int]) -> str:
    return "x" * len(tokens)  # a tokenizer's work is not measured: there is none


def _sample(number: int, prompt: Sequence[int], arrivals: Sequence[float], ended: float, *, tokens: int, asked: float = 0.0) -> Sample:
    return Sample(str(number), "chat", 1, asked, tuple(arrivals), ended, tokens, len(prompt), 0, "")
