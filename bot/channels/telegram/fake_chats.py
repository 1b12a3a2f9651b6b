"""The records of the fake Telegram: people, chats, messages, drafts, and what a test gets to see of them."""

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

SUPERGROUP_BORDER = -1_000_000_000_000


class ApiRefused(Exception):
    """The Bot API answers with an error: `code`, `description` with its prefix, and `parameters` if any."""

    def __init__(self, code: int, description: str, parameters: Json | None = None) -> None:
        super().__init__(f"{code} {description}")
        self.code = code
        self.description = description
        self.parameters = parameters


def bad_request(description: str) -> ApiRefused:
    """400, with the prefix that Telegram puts before a description."""
    return ApiRefused(400, f"Bad Request: {description}")


@dataclass(slots=True)
class User:
    user_id: int
    first_name: str
    is_bot: bool = False
    username: str = ""
    language_code: str = "en"
    is_deactivated: bool = False

    def json(self) -> Json:
        shown: Json = {"id": self.user_id, "is_bot": self.is_bot, "first_name": self.first_name}
        if self.username:
            shown["username"] = self.username
        if self.language_code and not self.is_bot:
            shown["language_code"] = self.language_code
        return shown


@dataclass(slots=True)
class Chat:
    """A private chat has the id of its user; groups have negative ids, supergroups such below -10^12."""

    chat_id: int
    title: str
    is_forum: bool = False
    is_blocked: bool = False  # by its user
    is_member: bool = True  # whether the bot is
    was_kicked: bool = False
    migrated_to: int = 0
    threads: set[int] = field(default_factory=set)
    messages: dict[int, "Message"] = field(default_factory=dict)
    drafts: dict[tuple[int, int], "Draft"] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        if self.chat_id > 0:
            return "private"
        return "supergroup" if self.chat_id <= SUPERGROUP_BORDER else "group"

    def json(self) -> Json:
        shown: Json = {"id": self.chat_id, "type": self.kind}
        shown["first_name" if self.chat_id > 0 else "title"] = self.title
        if self.is_forum:
            shown["is_forum"] = True
        return shown


@dataclass(slots=True)
class Message:
    """`content` holds the fields that depend on the kind: text and entities, caption, document and so on."""

    message_id: int
    chat: Chat
    sender: User
    date: int
    content: Json
    reply_to: int = 0
    thread: int = 0
    markup: Json | None = None
    edited_at: int = 0
    is_deleted: bool = False
    texts: list[str] = field(default_factory=list)  # every text that it ever showed

    def __post_init__(self) -> None:
        self.texts.append(self.text)

    @property
    def text(self) -> str:
        return str(self.content.get("text", self.content.get("caption", "")))

    @property
    def buttons(self) -> list[list[Json]]:
        return self.markup.get("inline_keyboard", []) if self.markup else []

    def show(self, content: Json, markup: Json | None, now: int) -> None:
        """Replace what the message shows."""
        self.content, self.markup, self.edited_at = content, markup, now
        if self.text != self.texts[-1]:
            self.texts.append(self.text)

    def json(self, *, with_reply: bool = True) -> Json:
        shown: Json = {
            "message_id": self.message_id,
            "from": self.sender.json(),
            "chat": self.chat.json(),
            "date": self.date,
        }
        if self.edited_at:
            shown["edit_date"] = self.edited_at
        if self.thread:
            shown |= {"message_thread_id": self.thread, "is_topic_message": True}
        replied = self.chat.messages.get(self.reply_to)
        if with_reply and replied is not None and not replied.is_deleted:
            shown["reply_to_message"] = replied.json(with_reply=False)
        shown |= self.content
        if self.buttons:
            shown["reply_markup"] = self.markup
        return shown

    def shown(self) -> "Shown":
        return Shown(
            message_id=self.message_id,
            is_bot=self.sender.is_bot,
            text=self.text,
            entities=tuple(self.content.get("entities", self.content.get("caption_entities", ()))),
            buttons=tuple(tuple(button["text"] for button in row) for row in self.buttons),
            button_data=tuple(button.get("callback_data", "") for row in self.buttons for button in row),
            reply_to=self.reply_to,
            thread=self.thread,
            is_document="document" in self.content,
            file_id=str(self.content.get("document", {}).get("file_id", "")),
            texts=tuple(self.texts),
        )


@dataclass(frozen=True, slots=True)
class Shown:
    """One message as people see it now. `texts` is every text that it ever showed, the newest last."""

    message_id: int
    is_bot: bool  # whether the bot wrote it
    text: str  # or the caption
    entities: tuple[Json, ...] = ()
    buttons: tuple[tuple[str, ...], ...] = ()  # the words on them, row by row
    button_data: tuple[str, ...] = ()
    reply_to: int = 0
    thread: int = 0
    is_document: bool = False
    file_id: str = ""
    texts: tuple[str, ...] = ()


@dataclass(slots=True)
class Draft:
    """A preview that a bot streams. It ends by itself after 30 seconds without a change, or with the next real message."""

    chat_id: int
    draft_id: int
    thread: int
    can_stop: bool
    keep_on_stop: bool
    shown_at: float
    texts: list[str] = field(default_factory=list)
    ended: str = ""  # "", "expired", "dismissed" or "stopped"


@dataclass(frozen=True, slots=True)
class Call:
    """One line of the transcript. `outcome` is "ok" or the error that the bot was to see; `fault` is what went wrong on top."""

    at: float
    method: str
    chat: int
    params: Json
    outcome: str
    code: int
    message_id: int = 0  # of the message sent or edited
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Press:
    """A pressed button and what the bot answered."""

    query_id: str
    user: int
    chat: int
    data: str
    at: float
    answer: str | None = None
