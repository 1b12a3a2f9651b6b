"""What people do at the fake Telegram: write, edit, forward, send files, press buttons, stop a draft, block, kick, migrate.

The same operations are offered in the process (`FakeTelegram`) and over HTTP (`fake_control`), so their arguments and results are plain.
"""

import re
from typing import Any

from bot.channels.telegram.fake_chats import Call, Chat, Draft, Json, Message, Press, Shown, User
from bot.channels.telegram.fake_limits import Violation
from bot.channels.telegram.fake_state import State
from bot.channels.telegram.fake_text import utf16_length

FIRST_USER = 1001

_FOUND = re.compile(
    r"(?P<bot_command>(?<![\w/])/[A-Za-z0-9_]{1,64}(?:@\w{3,32})?)|(?P<mention>(?<!\w)@\w{4,32})"
    r"|(?P<url>https?://[^\s<>]+)|(?P<hashtag>(?<!\w)#[^\W\d]\w*)"
)


class People:
    """The hands and eyes of everybody who is not the bot. A chat exists as soon as somebody writes in it."""

    def __init__(self, state: State) -> None:
        self.state = state

    def say(self, text: str, *, chat: int = FIRST_USER, user: int | None = None, **fields: Any) -> Message:
        """Somebody writes. `fields` are more fields of the message; `reply_to` is the id of a message, `thread` a topic."""
        content = {"text": text, **_with_found_entities(text, "entities")}
        return self._receive(chat, user, content, fields)

    def send_file(
        self,
        kind: str,
        *,
        chat: int = FIRST_USER,
        user: int | None = None,
        data: bytes = b"",
        name: str = "",
        caption: str = "",
        **fields: Any,
    ) -> Message:
        """Somebody sends a document, photo, voice, sticker, audio or video."""
        stored = self.state.store_file(kind, data, name or f"file.{kind}")
        body: Any = {**stored, **_media_fields(kind, name)}
        content: Json = {kind: [body] if kind == "photo" else body}
        if caption:
            content |= {"caption": caption, **_with_found_entities(caption, "caption_entities")}
        return self._receive(chat, user, content, fields)

    def forward(
        self, text: str, *, chat: int = FIRST_USER, user: int | None = None, origin: str = "Somebody else", **fields: Any
    ) -> Message:
        """Somebody forwards what another one, who hides the account, wrote."""
        forwarded = {"type": "hidden_user", "sender_user_name": origin, "date": self.state.date()}
        return self.say(text, chat=chat, user=user, forward_origin=forwarded, **fields)

    def edit(self, message_id: int, text: str, *, chat: int = FIRST_USER) -> Message:
        """The author edits a message."""
        message = self.state.chats[chat].messages[message_id]
        message.show({**message.content, "text": text, **_with_found_entities(text, "entities")}, message.markup, self.state.date())
        self._push("edited_message", message.json(), owner=chat)
        return message

    def press(self, data: str, *, chat: int = FIRST_USER, user: int | None = None, message_id: int | None = None) -> Press:
        """Somebody presses the newest button with this data; raise LookupError if nobody sees one."""
        for message in reversed(self._seen(chat)):
            if message_id in {None, message.message_id} and data in message.shown().button_data:
                return self.state.press(self._author(chat, user), message, data)
        raise LookupError(f"no button with data {data!r} is shown in chat {chat}")

    def answer_to(self, query_id: str) -> str | None:
        """Return what the bot answered to a pressed button; None as long as it did not."""
        return self.state.presses[query_id].answer

    def stop_draft(self, *, chat: int = FIRST_USER) -> bool:
        """The person stops the newest preview that can be stopped; return whether there is one."""
        self.state.expire_drafts()
        shown = self.state.chats[chat]
        stoppable = [key for key, draft in shown.drafts.items() if draft.can_stop]
        if not stoppable:
            return False
        draft = shown.drafts[stoppable[-1]] if shown.drafts[stoppable[-1]].keep_on_stop else shown.drafts.pop(stoppable[-1])
        draft.ended = "stopped"
        body: Json = {"chat": shown.json(), "draft_id": draft.draft_id} | ({"message_thread_id": draft.thread} if draft.thread else {})
        self._push("stopped_message_generation", body, owner=chat)
        return True

    def start(self, *, chat: int = FIRST_USER) -> None:
        """A chat exists from now on, though nobody wrote."""
        self.state.open_chat(chat)

    def topic(self, thread: int, *, chat: int) -> None:
        """A forum, or threaded private chat, has this topic from now on."""
        forum = self.state.open_chat(chat)
        forum.is_forum = chat < 0
        forum.threads.add(thread)

    def block(self, *, chat: int = FIRST_USER) -> None:
        """The person blocks the bot."""
        self._set_blocked(self.state.open_chat(chat), is_blocked=True)

    def unblock(self, *, chat: int = FIRST_USER) -> None:
        """The person takes the block back."""
        self._set_blocked(self.state.open_chat(chat), is_blocked=False)

    def deactivate(self, user: int) -> None:
        """The person deletes the account."""
        self.state.user(user).is_deactivated = True

    def kick(self, *, chat: int, by: int = FIRST_USER) -> None:
        """An administrator removes the bot from a group."""
        group = self.state.open_chat(chat)
        group.is_member, group.was_kicked = False, True
        self._push_membership(group, self._author(chat, by), before="member", after="kicked")

    def migrate(self, *, chat: int) -> int:
        """A group becomes a supergroup; return its new id. The old id is refused from now on."""
        group = self.state.open_chat(chat)
        upgraded = self.state.migrate(group)
        author = self._author(chat, None)
        for where, field, other in ((group, "migrate_to_chat_id", upgraded), (upgraded, "migrate_from_chat_id", group)):
            message = self.state.add_message(where, author, {field: other.chat_id})
            self._push("message", message.json(), owner=where.chat_id)
        return upgraded.chat_id

    def push(self, update: Json | bytes, *, owner: int = 0) -> int:
        """Queue a raw update, whatever it holds; bytes are its members, JSON or not. Return its update_id."""
        if isinstance(update, bytes):
            queued = self.state.updates.push_raw(update, owner=owner)
        else:
            kind = next(iter(update), "")
            pushed = self.state.updates.push(kind, update.get(kind, {}), owner=owner)
            queued = pushed or self.state.updates.push_raw(b"", owner=owner)
        self.state.changed()
        return queued.update_id

    def screen(self, chat: int = FIRST_USER) -> tuple[Shown, ...]:
        """Return what people see in a chat now, oldest first."""
        return self.state.screen(chat)

    def drafts(self, chat: int | None = None) -> tuple[Draft, ...]:
        """Return the previews that were ever shown, with every text of theirs and how they ended."""
        self.state.expire_drafts()
        return tuple(draft for draft in self.state.drafts if chat in {None, draft.chat_id})

    def draft(self, chat: int = FIRST_USER) -> str | None:
        """Return the text of the preview that people see now, if there is one."""
        self.state.expire_drafts()
        known = self.state.chats.get(chat)
        return [draft.texts[-1] for draft in known.drafts.values()][-1] if known and known.drafts else None

    def transcript(self, method: str | None = None) -> tuple[Call, ...]:
        """Return the calls of the bot, oldest first; of one method, if named."""
        return tuple(call for call in self.state.transcript if method is None or call.method == method.lower())

    def violations(self) -> tuple[Violation, ...]:
        """Return the calls that came inside a `retry_after`."""
        return tuple(self.state.limiter.violations)

    def file(self, file_id: str) -> bytes:
        """Return the content of a file that was sent, by whomever."""
        return self.state.files[file_id][1]

    def pending(self) -> int:
        """Return how many updates wait for the bot."""
        return len(self.state.updates)

    def _receive(self, chat_id: int, user: int | None, content: Json, fields: Json) -> Message:
        chat = self.state.open_chat(chat_id)
        author = self._author(chat_id, user, fields.pop("language_code", None))
        reply_to, thread = int(fields.pop("reply_to", 0)), int(fields.pop("thread", fields.pop("message_thread_id", 0)))
        if thread:
            self.topic(thread, chat=chat_id)
        message = self.state.add_message(chat, author, {**content, **fields}, reply_to=reply_to, thread=thread)
        if chat.is_member:
            self._push("message", message.json(), owner=chat_id)
        return message

    def _author(self, chat: int, user: int | None, language_code: str | None = None) -> User:
        default = chat if chat > 0 else FIRST_USER
        author = self.state.user(default if user is None else user)
        if language_code is not None:
            author.language_code = language_code
        return author

    def _seen(self, chat: int) -> list[Message]:
        known = self.state.chats.get(chat)
        return [message for message in known.messages.values() if not message.is_deleted] if known else []

    def _push(self, kind: str, body: Json, *, owner: int) -> None:
        self.state.updates.push(kind, body, owner=owner)
        self.state.changed()

    def _set_blocked(self, chat: Chat, *, is_blocked: bool) -> None:
        before, after = ("member", "kicked") if is_blocked else ("kicked", "member")
        chat.is_blocked = is_blocked
        self._push_membership(chat, self._author(chat.chat_id, None), before=before, after=after)

    def _push_membership(self, chat: Chat, author: User, *, before: str, after: str) -> None:
        bot = self.state.bot.json()
        old, new = ({"user": bot, "status": status} | ({"until_date": 0} if status == "kicked" else {}) for status in (before, after))
        body = {"chat": chat.json(), "from": author.json(), "date": self.state.date(), "old_chat_member": old, "new_chat_member": new}
        self._push("my_chat_member", body, owner=chat.chat_id)


def _with_found_entities(text: str, field: str) -> Json:
    """Return what Telegram finds in a text by itself: commands, mentions, links, hashtags."""
    found = [
        {"type": match.lastgroup, "offset": utf16_length(text[: match.start()]), "length": utf16_length(match[0])}
        for match in _FOUND.finditer(text)
    ]
    return {field: found} if found else {}


def _media_fields(kind: str, name: str) -> Json:
    match kind:
        case "photo":
            return {"width": 90, "height": 90}
        case "voice" | "audio":
            return {"duration": 1}
        case "video":
            return {"width": 90, "height": 90, "duration": 1}
        case "sticker":
            return {"type": "regular", "width": 512, "height": 512, "is_animated": False, "is_video": False, "emoji": "🙂"}
        case _:
            return {
                "file_name": name or "file",
                "mime_type": "text/plain" if name.endswith((".txt", ".md")) else "application/octet-stream",
            }
