"""The running heart of the program around a fake platform and a scripted engine, step by step and without a network."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.access import AccessPolicy
from bot.access_config import AccessConfig
from bot.channels.base import Channel
from bot.channels.fake import FakeChannel
from bot.channels.fake_platform import FakePlatform
from bot.commands import Surroundings, direct_commands
from bot.delivery import Delivery
from bot.documents import document_maker
from bot.housekeeping import Scrubber
from bot.inbox import Inbox, RunningTurns
from bot.metrics import Metrics
from bot.presses import PressHandler
from bot.wakeup import Wakeup
from bot.worker import WorkerConfig, WorkerPool
from dialogue.byte_chat import ByteTemplate, ByteTokenizer, echo_user
from dialogue.config import DialogueConfig
from dialogue.engine.scripted import ScriptedEngine
from dialogue.manager import DialogueManager
from dialogue.memory import memory_commands
from dialogue.ports import ServedModel
from dialogue.router import Command, Router
from dialogue.skills.registry import load_skills
from storage.database import Database
from storage.records import ConversationRecord, InboxRecord, InboxState, OutboxRecord, OutboxState, TurnRecord

UNLIMITED = AccessConfig(messages_per_minute=0)


@dataclass
class Rig:
    """Everything between a platform and a database."""

    database: Database
    platform: FakePlatform
    channel: FakeChannel
    engine: ScriptedEngine
    inbox: Inbox
    running: RunningTurns
    wakeup: Wakeup
    delivery: Delivery
    pool: WorkerPool
    metrics: Metrics

    def inlet(self, channel: Channel) -> Inbox:
        """Return the way in for a channel beside the fake one."""
        names = (channel.name, channel.account)
        return Inbox(self.database, *names, max_bytes=100_000, quiet_s=0.0, wakeup=self.wakeup, running=self.running, metrics=self.metrics)

    async def say(self, text: str, **event: Any) -> None:
        """A person writes, and the channel receives it."""
        self.platform.say(text, **event)
        await self.receive()

    async def receive(self) -> None:
        """The channel receives everything that waits on the platform."""
        await self.channel.poll(self.inbox, await self.inbox.offset())

    async def work(self) -> int:
        """Answer turns until none waits; return how many."""
        turns = 0
        while await self.pool.run_once():
            turns += 1
        return turns

    async def items(self) -> tuple[InboxRecord, ...]:
        """Return every inbox item, oldest first."""
        return tuple(reversed(await self.database.read(lambda unit: unit.inbox.list(None, 1000))))

    async def item_states(self) -> list[InboxState]:
        return [item.state for item in await self.items()]

    async def rows(self) -> tuple[OutboxRecord, ...]:
        """Return every outbox row, oldest first."""
        return tuple(reversed(await self.database.read(lambda unit: unit.outbox.list(None, 1000))))

    async def row_states(self) -> list[OutboxState]:
        return [row.state for row in await self.rows()]

    async def conversation(self, chat: str = "chat") -> ConversationRecord:
        found = await self.database.read(lambda unit: unit.conversations.find("fake", "bot", chat))
        assert found is not None
        return found

    async def turns(self, chat: str = "chat") -> tuple[TurnRecord, ...]:
        """Return the turns of a chat, oldest first."""
        conversation = await self.conversation(chat)
        return tuple(reversed(await self.database.read(lambda unit: unit.turns.list(conversation.id, limit=1000))))


async def build_rig(
    database: Database,
    *,
    engine: ScriptedEngine | None = None,
    channel: dict[str, Any] | None = None,
    worker: WorkerConfig | None = None,
    also: Channel | None = None,  # served beside the fake one
    export_dir: Path = Path("exports"),
    access: AccessConfig = UNLIMITED,
    platform: FakePlatform | None = None,
) -> Rig:
    """Wire the parts; `channel` are arguments of FakeChannel."""
    engine = engine or ScriptedEngine(echo_user)
    platform = platform or FakePlatform()
    metrics, wakeup, running = Metrics(), Wakeup(), RunningTurns()
    fake = FakeChannel(platform, **(channel or {}))
    channels: list[Channel] = [fake] if also is None else [also, fake]
    delivery = Delivery(database, channels, metrics=metrics, documents=document_maker(database))
    config, policy = worker or WorkerConfig(quiet_s=0.0), AccessPolicy(access)
    served = ServedModel(engine, await engine.start(), ByteTemplate(), ByteTokenizer())
    manager = DialogueManager(database, served, build_router(database, engine, export_dir, policy), DialogueConfig(seed=1))
    pool = WorkerPool(
        database,
        manager,
        channels,
        delivery,
        running=running,
        wakeup=wakeup,
        metrics=metrics,
        config=config,
        presses=PressHandler(database, Scrubber(database)),
        access=policy,
    )
    inbox = Inbox(database, "fake", "bot", max_bytes=100_000, quiet_s=config.quiet_s, wakeup=wakeup, running=running, metrics=metrics)
    return Rig(database, platform, fake, engine, inbox, running, wakeup, delivery, pool, metrics)


def build_router(database: Database, engine: ScriptedEngine, export_dir: Path, policy: AccessPolicy) -> Router:
    """Return the router with all skills and commands."""
    commands: dict[str, Command] = memory_commands()

    def list_commands(language: str) -> Sequence[str]:
        return router.describe(language)

    commands.update(direct_commands(Surroundings(database, "Kefu", "scripted", engine.health, list_commands, policy.is_owner, export_dir)))
    router = Router(load_skills(DialogueConfig(), ()), commands, "chat")
    return router


async def seen(rig: Rig, happened: Callable[[], bool]) -> None:
    """Wait until something can be seen on the platform."""
    async with asyncio.timeout(20):
        while not happened():
            await rig.platform.changed()


class Gate:
    """The `sleep` of a scripted engine: lets a number of tokens through, then waits until it is opened."""

    def __init__(self, tokens: int = 0) -> None:
        self._left = tokens
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def sleep(self, _delay_s: float) -> None:
        if self._left > 0:
            self._left -= 1
            return
        self.reached.set()
        await self.open.wait()
