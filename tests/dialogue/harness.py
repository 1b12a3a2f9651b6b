"""A whole dialogue for tests: the real manager on a real SQLite database, with an engine that does as it is told."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from dialogue.chat_template import ChatTemplate
from dialogue.config import DialogueConfig
from dialogue.document import TurnDocument, decode
from dialogue.engine.base import (
    AdapterRef,
    EngineHealth,
    EngineInfo,
    FinishReason,
    GenerationEvent,
    GenerationFinished,
    GenerationRequest,
    QueuePosition,
    TextDelta,
)
from dialogue.errors import EngineError
from dialogue.manager import DialogueManager
from dialogue.memory import memory_commands
from dialogue.messages import ConversationKey, IncomingMessage, ReplyCommitted, ReplyEvent, Sender
from dialogue.ports import ServedModel, Time
from dialogue.router import Command, Router
from dialogue.skills.registry import load_skills
from dialogue.tokenizer import Tokenizer
from storage.clock import Clock
from storage.database import Database
from storage.records import Claim, NewInboxItem, TurnRecord
from storage.testing import temporary_database
from tests.dialogue.prefix import SentPrompt, check_prefixes, sent_prompt
from tests.fakes.tiny_tokenizers import template_source, tiny_tokenizer

TODAY = date(2026, 10, 3)

Step = str | QueuePosition | EngineError | asyncio.Event  # text | place in the queue | failure | wait for it
Script = Sequence[Step]


@dataclass
class PuppetEngine:
    """Plays one script for each generation, `default` when there is none, and keeps every request."""

    context_tokens: int = 8192
    default: Script = ("Fine.",)
    scripts: list[Script] = field(default_factory=list)
    requests: list[GenerationRequest] = field(default_factory=list)
    running: int = 0

    @property
    def info(self) -> EngineInfo:
        return EngineInfo("puppet", "puppet-1", "f" * 64, self.context_tokens, 4)

    async def start(self) -> EngineInfo:
        return self.info

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        self.requests.append(request)
        script = self.scripts.pop(0) if self.scripts else self.default
        self.running += 1
        made = 0
        try:
            for step in script:
                if isinstance(step, EngineError):
                    raise step
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, str):
                    made += 1
                    yield TextDelta(step)
                else:
                    yield step
            yield GenerationFinished(FinishReason.STOP, len(request.prompt), made, cached_tokens=0, queue_ms=1.0)
        finally:
            self.running -= 1

    async def set_adapters(self, adapters: Sequence[AdapterRef]) -> None:
        """Take them all."""

    def health(self) -> EngineHealth:
        return EngineHealth(ready=True)

    async def close(self) -> None:
        """Nothing to do."""


class FrozenTime:
    """Time that stands still; a sleep lasts until `pass_by` or, for short ones, not at all."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.passes = asyncio.Event()

    def ports(self) -> Time:
        return Time(monotonic=lambda: self.now, sleep=self._sleep, today=lambda: TODAY)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if seconds >= 1:
            await self.passes.wait()


@dataclass(frozen=True)
class Said:
    """What came of one message."""

    events: tuple[ReplyEvent, ...]
    committed: ReplyCommitted

    @property
    def turn(self) -> TurnRecord:
        return self.committed.turn

    @property
    def reply(self) -> str:
        return self.committed.turn.reply_text


@dataclass
class Harness:
    """One manager, its database and its engine."""

    database: Database
    engine: PuppetEngine
    tokenizer: Tokenizer
    manager: DialogueManager
    time: FrozenTime
    template: ChatTemplate
    events_seen: int = 0
    sent: list[SentPrompt] = field(default_factory=list)  # the prompts of conversations, for the check of their prefixes

    async def claim(self, *, chat: str = "1", private: bool = True, worker: str = "w", count: int = 1) -> Claim:
        """Put events into the inbox and claim their conversation."""
        items = [NewInboxItem(f"event-{self.events_seen + number}", chat, b"{}", is_private=private) for number in range(count)]
        self.events_seen += count
        await self.database.write(lambda work: work.inbox.accept("test", "bot", items))
        claim = await self.database.write(lambda work: work.inbox.claim(worker))
        assert claim is not None
        return claim

    def message(self, text: str, *, chat: str = "1", sender: str = "ada", private: bool = True, **more: Any) -> IncomingMessage:
        language = more.pop("language", "en")
        key = ConversationKey("test", "bot", chat)
        return IncomingMessage(key, Sender(sender, sender.title(), language), text, is_private=private, **more)

    async def say(self, *texts: str, stop: asyncio.Event | None = None, turn_id: str | None = None, **more: Any) -> Said:
        """Send a burst and read its turn to the end."""
        messages = [self.message(text, **more) for text in texts]
        claim = await self.claim(chat=messages[0].key.chat, private=messages[0].is_private, count=len(texts))
        said = await read_all(self.manager.respond(claim, messages, [item.id for item in claim.items], turn_id=turn_id, stop=stop))
        await self.database.write(lambda work: work.inbox.release(claim))
        await self._note_prompt(said.turn)
        return said

    async def _note_prompt(self, turn: TurnRecord) -> None:
        """Remember the prompt of a turn that later ones continue."""
        request = next((request for request in reversed(self.engine.requests) if request.request_id == turn.id), None)
        stays = await self.database.read(lambda work: work.turns.window(turn.conversation_id, after_seq=turn.seq - 1))
        if request is not None and request.cache_key and stays:
            conversation = await self.database.read(lambda work: work.conversations.get(turn.conversation_id))
            document = await self.document(turn.id)
            self.sent.append(sent_prompt(request.cache_key, conversation.window_start, document, self.template, self.tokenizer))

    def prompt_text(self, number: int = -1) -> str:
        """Return the text of a prompt that the engine got."""
        return self.tokenizer.decode(self.engine.requests[number].prompt)

    async def turns(self, conversation_id: str) -> tuple[TurnRecord, ...]:
        """Return all turns, oldest first."""
        return tuple(reversed(await self.database.read(lambda work: work.turns.list(conversation_id, limit=1000))))

    async def document(self, turn_id: str) -> TurnDocument:
        data = await self.database.read(lambda work: work.turns.document(turn_id))
        assert data is not None
        return decode(data)


async def read_all(events: AsyncGenerator[ReplyEvent, None], during: Callable[[ReplyEvent], Awaitable[None]] | None = None) -> Said:
    """Read a turn to its end; it must end with its only ReplyCommitted."""
    seen: list[ReplyEvent] = []
    async for event in events:
        seen.append(event)
        if during is not None:
            await during(event)
    committed = [event for event in seen if isinstance(event, ReplyCommitted)]
    assert len(committed) == 1
    assert seen[-1] is committed[0]
    return Said(tuple(seen), committed[0])


@asynccontextmanager
async def dialogue(
    config: DialogueConfig | None = None,
    *,
    engine: PuppetEngine | None = None,
    model: tuple[str, str] = ("chatml", "smollm"),
    commands: dict[str, Command] | None = None,
    clock: Clock | None = None,
    **ports: Any,
) -> AsyncGenerator[Harness, None]:
    """Give a dialogue on an empty database; `model` is a template and a kind of tokenizer. Afterwards all prefixes are checked."""
    config = config or DialogueConfig(seed=7)
    engine = engine or PuppetEngine()
    tokenizer = tiny_tokenizer(model[1]).load()
    template = ChatTemplate(template_source(model[0]), tokenizer)
    served = ServedModel(engine, engine.info, template, tokenizer)
    router = Router(load_skills(config, installed=()), memory_commands() | (commands or {}), config.default_skill)
    time = FrozenTime()
    async with temporary_database(clock) as database:
        manager = DialogueManager(database, served, router, config, time=time.ports(), **ports)
        kefu = Harness(database, engine, tokenizer, manager, time, template)
        yield kefu
        check_prefixes(kefu.sent)
