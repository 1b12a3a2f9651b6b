"""The arms of the channel contract: each makes a channel and gives a person to it, who writes and sees."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from bot.channels.ask import AskChannel
from bot.channels.base import Channel, OutgoingReply
from bot.channels.fake import FakeChannel
from bot.channels.fake_platform import PLACEHOLDER, FakePlatform
from bot.channels.telegram.api import TelegramApi
from bot.channels.telegram.channel import TelegramChannel
from bot.channels.telegram.config import TelegramConfig
from bot.channels.telegram.fake_limits import Limits
from bot.channels.telegram.fake_server import FakeTelegram
from bot.channels.telegram.groups import ParseRules
from bot.channels.terminal import TerminalChannel
from bot.ratelimit import RateLimiter, Rates
from storage.records import ConversationRecord, InboxRecord, InboxState, NewInboxItem, OutboxRecord, OutboxState, Owner


class Person(Protocol):
    """Whoever sits on the other side of the platform."""

    def say(self, text: str) -> None: ...

    def saw(self) -> list[str]:
        """Return the texts on the screen, oldest first."""
        ...


@dataclass(frozen=True)
class Arm:
    name: str
    make: Callable[[], AbstractAsyncContextManager[tuple[Channel, Person]]]
    chat: str = "chat"
    resend_is_safe: bool = True


@dataclass
class MemoryInlet:
    """An inbox in memory; `refuse` makes it as if the database were away."""

    refuse: bool = False
    may_poll: bool = True
    accepted: list[NewInboxItem] = field(default_factory=list)
    stored_offset: int | None = None
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def has(self, count: int) -> None:
        """Wait until so many items were accepted."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.accepted) >= count)

    async def offset(self) -> int | None:
        return self.stored_offset

    async def hold_poll(self) -> bool:
        return self.may_poll

    async def backlog(self) -> int:
        return len(self.accepted)

    async def accept(self, items: Sequence[NewInboxItem], offset: int | None = None) -> None:
        if self.refuse:
            raise InletAway
        async with self._changed:
            self.accepted += items
            self.stored_offset = offset
            self._changed.notify_all()


@dataclass
class Noted:
    """A delivery's progress in memory; `refuse` makes it as if the row were in other hands."""

    refuse: bool = False
    is_repeat: bool = False
    refs: dict[int, str] = field(default_factory=dict)
    orphans: int = 0

    async def record(self, index: int, ref: str) -> None:
        if self.refuse:
            raise InletAway
        self.refs[index] = ref

    async def orphan(self) -> None:
        self.orphans += 1

    @property
    def chunks(self) -> tuple[str, ...]:
        return tuple(self.refs[index] for index in sorted(self.refs))


class InletAway(Exception):
    """The planted failure of `MemoryInlet`."""


class FakePerson:
    def __init__(self, platform: FakePlatform) -> None:
        self._platform = platform

    def say(self, text: str) -> None:
        self._platform.say(text)

    def saw(self) -> list[str]:
        return list(self._platform.shown())


class MemoryScreen:
    """A `Screen` for tests: lines from a queue; every kind of output as a line of the log."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque()
        self.log: list[tuple[str, str]] = []
        self.closed = 0

    async def read_line(self) -> str | None:
        return self.lines.popleft() if self.lines else None

    def wait(self, position: int = 0) -> None:
        self.log.append(("wait", str(position)))

    def write(self, text: str) -> None:
        self.log.append(("write", text))

    def restart(self) -> None:
        self.log.append(("restart", ""))

    def finish(self, text: str) -> None:
        self.log.append(("finish", text))

    def owe(self, text: str) -> None:
        self.log.append(("owe", text))

    def note(self, text: str) -> None:
        self.log.append(("note", text))

    def close(self) -> None:
        self.closed += 1

    def said(self, *kinds: str) -> list[str]:
        """Return the output of these kinds, oldest first."""
        return [text for kind, text in self.log if kind in kinds]


class TerminalPerson:
    def __init__(self, screen: MemoryScreen) -> None:
        self._screen = screen

    def say(self, text: str) -> None:
        self._screen.lines.append(text)

    def saw(self) -> list[str]:
        return self._screen.said("finish", "owe")


class TelegramPerson:
    def __init__(self, telegram: FakeTelegram) -> None:
        self._telegram = telegram

    def say(self, text: str) -> None:
        self._telegram.say(text)

    def saw(self) -> list[str]:
        return [shown.text for shown in self._telegram.screen() if shown.is_bot and shown.text != PLACEHOLDER]


@asynccontextmanager
async def _fake(*, editing: bool) -> AsyncIterator[tuple[Channel, Person]]:
    platform = FakePlatform()
    yield FakeChannel(platform, editing=editing, max_text=8), FakePerson(platform)


@asynccontextmanager
async def _terminal() -> AsyncIterator[tuple[Channel, Person]]:
    screen = MemoryScreen()
    yield TerminalChannel(screen, user="ann", max_chars=1000), TerminalPerson(screen)


@asynccontextmanager
async def _telegram() -> AsyncIterator[tuple[Channel, Person]]:
    async with FakeTelegram(limits=Limits.none(), pace=0.0) as telegram:
        limiter = RateLimiter(Rates(0, 0, 0, 0))
        api = TelegramApi(telegram.token, base_url=telegram.base_url, timeout_s=5.0, poll_s=1, limiter=limiter)
        channel = TelegramChannel(api, TelegramConfig(telegram.token.partition(":")[0], ParseRules()))
        await channel.open()
        telegram.start()
        try:
            yield channel, TelegramPerson(telegram)
        finally:
            await channel.close()


TERMINAL = Arm("terminal", _terminal)
ARMS = (
    Arm("fake, editing", lambda: _fake(editing=True)),
    Arm("fake, plain", lambda: _fake(editing=False), resend_is_safe=False),
    Arm("telegram", _telegram, chat="1001"),
    TERMINAL,
)


def ask_channel() -> AskChannel:
    return AskChannel(user="ann", max_chars=1000)


def record(channel: Channel, item: NewInboxItem, number: int = 1) -> InboxRecord:
    """Return the item as the inbox gives it back."""
    names = (channel.name, channel.account)
    return InboxRecord(str(number), *names, item.event_id, "c", item.raw, item.kind, InboxState.CLAIMED, 1, 0, None, "")


def conversation(channel: Channel, chat: str) -> ConversationRecord:
    return ConversationRecord("c", channel.name, channel.account, chat, True, Owner.BOT, 0, 1, None, "", 1, "", 0, 0)


def row(text: str, *, chunks: tuple[str, ...] = (), turn_id: str = "t") -> OutboxRecord:
    return OutboxRecord("o", "c", turn_id, OutboxState.STARTED, text, "", "", chunks, 0, 1, 0, "", 0, "", 0)


def reply(channel: Channel, text: str, *, chat: str = "chat", chunks: tuple[str, ...] = (), turn_id: str = "t") -> OutgoingReply:
    """Return an answer on its way to a chat of this channel."""
    return OutgoingReply(row(text, chunks=chunks, turn_id=turn_id), conversation(channel, chat))
