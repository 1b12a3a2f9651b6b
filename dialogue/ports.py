"""What the dialogue needs from outside, and what stands in where nothing is given."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Protocol

from dialogue.budget import Limits
from dialogue.config import DialogueConfig
from dialogue.document import Hashes
from dialogue.engine.base import Engine, EngineInfo, SamplingParams
from dialogue.prompt import Context, Prompt, PromptBuilder, Template
from dialogue.skills.base import Passage, PromptPlan
from dialogue.task_prompt import TaskCodec, TaskPromptBuilder


class HashedTemplate(Template, Protocol):
    """A chat template that can be recognised; `dialogue.chat_template.ChatTemplate` is the real one."""

    @property
    def sha256(self) -> str: ...

    @property
    def stop_texts(self) -> tuple[str, ...]:
        """Texts at which a reply ends besides the end token."""
        ...


class TextEncoder(Protocol):
    """What counts tokens; `dialogue.tokenizer.Tokenizer` is the real one."""

    @property
    def sha256(self) -> str: ...

    def encode(self, text: str) -> list[int]: ...


class PromptMaker(Protocol):
    """Makes the prompts of one model."""

    def build(self, plan: PromptPlan, context: Context = ...) -> Prompt:
        """Return the prompt of this plan. Raises RequestTooLong and TaskUnsupported."""
        ...


class SkillModel(Protocol):
    """What answers for a skill: a model that chats, or one that does single tasks."""

    @property
    def engine(self) -> Engine: ...

    @property
    def info(self) -> EngineInfo: ...

    @property
    def label(self) -> str:
        """What is recorded with each turn as the engine that answered."""
        ...

    @property
    def hashes(self) -> Hashes: ...

    def count(self, text: str) -> int:
        """Return how many tokens a text has."""
        ...

    def prompt_builder(self, config: DialogueConfig) -> PromptMaker:
        """Return what builds prompts for this model within the owner's limits."""
        ...

    def adapt(self, sampling: SamplingParams) -> SamplingParams:
        """Return the owner's sampling with what this model needs otherwise."""
        ...


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A started engine with what turns chats into its token ids."""

    engine: Engine
    info: EngineInfo  # as `engine.start()` returned it
    template: HashedTemplate
    tokenizer: TextEncoder

    @property
    def label(self) -> str:
        """What is recorded with each turn as the engine that answered."""
        return f"{self.info.engine}:{self.info.model}"

    @property
    def hashes(self) -> Hashes:
        return Hashes(self.info.model_sha256, self.tokenizer.sha256, self.template.sha256)

    def prompt_builder(self, config: DialogueConfig) -> PromptBuilder:
        """Return what builds prompts for this model within the owner's limits."""
        limits = Limits(self.info.context_tokens, config.max_reply_tokens, config.history_tokens)
        return PromptBuilder(self.template, self.count, limits)

    def count(self, text: str) -> int:
        return len(self.tokenizer.encode(text))

    def adapt(self, sampling: SamplingParams) -> SamplingParams:
        """Let replies end at the template's own texts too."""
        return replace(sampling, stop=self.template.stop_texts)


@dataclass(frozen=True, slots=True)
class TaskModel:
    """A started encoder–decoder with what writes its tasks."""

    engine: Engine
    info: EngineInfo  # as `engine.start()` returned it
    codec: TaskCodec

    @property
    def label(self) -> str:
        return f"{self.info.engine}:{self.info.model}"

    @property
    def hashes(self) -> Hashes:
        return Hashes(self.info.model_sha256, self.codec.sha256, self.codec.layout_sha256)

    def prompt_builder(self, config: DialogueConfig) -> TaskPromptBuilder:  # noqa: ARG002 - the owner's limits are those of a chat
        return TaskPromptBuilder(self.codec, self.info.context_tokens)

    def count(self, text: str) -> int:
        return len(self.codec.encode(text))

    def adapt(self, sampling: SamplingParams) -> SamplingParams:
        """Take the repetition penalty away: it is there for chats, and what a text says twice its translation says twice."""
        return replace(sampling, repetition_penalty=1.0)


class Retriever(Protocol):
    """Finds passages for a question."""

    async def retrieve(self, question: str, *, language: str) -> Sequence[Passage]:
        """Return what may hold the answer, best first; nothing when nothing fits."""
        ...


class NoRetriever:
    """Knows nothing: the support skill then says so."""

    async def retrieve(self, question: str, *, language: str) -> Sequence[Passage]:  # noqa: ARG002 - the shape of the port
        return ()


AdapterChoice = Callable[[str, str], str | None]  # (conversation id, skill) -> release id that the engine has loaded, None = base model


def base_model(conversation_id: str, skill: str) -> str | None:  # noqa: ARG001 - the shape of the port
    """Choose no adapter."""
    return None


@dataclass(frozen=True, slots=True)
class Time:
    """Time as the dialogue sees it; tests bring their own."""

    monotonic: Callable[[], float] = time.monotonic  # seconds
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep  # seconds
    today: Callable[[], date] = date.today  # of the machine's time zone
