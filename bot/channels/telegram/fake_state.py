"""The model behind the fake Bot API: chats, messages, drafts, files and what the bot set. No I/O; the time is passed in."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bot.channels.telegram.fake_chats import (
    SUPERGROUP_BORDER,
    ApiRefused,
    Call,
    Chat,
    Draft,
    Json,
    Message,
    Press,
    Shown,
    User,
    bad_request,
)
from bot.channels.telegram.fake_limits import Limiter, Limits
from bot.channels.telegram.fake_updates import CALLBACK_LIFETIME_S, UpdateQueue

DRAFT_LIFETIME_S = 30.0


class State:
    """Everything that this Telegram knows. `listeners` are called after every change."""

    def __init__(
        self, *, token: str, username: str, limits: Limits, clock: Callable[[], float], seed: int, transcript_size: int | None = None
    ) -> None:
        self.token = token
        self.clock = clock
        self.bot = User(int(token.partition(":")[0]), username.title(), is_bot=True, username=username)
        self.limiter = Limiter(limits)
        self.updates = UpdateQueue(seed, clock)
        self.users: dict[int, User] = {}
        self.chats: dict[int, Chat] = {}
        self.presses: dict[str, Press] = {}
        self.drafts: list[Draft] = []  # every one that was ever shown
        self.files: dict[str, tuple[str, bytes]] = {}  # file id → path and content
        self.commands: dict[str, list[Json]] = {}
        self.webhook: Json = {}
        self.actions: list[tuple[float, int, str]] = []
        self.transcript: deque[Call] = deque(maxlen=transcript_size)
        self.lost_formatting: list[tuple[int, str]] = []  # chat, text: what Telegram would have dropped without an error
        self.listeners: list[Callable[[], None]] = []
        self._epoch = time.time() - clock()
        self._account_messages = 0  # private chats and small groups share one counter per account
        self._supergroup_messages: dict[int, int] = {}
        self._next_query = 4_000_000_000_000_000_000 + seed

    def now(self) -> float:
        return self.clock()

    def date(self) -> int:
        """The time as Telegram writes it into messages."""
        return int(self._epoch + self.clock())

    def changed(self) -> None:
        for listener in self.listeners:
            listener()

    def user(self, user_id: int) -> User:
        """Return a person, who exists from now on."""
        if user_id not in self.users:
            self.users[user_id] = User(user_id, f"User {user_id}")
        return self.users[user_id]

    def open_chat(self, chat_id: int) -> Chat:
        """Return a chat, which exists from now on: the person started the bot, or the group has it as a member."""
        chat = self.chats.get(chat_id)
        if chat is None:
            title = self.user(chat_id).first_name if chat_id > 0 else f"Group {-chat_id}"
            chat = self.chats[chat_id] = Chat(chat_id, title)
        return chat

    def chat_for(self, chat_id: Any, *, to_write: bool = True) -> Chat:
        """Return the chat that a call names; raise ApiRefused as Telegram would."""
        number = _chat_number(chat_id)
        chat = self.chats.get(number)
        if chat is None and number in self.users:
            raise ApiRefused(403, "Forbidden: bot can't initiate conversation with a user")
        if chat is None:
            raise bad_request("chat not found")
        if to_write:
            self._require_writable(chat)
        return chat

    def _require_writable(self, chat: Chat) -> None:
        if chat.migrated_to:
            parameters = {"migrate_to_chat_id": chat.migrated_to}
            raise ApiRefused(400, "Bad Request: group chat was upgraded to a supergroup chat", parameters)
        if chat.chat_id > 0:
            if self.user(chat.chat_id).is_deactivated:
                raise ApiRefused(403, "Forbidden: user is deactivated")
            if chat.is_blocked:
                raise ApiRefused(403, "Forbidden: bot was blocked by the user")
        elif not chat.is_member:
            reason = "bot was kicked from" if chat.was_kicked else "bot is not a member of"
            raise ApiRefused(403, f"Forbidden: {reason} the {chat.kind} chat")

    def message_for(self, chat: Chat, message_id: int, purpose: str) -> Message:
        """Return the message that a call names; raise ApiRefused("… not found") if people do not see it."""
        message = chat.messages.get(message_id)
        if message is None or message.is_deleted:
            raise bad_request(f"{purpose} not found")
        return message

    def add_message(
        self, chat: Chat, sender: User, content: Json, *, reply_to: int = 0, thread: int = 0, markup: Json | None = None
    ) -> Message:
        """Show a new message; one of the bot ends the drafts of its chat."""
        message = Message(self._next_message_id(chat), chat, sender, self.date(), content, reply_to, thread, markup)
        chat.messages[message.message_id] = message
        if sender is self.bot:
            self._end_drafts(chat, thread)
        self.changed()
        return message

    def _next_message_id(self, chat: Chat) -> int:
        if chat.kind != "supergroup":
            self._account_messages += 1
            return self._account_messages
        number = self._supergroup_messages.get(chat.chat_id, 0) + 1
        self._supergroup_messages[chat.chat_id] = number
        return number

    def show_draft(self, chat: Chat, draft_id: int, thread: int, text: str, *, can_stop: bool, keep_on_stop: bool) -> None:
        """Show or change a preview for the next 30 seconds."""
        self._expire_drafts_of(chat)
        draft = chat.drafts.get((thread, draft_id))
        if draft is None:
            draft = chat.drafts[thread, draft_id] = Draft(chat.chat_id, draft_id, thread, can_stop, keep_on_stop, self.now())
            self.drafts.append(draft)
        draft.shown_at, draft.can_stop, draft.keep_on_stop = self.now(), can_stop, keep_on_stop
        draft.texts.append(text)
        self.changed()

    def expire_drafts(self) -> None:
        """End the previews whose time is over."""
        for chat in self.chats.values():
            self._expire_drafts_of(chat)

    def _expire_drafts_of(self, chat: Chat) -> None:
        for key in [key for key, draft in chat.drafts.items() if self.now() >= draft.shown_at + DRAFT_LIFETIME_S]:
            chat.drafts.pop(key).ended = "expired"

    def _end_drafts(self, chat: Chat, thread: int) -> None:
        self._expire_drafts_of(chat)
        for key in [key for key in chat.drafts if key[0] == thread]:
            chat.drafts.pop(key).ended = "dismissed"

    def screen(self, chat_id: int) -> tuple[Shown, ...]:
        """Return what stands in a chat, oldest first."""
        chat = self.chats.get(chat_id)
        return tuple(message.shown() for message in chat.messages.values() if not message.is_deleted) if chat else ()

    def press(self, user: User, message: Message, data: str) -> Press:
        """Queue a callback query."""
        press = Press(str(self._next_query), user.user_id, message.chat.chat_id, data, self.now())
        self._next_query += 1
        self.presses[press.query_id] = press
        body = {
            "id": press.query_id,
            "from": user.json(),
            "message": message.json(),
            "chat_instance": str(message.chat.chat_id),
            "data": data,
        }
        self.updates.push("callback_query", body, owner=user.user_id, lifetime_s=CALLBACK_LIFETIME_S)
        self.changed()
        return press

    def answer_press(self, query_id: str, text: str) -> None:
        """Answer a callback query, once and in time."""
        press = self.presses.get(query_id)
        if press is None or press.answer is not None or self.now() > press.at + CALLBACK_LIFETIME_S:
            raise bad_request("query is too old and response timeout expired or query ID is invalid")
        self.presses[query_id] = replace(press, answer=text)
        self.changed()

    def store_file(self, kind: str, content: bytes, name: str) -> Json:
        """Keep a file; return its id and size as messages carry them."""
        number = len(self.files)
        suffix = name.rpartition(".")[2] if "." in name else "dat"
        file_id = f"{kind}-{number:08d}-{self.bot.user_id}"
        self.files[file_id] = (f"{kind}s/file_{number}.{suffix}", content)
        return {"file_id": file_id, "file_unique_id": f"u{number:08d}", "file_size": len(content)}

    def migrate(self, chat: Chat) -> Chat:
        """Make a supergroup of a group; the old id is refused from now on."""
        upgraded = self.open_chat(SUPERGROUP_BORDER - 1_000_000_000 + chat.chat_id)
        chat.migrated_to = upgraded.chat_id
        return upgraded


def _chat_number(chat_id: Any) -> int:
    if chat_id is None or chat_id == "":
        raise bad_request("chat_id is empty")
    try:
        return int(chat_id)
    except (TypeError, ValueError):
        raise bad_request("chat not found") from None
