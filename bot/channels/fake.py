"""A messaging platform in memory, and the channel for it: ships for tests of bots, of channels and of the framework.

The platform behaves as badly as real ones: `faults` names what goes wrong with each call. It forgets an update once a
higher one was asked for, as Telegram does, so whoever acknowledges too early loses messages here as well. Its transcript
is what people really saw. `FakeChannel` speaks both kinds of platform:

    editing=True     a placeholder first, then idempotent edits: a repeated delivery shows nothing twice
    editing=False    plain sends without an idempotency key: after a lost response nobody knows
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from bot.channels.base import (
    ChannelCapabilities,
    DeliveryRefused,
    DeliveryRetry,
    DeliveryUnknown,
    Inlet,
    PlaceholderSlot,
    RecordChunk,
    ReplyStream,
    ReplyTarget,
    UnparsableEvent,
    inbox_kind,
)
from bot.channels.json_event import read_object, text_field
from dialogue.messages import (
    ConversationKey,
    IncomingMessage,
    ReplyCommitted,
    ReplyDelta,
    ReplyEvent,
    ReplyRestarted,
    ReplyWaiting,
    Sender,
)
from dialogue.normalise import clean_text
from storage.records import ConversationRecord, InboxKind, InboxRecord, NewInboxItem, OutboxRecord

PLACEHOLDER = "…"


class FaultKind(StrEnum):
    LOST = "lost"  # accepted, the response never arrives
    LATE = "late"  # no response; accepted only when `settle` is called
    UNREACHABLE = "unreachable"  # certainly not accepted
    BUSY = "busy"  # certainly not accepted; come back after `after_s`
    REFUSED = "refused"  # the user blocked the bot
    SLOW = "slow"  # answers only when `gate` is set


@dataclass(frozen=True, slots=True)
class Fault:
    kind: FaultKind
    after_s: float = 1.0  # of BUSY only


@dataclass(frozen=True, slots=True)
class FakeUpdate:
    """One event that waits at the platform."""

    number: int
    chat: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class FakeMessage:
    """One message on the screen. `texts` holds every text that it ever showed, the newest last."""

    ref: str
    chat: str
    reply_to: str
    texts: tuple[str, ...]

    @property
    def text(self) -> str:
        return self.texts[-1]


class PlatformTimeout(Exception):
    """The platform did not answer."""


class _Unreachable(Exception):
    """There was no connection."""


class _Refused(Exception):
    """The platform will never take this."""


class _Busy(Exception):
    def __init__(self, after_s: float) -> None:
        super().__init__(f"retry after {after_s} s")
        self.after_s = after_s


FaultRule = Callable[[str, str], Fault | None]


class Platform(Protocol):
    """What FakeChannel needs of a platform; `FakePlatform` is one, a test may bring another."""

    async def updates(self, after: int | None) -> Sequence[FakeUpdate]: ...

    async def send(self, chat: str, text: str, reply_to: str = "") -> str: ...

    async def edit(self, chat: str, ref: str, text: str) -> None: ...

    def settle(self) -> None: ...


class FakePlatform:
    """People write with `say`, bots call `updates`, `send` and `edit`."""

    def __init__(self, faults: FaultRule | None = None) -> None:
        self.script: deque[Fault | None] = deque()  # faults of the next calls, in order; before those of `faults`
        self.gate = asyncio.Event()
        self.held = 0  # SLOW calls that wait for the gate
        self.faults = faults or (lambda _operation, _chat: None)
        self._updates: list[FakeUpdate] = []
        self._next_number = 1
        self._messages: dict[str, FakeMessage] = {}
        self._late: list[Callable[[], object]] = []
        self._changed = asyncio.Event()

    def say(self, text: str, *, chat: str = "chat", sender: str = "ann", is_private: bool = True) -> int:
        """A person writes; return the number of the update."""
        event = {"id": self._next_number, "chat": chat, "from": sender, "text": text, "private": is_private}
        return self.push(json.dumps(event, ensure_ascii=False).encode(), chat=chat)

    def push(self, raw: bytes, *, chat: str = "chat") -> int:
        """Queue raw bytes as an update, whatever they are; return its number."""
        number = self._next_number
        self._next_number += 1
        self._updates.append(FakeUpdate(number, chat, raw))
        self._notify()
        return number

    async def updates(self, after: int | None) -> Sequence[FakeUpdate]:
        """Forget every update up to `after`, then wait until there are newer ones."""
        self._updates = [update for update in self._updates if update.number > (after or 0)]
        while not self._updates:
            await self.changed()
        return tuple(self._updates)

    async def send(self, chat: str, text: str, reply_to: str = "") -> str:
        """Show a new message and return its id; calling it twice shows two."""
        return await self._call("send", chat, lambda: self._show(chat, text, reply_to))

    async def edit(self, chat: str, ref: str, text: str) -> None:
        """Let message `ref` show `text`; calling it twice changes nothing."""
        await self._call("edit", chat, lambda: self._change(ref, text))

    def settle(self) -> None:
        """Let every late request take effect now."""
        while self._late:
            self._late.pop(0)()

    def transcript(self, chat: str = "chat") -> tuple[FakeMessage, ...]:
        """Return what stands in a chat, oldest first."""
        return tuple(message for message in self._messages.values() if message.chat == chat)

    def shown(self, chat: str = "chat") -> tuple[str, ...]:
        """Return the texts that stand in a chat, oldest first, without placeholders that never got one."""
        return tuple(message.text for message in self.transcript(chat) if message.text != PLACEHOLDER)

    async def changed(self) -> None:
        """Wait until anything happens on the platform."""
        await self._changed.wait()

    async def _call(self, operation: str, chat: str, effect: Callable[[], str]) -> str:
        fault = self.script.popleft() if self.script else self.faults(operation, chat)
        if fault is None:
            return effect()
        match fault.kind:
            case FaultKind.SLOW:
                await self._hold()
                return effect()
            case FaultKind.UNREACHABLE:
                raise _Unreachable
            case FaultKind.BUSY:
                raise _Busy(fault.after_s)
            case FaultKind.REFUSED:
                raise _Refused
            case FaultKind.LATE:
                self._late.append(effect)
            case FaultKind.LOST:
                effect()
        raise PlatformTimeout

    async def _hold(self) -> None:
        self.held += 1
        self._notify()
        try:
            await self.gate.wait()
        finally:
            self.held -= 1

    def _show(self, chat: str, text: str, reply_to: str) -> str:
        ref = str(len(self._messages) + 1)
        self._messages[ref] = FakeMessage(ref, chat, reply_to, (text,))
        self._notify()
        return ref

    def _change(self, ref: str, text: str) -> str:
        message = self._messages[ref]
        if message.text != text:
            self._messages[ref] = replace(message, texts=(*message.texts, text))
            self._notify()
        return ref

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class FakeChannel:
    """The channel of a FakePlatform. Messages that name no text (stickers) are not answered."""

    name = "fake"

    def __init__(
        self,
        platform: Platform,
        *,
        account: str = "bot",
        editing: bool = True,
        streaming: bool = True,
        max_text: int = 4096,  # characters of one message on the platform; longer answers go out in parts
        max_chars: int = 16_000,  # characters that are read of one message
        settle_s: float = 0.0,
        timeout_s: float = 30.0,
        joins_bursts: bool = True,
    ) -> None:
        self.account = account
        self.capabilities = ChannelCapabilities(
            streaming=streaming and editing, joins_bursts=joins_bursts, resend_is_safe=editing, timeout_s=timeout_s, settle_s=settle_s
        )
        self._platform = platform
        self._editing = editing
        self._max_text = max_text
        self._max_chars = max_chars

    async def receive(self, inlet: Inlet) -> None:
        offset = await inlet.offset()
        while True:
            offset = await self.poll(inlet, offset)

    async def poll(self, inlet: Inlet, offset: int | None) -> int:
        """Fetch what is newer than `offset` and hand it in; return the new offset. The platform forgets at the next call."""
        updates = await self._platform.updates(offset)
        newest = updates[-1].number
        await inlet.accept([_item(update) for update in updates], newest)
        return newest

    def parse(self, item: InboxRecord) -> IncomingMessage | None:
        event = read_object(item.raw)
        if "text" not in event:
            return None
        return IncomingMessage(
            key=ConversationKey(self.name, self.account, text_field(event, "chat")),
            sender=Sender(text_field(event, "from")),
            text=clean_text(text_field(event, "text"), self._max_chars).text,
            is_private=bool(event.get("private", True)),
            message_ref=str(event.get("id", "")),
        )

    def open_reply(self, target: ReplyTarget, slot: PlaceholderSlot) -> ReplyStream:
        return _FakeStream(self._platform, target, slot)

    async def deliver(self, row: OutboxRecord, conversation: ConversationRecord, record_chunk: RecordChunk) -> None:
        with _translated():
            for index, part in enumerate(split(row.text, self._max_text)):
                if self._editing:
                    await self._edit_part(row, conversation.chat, index, part, record_chunk)
                elif index >= len(row.chunks):
                    await record_chunk(index, await self._platform.send(conversation.chat, part, row.reply_to))

    async def _edit_part(self, row: OutboxRecord, chat: str, index: int, part: str, record_chunk: RecordChunk) -> None:
        if index < len(row.chunks):
            ref = row.chunks[index]
        else:
            first = row.placeholder_ref if index == 0 else ""
            ref = first or await self._platform.send(chat, PLACEHOLDER, row.reply_to)
            await record_chunk(index, ref)
        await self._platform.edit(chat, ref, part)


class _FakeStream:
    """Edits a placeholder with the text so far. Waits for the platform, which is in memory and quick."""

    def __init__(self, platform: Platform, target: ReplyTarget, slot: PlaceholderSlot) -> None:
        self._platform = platform
        self._target = target
        self._slot = slot
        self._ref = ""
        self._text = ""

    async def show(self, event: ReplyEvent) -> None:
        match event:
            case ReplyWaiting(position):
                text = f"{PLACEHOLDER} {position}"
            case ReplyDelta(delta):
                text = self._text = self._text + delta
            case ReplyRestarted():
                text, self._text = PLACEHOLDER, ""
            case ReplyCommitted():
                return
        with _translated():
            chat = self._target.conversation.chat
            if not self._ref:
                self._ref = await self._slot.reserve() or await self._platform.send(chat, PLACEHOLDER, self._target.message.message_ref)
                await self._slot.fill(self._ref)
            await self._platform.edit(chat, self._ref, text)

    async def close(self) -> None:
        self._platform.settle()


def split(text: str, limit: int) -> tuple[str, ...]:
    """Return `text` in parts of at most `limit` characters."""
    return tuple(text[start : start + limit] for start in range(0, len(text), limit)) or ("",)


def _item(update: FakeUpdate) -> NewInboxItem:
    try:
        event = read_object(update.raw)
    except UnparsableEvent:  # stored as it is; `parse` will say so again, and then it is quarantined
        return NewInboxItem(str(update.number), update.chat, update.raw)
    kind = inbox_kind(str(event["text"])) if "text" in event else InboxKind.MESSAGE
    return NewInboxItem(str(update.number), update.chat, update.raw, kind, bool(event.get("private", True)))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except PlatformTimeout:
        raise DeliveryUnknown("the platform did not answer") from None
    except _Unreachable:
        raise DeliveryRetry("no connection") from None
    except _Busy as busy:
        raise DeliveryRetry("too many requests", busy.after_s) from None
    except _Refused:
        raise DeliveryRefused("the user blocked the bot") from None
