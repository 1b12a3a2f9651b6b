"""The channel of a fake platform. It speaks both kinds of platform that there are:

editing=True     a placeholder first, then idempotent edits: a repeated delivery shows nothing twice
editing=False    plain sends without an idempotency key: after a lost response nobody knows
"""

from collections.abc import Iterator
from contextlib import contextmanager

from bot.channels.base import (
    ChannelCapabilities,
    DeliveryRefused,
    DeliveryRetry,
    DeliveryUnknown,
    Inlet,
    OutgoingReply,
    PlaceholderSlot,
    Progress,
    ReplyStream,
    ReplyTarget,
    SimpleChannel,
    UnparsableEvent,
    inbox_kind,
)
from bot.channels.fake_platform import (
    PLACEHOLDER,
    FakeUpdate,
    Platform,
    PlatformBusy,
    PlatformRefused,
    PlatformTimeout,
    PlatformUnreachable,
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
from storage.records import InboxKind, InboxRecord, NewInboxItem, OutboxRecord


class FakeChannel(SimpleChannel):
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

    async def deliver(self, reply: OutgoingReply, progress: Progress) -> None:
        row, conversation = reply.row, reply.conversation
        with _translated():
            for index, part in enumerate(split(row.text, self._max_text)):
                if self._editing:
                    await self._edit_part(row, conversation.chat, index, part, progress)
                elif index >= len(row.chunks):
                    await progress.record(index, await self._platform.send(conversation.chat, part, row.reply_to))

    async def _edit_part(self, row: OutboxRecord, chat: str, index: int, part: str, progress: Progress) -> None:
        if index < len(row.chunks):
            ref = row.chunks[index]
        else:
            ref = row.placeholder_ref if index == 0 else ""
            if not ref:
                if progress.is_repeat and index == len(row.chunks):
                    await progress.orphan()
                ref = await self._platform.send(chat, PLACEHOLDER, row.reply_to)
            await progress.record(index, ref)
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
        if not await self._slot.may_show():
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
    is_private, sender = bool(event.get("private", True)), str(event.get("from", ""))
    return NewInboxItem(str(update.number), update.chat, update.raw, kind, is_private, sender)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except PlatformTimeout:
        raise DeliveryUnknown("the platform did not answer") from None
    except PlatformUnreachable:
        raise DeliveryRetry("no connection") from None
    except PlatformBusy as busy:
        raise DeliveryRetry("too many requests", busy.after_s) from None
    except PlatformRefused:
        raise DeliveryRefused("the user blocked the bot") from None
