"""The contract of every engine: token ids in, a stream of events out.

An engine deals in token ids and adapters. It knows no users, no conversations and no database: `cache_key` and
`fair_key` are opaque strings. Each implementation passes `tests/contracts/test_engine_contract.py`.

    scripted    answers by rule; ships for tests
    llamacpp    llama.cpp in a supervised child process; the default on a CPU
    local       decoders on torch, in a supervised child process; for a GPU, and for several adapters at once
    remote      servers that take id arrays at /v1/completions
    seq2seq     encoder–decoders on torch, in a supervised child process
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen. Every value is explicit, so that a turn can be generated again."""

    max_tokens: int = 256
    temperature: float = 0.7  # 0 = greedy
    top_p: float = 0.95
    top_k: int = 40  # 0 = off
    repetition_penalty: float = 1.1  # 1 = off
    seed: int = 0
    stop: tuple[str, ...] = ()  # generation ends before the first of these; they are not part of the text
    ignore_eos: bool = False  # benches only: always produce max_tokens


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """A LoRA adapter that an engine can apply."""

    name: str  # release id; what GenerationRequest.adapter names
    path: str  # folder with adapter_config.json and adapter_model.safetensors
    scale: float = 1.0  # 0 = no effect


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One generation. Retrying it is the caller's decision; `request_id` stays the same across retries."""

    request_id: str
    prompt: tuple[int, ...]  # token ids, template structure included; of the encoder, where there is one
    sampling: SamplingParams
    adapter: str | None = None  # AdapterRef.name; None = base model
    cache_key: str = ""  # requests with equal keys continue one another: their KV is worth keeping
    fair_key: str = ""  # whose request it is, for fairness between users
    deadline_s: float = 120.0  # seconds from submission until the answer is worthless
    decoder_prompt: tuple[int, ...] = ()  # encoder–decoders only: ids that the reply begins with, start token included; () = model's own


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """The request waits; `position` requests stand before it, itself included (1 = next)."""

    position: int


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Some more generated text. Never ends inside a character."""

    text: str


class FinishReason(StrEnum):
    STOP = "stop"  # end-of-turn token or a stop string
    LENGTH = "length"  # max_tokens or the context is full


@dataclass(frozen=True, slots=True)
class GenerationFinished:
    """The last event of a generation. All times are milliseconds."""

    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0  # prompt tokens that needed no computation
    queue_ms: float = 0.0
    prompt_ms: float = 0.0
    generation_ms: float = 0.0


GenerationEvent = QueuePosition | TextDelta | GenerationFinished


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine serves. Recorded with each turn."""

    engine: str
    model: str  # the model reference as configured
    model_sha256: str
    context_tokens: int  # prompt and completion together, per request
    slots: int  # requests that run at the same time


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """A snapshot for /readyz, /metrics and `kefu doctor`."""

    ready: bool
    detail: str = ""
    running: int = 0
    waiting: int = 0
    restarts: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)  # what this engine counts besides, by name, for /metrics


class Engine(Protocol):
    """What generates text.

    `generate` may raise `dialogue.errors.EngineError` subclasses. Closing the generator cancels the request; its slot
    is free within a second. After `GenerationFinished` the generator ends.
    """

    async def start(self) -> EngineInfo:
        """Load the model and be ready. Raises EngineUnavailable."""
        ...

    def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """Stream one generation: any number of QueuePosition and TextDelta, then one GenerationFinished."""
        ...

    async def set_adapters(self, adapters: Sequence[AdapterRef]) -> None:
        """Make exactly these adapters available. Running requests finish undisturbed. Raises AdapterRejected."""
        ...

    def health(self) -> EngineHealth: ...

    async def close(self) -> None:
        """Stop and free everything. Idempotent."""
        ...
