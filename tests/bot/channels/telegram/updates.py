"""Updates as the Bot API sends them, to read and to spoil."""

import json
from collections.abc import Mapping
from typing import Any

from bot.channels.telegram.parse import BotIdentity, ParseRules, inbox_item, parse_update
from dialogue.messages import ButtonPress, IncomingMessage
from storage.records import InboxRecord, InboxState

BOT = BotIdentity(7000000001, "kefu_bot")
ANNA = {"id": 5321000111, "is_bot": False, "first_name": "Anna", "last_name": "Bürger", "username": "anna_b", "language_code": "de"}
BEN = {"id": 5321000222, "is_bot": False, "first_name": "Ben"}
OURSELVES = {"id": BOT.id, "is_bot": True, "first_name": "Kefu", "username": BOT.username}
PRIVATE = {"id": 5321000111, "first_name": "Anna", "last_name": "Bürger", "username": "anna_b", "type": "private"}
GROUP = {"id": -1001987654321, "title": "Tea friends", "type": "supergroup"}
FORUM = {"id": -1001987650000, "title": "Help", "type": "supergroup", "is_forum": True}
TEXT_FILE = {
    "file_name": "notes.md",
    "mime_type": "text/markdown",
    "file_id": "BQACAgIAAxkBAAIB",
    "file_unique_id": "AgADqg",
    "file_size": 2048,
}
PHOTO = [{"file_id": "AgACAgIAAxkBAAIC", "file_unique_id": "AQADsw", "file_size": 1253, "width": 90, "height": 67}]

Fields = dict[str, Any]


def message(chat: Mapping[str, Any] = PRIVATE, **fields: Any) -> Fields:
    """Return one message of Anna's; `author` stands for the field `from`, None = there is none."""
    author = fields.pop("author", ANNA)
    head = {"message_id": 1365, "from": author, "chat": dict(chat), "date": 1793000000}
    return {name: value for name, value in (head | fields).items() if value is not None}


def said(text: str, chat: Mapping[str, Any] = GROUP, **fields: Any) -> Fields:
    """Return a message in a group, with the entities that Telegram finds in its text: names and commands."""
    found: list[Fields] = []
    start = 0
    for word in text.split(" "):
        bare = word.rstrip(",:?!")
        if bare.startswith(("@", "/")):
            kind = "mention" if bare.startswith("@") else "bot_command"
            found.append({"type": kind, "offset": _units(text[:start]), "length": _units(bare)})
        start += len(word) + 1
    return message(chat, text=text, entities=found or None, **fields)


def press(**fields: Any) -> Fields:
    """Return Anna's press of a button under one of our messages."""
    under = message(author=OURSELVES, text="It is five.")
    return {"id": "4382bfdwdsb323b2d9", "from": ANNA, "message": under, "chat_instance": "-3141592653589793", "data": "up:1"} | fields


def update(kind: str, body: object, update_id: object = 848000123) -> bytes:
    """Return the raw bytes of one update."""
    return json.dumps({"update_id": update_id, kind: body}, ensure_ascii=False).encode("utf-8", "surrogatepass")


def stored(raw: bytes) -> InboxRecord:
    """Return the record of an update in the inbox."""
    event_id = inbox_item(raw, BOT).event_id
    return InboxRecord("i1", "telegram", "kefu_bot", event_id, "c1", raw, inbox_item(raw).kind, InboxState.CLAIMED, 1, 0, None, "")


def parse(body: Fields, rules: ParseRules | None = None, kind: str = "message") -> IncomingMessage | ButtonPress | None:
    """Return what is read of an update of this kind."""
    return parse_update(stored(update(kind, body)), BOT, rules or ParseRules())


def read(body: Fields, rules: ParseRules | None = None, kind: str = "message") -> IncomingMessage:
    """Return the message that is read; that there is one is expected."""
    found = parse(body, rules, kind)
    assert isinstance(found, IncomingMessage)
    return found


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
