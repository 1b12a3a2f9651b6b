"""Previews of one answer: a draft in private chats, edits of a placeholder elsewhere, and "typing" until there is text.

`show` only notes what the screen should say; a painter of its own brings the screen up to date, never more often than
`every_s`, only when the limiter has room, and only while the bot owns the conversation. It waits a moment before its first
call, so that an answer that is there at once costs no preview. The first error ends the previews. `close` returns when no
call is on its way: from then on the final text cannot be overtaken.
"""

import asyncio
from abc import ABC, abstractmethod

import structlog

from bot.channels.base import DeliveryError, DeliveryUnknown, PlaceholderSlot, ReplyTarget
from bot.channels.telegram.api import MethodUnknown, TelegramApi
from bot.channels.telegram.parse import split_chat_key
from bot.channels.telegram.render import Part, preview
from bot.command_words import say
from bot.ratelimit import Priority
from dialogue.messages import Button, ButtonRows, ReplyCommitted, ReplyDelta, ReplyEvent, ReplyRestarted, ReplyWaiting
from storage.errors import StorageError

PLACEHOLDER = "…"
FIRST_S = 0.4  # answers that are faster need no preview
TYPING_S = 4.5  # Telegram shows "typing" for five seconds
DRAFT_S = 20.0  # a draft vanishes after thirty
STOP_DATA = "stop"

log = structlog.get_logger(__name__)


class Painter(ABC):
    """What both kinds of previews have in common. Subclasses say how a text gets on the screen."""

    keep_alive_s = float("inf")  # after this long the screen has to be painted again, changed or not

    def __init__(self, api: TelegramApi, target: ReplyTarget, slot: PlaceholderSlot, *, every_s: float) -> None:
        self._api = api
        self._target = target
        self._slot = slot
        self._every_s = every_s
        self._text = ""
        self._waiting = ""
        self._painted: str | None = None
        self._changed = asyncio.Event()
        self._closing = False
        self._task = asyncio.create_task(self._paint_until_closed())

    @property
    def chat(self) -> str:
        return self._target.conversation.chat

    async def show(self, event: ReplyEvent) -> None:
        """Note what the screen should say now."""
        match event:
            case ReplyWaiting(position):
                self._waiting = f"⏳ {position}"
            case ReplyDelta(text):
                self._text += text
            case ReplyRestarted():
                self._text = ""
            case ReplyCommitted():
                self._closing = True
        self._changed.set()

    async def close(self) -> None:
        self._closing = True
        self._changed.set()
        await self._task

    async def _paint_until_closed(self) -> None:
        try:
            await self._pause(FIRST_S)
            while not self._closing and await self._slot.may_show():
                await self._step()
        except (DeliveryError, StorageError) as error:
            log.info("telegram.preview_ended", turn_id=self._target.turn_id, reason=str(error))

    async def _step(self) -> None:
        """Bring the screen up to date, then wait until that is worth doing again."""
        wanted = self._text or self._waiting
        if not wanted:
            await self._api.typing(self.chat)
            await self._wait_for_change(TYPING_S)
            return
        if self._api.has_room(self.chat, priority=Priority.PREVIEW):
            await self._paint(wanted)
            self._painted = wanted
        await self._pause(self._every_s)
        if self._painted == (self._text or self._waiting):
            await self._wait_for_change(self.keep_alive_s)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than the previews live."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while not self._closing and (left := until - loop.time()) > 0:
            await self._wait_for_change(left)

    async def _wait_for_change(self, seconds: float) -> None:
        self._changed.clear()
        if self._closing:
            return
        try:
            async with asyncio.timeout(seconds if seconds != float("inf") else None):
                await self._changed.wait()
        except TimeoutError:
            return

    @abstractmethod
    async def _paint(self, text: str) -> None:
        """Put `text` on the screen. Raises DeliveryError."""


class DraftPainter(Painter):
    """A draft: nothing stays of it, so it needs no placeholder."""

    keep_alive_s = DRAFT_S

    async def _paint(self, text: str) -> None:
        part = preview(text)
        await self._api.draft(self.chat, draft_id(self._target.turn_id), part.text, part.entities)


class EditPainter(Painter):
    """A placeholder that is written down before it is sent, then edited; a Stop button stands under it.

    An edit without an answer may still take effect for `settle_s`. `close` waits until then, or the preview would overwrite the answer.
    """

    _ref = ""
    _settled_at = float("-inf")

    def __init__(self, api: TelegramApi, target: ReplyTarget, slot: PlaceholderSlot, *, every_s: float, settle_s: float) -> None:
        self._settle_s = settle_s
        super().__init__(api, target, slot, every_s=every_s)

    async def close(self) -> None:
        await super().close()
        await asyncio.sleep(max(0.0, self._settled_at - asyncio.get_running_loop().time()))

    async def _paint(self, text: str) -> None:
        buttons = ((Button(f"⏹ {say('button_stop', self._target.message.sender.language or 'en')}", STOP_DATA),),)
        if not self._ref:
            self._ref = await self._slot.reserve()
        if not self._ref:
            self._ref = await self._api.send(
                self.chat, PLACEHOLDER, (), reply_to=self._target.message.message_ref, buttons=buttons, priority=Priority.PREVIEW
            )
            await self._slot.fill(self._ref)
        await self._edit(preview(text), buttons)

    async def _edit(self, part: Part, buttons: ButtonRows) -> None:
        try:
            await self._api.edit(self.chat, self._ref, part.text, part.entities, buttons=buttons, priority=Priority.PREVIEW)
        except DeliveryUnknown:
            self._settled_at = asyncio.get_running_loop().time() + self._settle_s
            raise


def draft_id(turn_id: str) -> int:
    """Return a number for the draft of a turn: never 0, the same in every run."""
    return int(turn_id[-7:], 16) % 0x7FFFFFFF or 1


def is_private_chat(chat: str) -> bool:
    """Whether a chat key names a person: groups and channels have negative ids."""
    return split_chat_key(chat)[0] > 0


class Painters:
    """Chooses the kind of previews; remembers that a server has no drafts."""

    def __init__(self, api: TelegramApi, *, drafts: bool, every_s: float, settle_s: float) -> None:
        self._api = api
        self._drafts = drafts
        self._every_s = every_s
        self._settle_s = settle_s

    def begin(self, target: ReplyTarget, slot: PlaceholderSlot) -> Painter:
        """Begin the previews of one answer."""
        if self._drafts and is_private_chat(target.conversation.chat):
            return _LearningDraftPainter(self, self._api, target, slot, every_s=self._every_s)
        return EditPainter(self._api, target, slot, every_s=self._every_s, settle_s=self._settle_s)

    def without_drafts(self) -> None:
        """Use placeholders from now on."""
        log.info("telegram.no_drafts", remedy="previews are edits of a placeholder: this server has no sendMessageDraft")
        self._drafts = False


class _LearningDraftPainter(DraftPainter):
    """Tells when the server does not know drafts."""

    def __init__(self, painters: Painters, api: TelegramApi, target: ReplyTarget, slot: PlaceholderSlot, *, every_s: float) -> None:
        self._painters = painters
        super().__init__(api, target, slot, every_s=every_s)

    async def _paint(self, text: str) -> None:
        try:
            await super()._paint(text)
        except MethodUnknown:
            self._painters.without_drafts()
            raise
