"""Updates of the Bot API: from the raw bytes of one to what the dialogue needs of it.

Pure, and in two steps. `inbox_item` reads on arrival what is needed to store an update, and never fails. `parse_update`
reads the stored bytes again, later: a message, a press of a button, nothing to answer, or UnparsableEvent. The raw JSON is
read, not a library's types: an update with fields of a newer Bot API passes, and an odd one is odd alone.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from bot.channels.base import UnparsableEvent, inbox_kind
from bot.channels.json_event import read_object
from bot.channels.telegram.batch import split_result
from bot.channels.telegram.content import Content, clean_line, is_service, read_content
from bot.channels.telegram.groups import (
    Addressee,
    BotIdentity,
    GroupMode,
    ParseRules,
    addressee,
    is_for_other_bot,
    own_mentions,
    spoken,
    without_name,
)
from bot.channels.telegram.update_fields import Fields, number_field, object_field, ref_field, required_number, text_field
from bot.rating import Opinion, read_press
from dialogue.messages import ButtonPress, ConversationKey, IncomingMessage, Sender
from storage.records import InboxKind, InboxRecord, NewInboxItem

ALLOWED_UPDATES: Final[tuple[str, ...]] = ("message", "edited_message", "callback_query", "my_chat_member", "stopped_message_generation")
UNREADABLE_CHAT: Final = "unreadable"
STOP_DATA: Final = "stop"  # Button.data of the button that stops an answer

_MAX_DATA_CHARS: Final = 64
_MAX_DISPLAY_NAME_CHARS: Final = 100
# Telegram itself, anonymous administrators, people who write as a channel: not somebody who could be answered
_SERVICE_ACCOUNTS: Final = {777000, 1087968824, 136817688}
_NOT_BY_PERSON: Final = {"sender_chat", "is_automatic_forward", "sender_business_bot"}
_MESSAGES: Final = {"message", "edited_message"}
_HEAD: Final = re.compile(rb'\s*\{\s*"update_id"\s*:\s*(\d{1,15})\s*[,}]')
_LANGUAGE: Final = re.compile(r"[A-Za-z0-9-]{2,35}")


@dataclass(frozen=True, slots=True)
class _Place:
    """The chat of an update."""

    chat: str  # ConversationKey.chat
    chat_id: int
    is_private: bool


@dataclass(frozen=True, slots=True)
class _Update:
    """One update: of all that Telegram could tell, it tells one thing."""

    kind: str  # "message", "callback_query", …
    body: Fields

    @property
    def message(self) -> Fields:
        """The message that it is about."""
        return object_field(self.body, "message") if self.kind == "callback_query" else self.body


def chat_key(chat_id: int, thread_id: int | None) -> str:
    """Return `ConversationKey.chat`: each topic of a chat is a conversation of its own."""
    return str(chat_id) if thread_id is None else f"{chat_id}/{thread_id}"


def split_chat_key(chat: str) -> tuple[int, int | None]:
    """Return chat id and thread id of a `chat_key`. Raises ValueError for what is none."""
    chat_id, slash, thread_id = chat.partition("/")
    return int(chat_id), int(thread_id) if slash else None


def split_batch(body: bytes) -> tuple[tuple[int | None, bytes], ...]:
    """Return update id and raw bytes of each update in an answer to getUpdates. Raises UnparsableEvent when it is no such answer.

    The id is None where it cannot be read; of an update as Telegram writes it it can, even if nothing else can.
    """
    return tuple((_update_id(raw), raw) for raw in split_result(body))


def inbox_item(update: bytes, bot: BotIdentity | None = None) -> NewInboxItem:
    """Return what is stored of an update, as far as it can be read. Never raises.

    With `bot`, a `/stop` that names another bot stops nothing of ours.
    """
    update_id = _update_id(update)
    event_id = f"sha256:{hashlib.sha256(update).hexdigest()}" if update_id is None else str(update_id)
    try:
        found = _read_update(update)
        place = _read_place(found.message)
    except UnparsableEvent:
        return NewInboxItem(event_id, UNREADABLE_CHAT, update, is_private=False)
    return NewInboxItem(
        event_id,
        place.chat,
        update,
        kind=InboxKind.STOP if _is_stop(found, bot) else InboxKind.MESSAGE,
        is_private=place.is_private,
        sender=_id_text(object_field(found.body, "from"), "id"),
        **_move(found.message, place.chat.partition("/")[0]),
    )


def _move(message: Fields, chat: str) -> dict[str, str]:
    """Return both names of a chat that tells of its new or old one; {} for every other message."""
    if new := _id_text(message, "migrate_to_chat_id"):
        return {"moved_from": chat, "moved_to": new}
    if old := _id_text(message, "migrate_from_chat_id"):
        return {"moved_from": old, "moved_to": chat}
    return {}


def parse_update(item: InboxRecord, bot: BotIdentity, rules: ParseRules) -> IncomingMessage | ButtonPress | None:
    """Read a stored update; None = there is nothing to answer. Raises UnparsableEvent."""
    found = _read_update(item.raw)
    if found.kind in _MESSAGES:
        return _read_message(item, found, bot, rules)
    return _read_press(item, found.body, rules) if found.kind == "callback_query" else None


def _read_message(item: InboxRecord, found: _Update, bot: BotIdentity, rules: ParseRules) -> IncomingMessage | None:
    message, place = found.body, _read_place(found.body)
    message_id = required_number(message, "message_id")
    if is_service(message) or not _is_from_person(message):
        return None
    text = spoken(message) if place.is_private else without_name(spoken(message), own_mentions(message, bot))
    content = read_content(message, text, rules.max_chars)
    is_edit = found.kind == "edited_message"
    if content.is_empty or (is_edit and content.is_medium) or not _is_heard(message, place, content, bot, rules):
        return None
    return IncomingMessage(
        ConversationKey(item.channel, item.account, place.chat),
        _read_sender(message),
        content.text,
        place.is_private,
        message_ref=str(message_id) if message_id > 0 else "",  # 0 = shown to one person only; nothing can reply to it
        quoted_text=content.quoted_text,
        is_forward="forward_origin" in message or "forward_date" in message,
        is_edit=is_edit,
        file=content.file,
        is_unreadable=content.is_medium,
    )


def _is_heard(message: Fields, place: _Place, content: Content, bot: BotIdentity, rules: ParseRules) -> bool:
    if place.is_private:
        return not is_for_other_bot(content.text, bot)
    mode, meant = rules.mode(place.chat_id), addressee(message, content.text, bot)
    if mode is GroupMode.ALL and meant is Addressee.ANYBODY:
        return content.text != ""  # pictures and files that people show one another are left alone
    return mode is not GroupMode.OFF and meant is Addressee.US


def _read_press(item: InboxRecord, press: Fields, rules: ParseRules) -> ButtonPress | None:
    message, data = object_field(press, "message"), text_field(press, "data")
    if not message or not data:  # a button of an inline message or of a game; not ours
        return None
    place = _read_place(message)
    if not place.is_private and rules.mode(place.chat_id) is GroupMode.OFF:
        return None
    if _has_lost_topic(message) and not isinstance(read_press(data), Opinion):
        data = ""  # it would act on a conversation in which nobody has pressed
    press_ref, message_id = ref_field(press, "id"), required_number(message, "message_id")
    if not press_ref:
        raise UnparsableEvent("a press without an id")
    key = ConversationKey(item.channel, item.account, place.chat)
    return ButtonPress(key, _read_sender(press), clean_line(data, _MAX_DATA_CHARS), place.is_private, str(message_id), press_ref)


def _read_update(raw: bytes) -> _Update:
    update = read_object(raw)
    kind = next((name for name in (*ALLOWED_UPDATES, *update) if name in update and name != "update_id"), None)
    if kind is None:
        raise UnparsableEvent("an update that tells nothing")
    body = object_field(update, kind)
    if not body and kind in ALLOWED_UPDATES:
        raise UnparsableEvent(f"no object in field {kind}")
    return _Update(kind, body)


def _read_place(message: Fields) -> _Place:
    chat = object_field(message, "chat")
    chat_id, is_private = required_number(chat, "id"), chat.get("type") == "private"
    thread = number_field(message, "message_thread_id")
    # In a group without topics the field only says which replies belong together
    is_topic = thread is not None and thread > 0 and (is_private or message.get("is_topic_message") is True)
    return _Place(chat_key(chat_id, thread if is_topic else None), chat_id, is_private)


def _has_lost_topic(message: Fields) -> bool:
    """Whether a message under which a button stands does not tell its topic: of an old or deleted one, there is only the chat."""
    return _is_inaccessible(message) and object_field(message, "chat").get("is_forum") is True


def _is_inaccessible(message: Fields) -> bool:
    return number_field(message, "date") == 0


def _read_sender(source: Fields) -> Sender:
    person = object_field(source, "from")
    name = f"{text_field(person, 'first_name')} {text_field(person, 'last_name')}"
    language = text_field(person, "language_code")
    return Sender(
        str(required_number(person, "id")),
        clean_line(name, _MAX_DISPLAY_NAME_CHARS),
        language if _LANGUAGE.fullmatch(language) else None,
    )


def _is_from_person(message: Fields) -> bool:
    chat = object_field(message, "chat")
    if chat.get("type") == "channel" or chat.get("is_direct_messages"):  # a channel's post box mixes people in one chat
        return False
    person = object_field(message, "from")
    is_program = person.get("is_bot") or number_field(person, "id") in _SERVICE_ACCOUNTS
    return "from" in message and not is_program and _NOT_BY_PERSON.isdisjoint(message)


def _is_stop(found: _Update, bot: BotIdentity | None) -> bool:
    if found.kind == "callback_query":
        # In a message that is gone no answer grows any more; the one that runs in its chat is another one.
        return text_field(found.body, "data") == STOP_DATA and not _is_inaccessible(found.message)
    if found.kind not in _MESSAGES:
        return found.kind == "stopped_message_generation"
    text = spoken(found.body)
    is_stop = inbox_kind(text) is InboxKind.STOP and _is_from_person(found.body)
    return is_stop and not (bot is not None and is_for_other_bot(text, bot))


def _update_id(raw: bytes) -> int | None:
    head = _HEAD.match(raw)
    if head is not None:
        return int(head[1])
    try:
        update_id = number_field(read_object(raw), "update_id")
    except UnparsableEvent:
        return None
    return update_id if update_id is not None and update_id >= 0 else None


def _id_text(source: Fields, name: str) -> str:
    value = number_field(source, name)
    return "" if value is None else str(value)
