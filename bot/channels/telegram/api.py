"""The Bot API as the channel needs it: each call waits for its turn, and ends with a result or a DeliveryError.

Seldom calls go through the library's `Bot`. Those that are made for every answer (send, edit, draft, typing) go through the
same transport past it, because of what they return only the message id is needed. Chats are named by their key ("123",
"123/45" with a topic), messages by their id as text.
"""

from collections.abc import Awaitable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeVar

from telegram import Bot, InputMediaDocument
from telegram.error import TelegramError

from bot.channels.base import ChannelRefused, DeliveryRefused, DeliveryRetry, Document, FileRefused
from bot.channels.telegram.errors import (
    AddressUnknown,
    EntitiesRefused,
    MessageGone,
    MethodUnknown,
    NotModified,
    PollConflict,
    TextEmpty,
    TextTooLong,
    TokenRefused,
    outcome_of,
)
from bot.channels.telegram.groups import BotIdentity
from bot.channels.telegram.parse import ALLOWED_UPDATES, split_chat_key
from bot.channels.telegram.render import Entity
from bot.channels.telegram.transport import Transport
from bot.ratelimit import Priority, RateLimiter
from dialogue.messages import ButtonRows

__all__ = ["EntitiesRefused", "MessageGone", "MethodUnknown", "PollConflict", "TelegramApi", "TextEmpty", "TextTooLong", "TokenRefused"]

T = TypeVar("T")

MAX_UPDATES: Final = 100  # of one getUpdates


class TelegramApi:
    """One bot. Every method raises DeliveryError; a token that is no good raises ChannelRefused where contact is made."""

    def __init__(self, token: str, *, base_url: str, timeout_s: float, poll_s: float, limiter: RateLimiter, connections: int = 64) -> None:
        self.base_url = base_url = base_url.rstrip("/")
        self._poll_s = poll_s
        self._limiter = limiter
        self._transport = Transport(base_url, token, timeout_s=timeout_s, connections=connections + 1)  # one more for the long poll
        self._bot = Bot(
            token,
            base_url=f"{base_url}/bot",
            base_file_url=f"{base_url}/file/bot",
            request=self._transport,
            get_updates_request=self._transport,
        )

    async def open(self) -> BotIdentity:
        """Ask who we are. Raises ChannelRefused when the token is no good."""
        await self._transport.initialize()
        me = await self._contact(self._bot.get_me())
        return BotIdentity(me.id, me.username or "")

    async def close(self) -> None:
        """Let go of the connections. Idempotent."""
        await self._transport.shutdown()

    async def get_updates(self, offset: int | None) -> bytes:
        """Return the whole answer as it came, so that one odd update is odd alone. Raises PollConflict and ChannelRefused."""
        params: dict[str, Any] = {"limit": MAX_UPDATES, "timeout": int(self._poll_s), "allowed_updates": ALLOWED_UPDATES}
        if offset is not None:
            params["offset"] = offset
        return await self._contact(self._transport.call_raw("getUpdates", params, wait_s=self._poll_s))

    async def set_webhook(self, url: str, secret: str, max_connections: int) -> None:
        """Have updates sent to `url`; those that wait are kept. Raises ChannelRefused."""
        await self._contact(
            self._bot.set_webhook(url, secret_token=secret, max_connections=max_connections, allowed_updates=ALLOWED_UPDATES)
        )

    async def delete_webhook(self) -> None:
        """Have updates wait for getUpdates; those that wait are kept. Raises ChannelRefused."""
        await self._contact(self._bot.delete_webhook(drop_pending_updates=False))

    def has_room(self, chat: str, *, priority: Priority = Priority.PREVIEW) -> bool:
        """Whether a call would not have to wait for its turn."""
        chat_id, _ = split_chat_key(chat)
        return self._limiter.has_room(str(chat_id), is_group=chat_id < 0, priority=priority)

    def wait_s(self, chat: str) -> float:
        """Return how long a final call would have to wait in this chat."""
        chat_id, _ = split_chat_key(chat)
        return self._limiter.wait_s(str(chat_id), is_group=chat_id < 0)

    def paused_s(self, chat: str) -> float:
        """Return for how long Telegram wants to hear nothing of this chat."""
        return self._limiter.paused_s(str(split_chat_key(chat)[0]))

    async def send(
        self,
        chat: str,
        text: str,
        entities: Sequence[Entity],
        *,
        reply_to: str = "",
        buttons: ButtonRows = (),
        priority: Priority = Priority.FINAL,
    ) -> str:
        """Show a new message; return its id."""
        params = _place(chat) | _text(text, entities) | _markup(buttons)
        if reply_to:
            params["reply_parameters"] = {"message_id": int(reply_to), "allow_sending_without_reply": True}
        message = await self._in_turn(chat, "sendMessage", params, priority)
        return str(message["message_id"])

    async def edit(
        self,
        chat: str,
        message_ref: str,
        text: str,
        entities: Sequence[Entity],
        *,
        buttons: ButtonRows = (),
        priority: Priority = Priority.FINAL,
    ) -> None:
        """Give a message its text and buttons; that it has them already is a success. Raises MessageGone."""
        params = _message(chat, message_ref) | _text(text, entities) | _markup(buttons)
        await self._edited(self._in_turn(chat, "editMessageText", params, priority))

    async def rich_edit(self, chat: str, message_ref: str, markdown: str, *, buttons: ButtonRows = ()) -> None:
        """Make a message a rich one (Bot API 10.1). Raises MethodUnknown where the server has none, and MessageGone."""
        params = _message(chat, message_ref) | {"rich_message": {"markdown": markdown}} | _markup(buttons)
        try:
            await self._edited(self._in_turn(chat, "editMessageText", params, Priority.FINAL))
        except TextEmpty as error:  # an older server looks for a text and finds none
            raise MethodUnknown(str(error)) from None

    async def edit_document(self, chat: str, message_ref: str, document: Document, caption: str) -> None:
        """Make a file of a message. Raises MessageGone."""
        chat_id, _ = split_chat_key(chat)
        media = InputMediaDocument(document.content, caption=caption, filename=document.name)
        async with self._turn(chat, Priority.FINAL):
            edit = self._bot.edit_message_media(media, chat_id=chat_id, message_id=int(message_ref))
            await self._edited(self._outcome(edit, chat))

    async def edit_buttons(self, chat: str, message_ref: str, buttons: ButtonRows) -> None:
        """Change the buttons under a message. Raises MessageGone."""
        params = _message(chat, message_ref) | _markup(buttons)
        await self._edited(self._in_turn(chat, "editMessageReplyMarkup", params, Priority.FINAL))

    async def draft(self, chat: str, draft_id: int, text: str, entities: Sequence[Entity]) -> None:
        """Show a preview that vanishes by itself, with a button to stop it. Private chats only. Raises MethodUnknown."""
        params = _place(chat) | _formatted(text, entities) | {"draft_id": draft_id, "can_stop": True}
        await self._in_turn(chat, "sendMessageDraft", params, Priority.PREVIEW)

    async def typing(self, chat: str) -> None:
        """Show "typing" for some seconds. It is no message, so it takes no turn; a chat that pauses is left alone."""
        if self.paused_s(chat) == 0:
            await self._outcome(self._transport.call("sendChatAction", _place(chat) | {"action": "typing"}), chat)

    async def answer_press(self, press_ref: str, text: str = "") -> None:
        """End the waiting of whoever pressed a button. That it is answered already, or too old, is no matter."""
        try:
            await self._outcome(self._bot.answer_callback_query(press_ref, text=text or None))
        except DeliveryRefused:
            return

    async def download(self, file_id: str, max_bytes: int) -> bytes:
        """Return the content of a file. Raises FileRefused, and DeliveryRetry or DeliveryUnknown when it may come yet."""
        too_big = FileRefused("the file is too big", "file_too_big", limit=f"{max_bytes // 1000} kB")
        try:
            path, size = await self._outcome(self._file(file_id))
            content = await self._outcome(self._transport.fetch(path, max_bytes)) if size <= max_bytes else None
        except (DeliveryRefused, TokenRefused) as error:  # of a file, 404 says that it is gone
            raise FileRefused(str(error), "file_unreadable") from None
        if content is None:
            raise too_big
        return content

    async def set_commands(self, language: str, commands: Sequence[tuple[str, str]]) -> None:
        """Set the menu of commands, as names and descriptions, for a language ("" = all others)."""
        await self._outcome(self._bot.set_my_commands(commands, language_code=language or None))

    async def _file(self, file_id: str) -> tuple[str, int]:
        """Return path below the base URL of files, and size in bytes (0 = not known)."""
        found = await self._transport.call("getFile", {"file_id": file_id})
        return str(found.get("file_path", "")), int(found.get("file_size") or 0)

    async def _in_turn(self, chat: str, method: str, params: dict[str, Any], priority: Priority) -> Any:
        async with self._turn(chat, priority):
            return await self._outcome(self._transport.call(method, params), chat)

    def _turn(self, chat: str, priority: Priority) -> AbstractAsyncContextManager[None]:
        chat_id, _ = split_chat_key(chat)
        return self._limiter.slot(str(chat_id), is_group=chat_id < 0, priority=priority)

    async def _edited(self, call: Awaitable[object]) -> None:
        try:
            await call
        except NotModified:
            return

    async def _contact(self, call: Awaitable[T]) -> T:
        try:
            return await self._outcome(call)
        except TokenRefused as error:
            or_else = ", or [telegram] base_url is wrong" if isinstance(error, AddressUnknown) else ""
        raise ChannelRefused(
            f"Telegram does not know this token (any more){or_else}.", "Copy the token whole from @BotFather into TELEGRAM_BOT_TOKEN."
        )

    async def _outcome(self, call: Awaitable[T], chat: str = "") -> T:
        """Raise what a failed call means. The error of the library is left behind: nothing of it may reach a log."""
        try:
            return await call
        except TelegramError as error:
            outcome = outcome_of(error)
        if chat and isinstance(outcome, DeliveryRetry) and outcome.after_s:
            self._limiter.pause(str(split_chat_key(chat)[0]), outcome.after_s)
        raise outcome


def _place(chat: str) -> dict[str, Any]:
    chat_id, thread_id = split_chat_key(chat)
    return {"chat_id": chat_id} if thread_id is None else {"chat_id": chat_id, "message_thread_id": thread_id}


def _message(chat: str, message_ref: str) -> dict[str, Any]:
    return {"chat_id": split_chat_key(chat)[0], "message_id": int(message_ref)}


def _text(text: str, entities: Sequence[Entity]) -> dict[str, Any]:
    """Links show no preview: a page would push the answer away."""
    return _formatted(text, entities) | {"link_preview_options": {"is_disabled": True}}


def _formatted(text: str, entities: Sequence[Entity]) -> dict[str, Any]:
    fields: dict[str, Any] = {"text": text}
    return fields | {"entities": [entity.as_json() for entity in entities]} if entities else fields


def _markup(buttons: ButtonRows) -> dict[str, Any]:
    if not buttons:
        return {}
    rows = [[{"text": button.label, "callback_data": button.data} for button in row] for row in buttons]
    return {"reply_markup": {"inline_keyboard": rows}}
