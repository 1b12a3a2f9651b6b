"""What the dialogue needs from outside, and what stands in where nothing is given."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from dialogue.budget import Limits
from dialogue.config import DialogueConfig
from dialogue.document import Hashes
from dialogue.engine.base import Engine, EngineInfo
from dialogue.prompt import PromptBuilder, Template
from dialogue.skills.base import Passage


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
        return PromptBuilder(self.template, lambda text: len(self.tokenizer.encode(text)), limits)


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
