"""Who is meant by a message: in a group, the assistant answers what is said to it.

A command, a mention and a reply each name somebody. A message that names nobody is open: it is answered only where the
owner has chosen so.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from bot.channels.telegram.update_fields import Fields, number_field, object_field, objects_field, text_field, utf16_slice

_COMMAND: Final = re.compile(r"\s*/[A-Za-z]\w{0,31}(?:@(\w{1,64}))?(?=\s|$)")
_MAX_ENTITIES: Final = 100  # Telegram sends no more for one text
_AFTER_NAME: Final = " \t\n,:，：、"  # "@kefu_bot, what time is it" is the question "what time is it"


@dataclass(frozen=True, slots=True)
class BotIdentity:
    """Who we are, as getMe tells it."""

    id: int
    username: str  # without @


class GroupMode(StrEnum):
    """What is answered in a group."""

    MENTION = "mention"  # commands, mentions and replies to the assistant
    ALL = "all"  # everything that is not clearly for somebody else
    OFF = "off"  # nothing


@dataclass(frozen=True, slots=True)
class ParseRules:
    """What of the updates is read."""

    max_chars: int = 16_000  # longer texts are cut
    group_mode: GroupMode = GroupMode.MENTION
    groups: Mapping[str, GroupMode] = field(default_factory=dict)  # by chat id, for groups that differ from `group_mode`

    def mode(self, chat_id: int) -> GroupMode:
        """Return what is answered in a group."""
        return self.groups.get(str(chat_id), self.group_mode)


class Addressee(StrEnum):
    US = "us"
    ANYBODY = "anybody"
    OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a text, in UTF-16 code units."""

    start: int
    stop: int


def addressee(message: Fields, text: str, bot: BotIdentity) -> Addressee:
    """Say whom a message means; `text` is its text without our name around it."""
    command = _COMMAND.match(text)
    if is_for_other_bot(text, bot):
        return Addressee.OTHERS
    replied = number_field(object_field(reply_of(message), "from"), "id")
    if command or own_mentions(message, bot) or replied == bot.id:
        return Addressee.US
    return Addressee.OTHERS if replied is not None or _begins_with_name(message) else Addressee.ANYBODY


def is_for_other_bot(text: str, bot: BotIdentity) -> bool:
    """Whether `text` is a command that names another bot (`/help@other_bot`)."""
    command = _COMMAND.match(text)
    return command is not None and command[1] is not None and command[1].lower() != bot.username.lower()


def reply_of(message: Fields) -> Fields:
    """Return the message that `message` replies to; empty when there is none.

    In a topic, what replies to nothing carries the service message that opened the topic instead.
    """
    reply = object_field(message, "reply_to_message")
    return {} if "forum_topic_created" in reply else reply


def own_mentions(message: Fields, bot: BotIdentity) -> list[Span]:
    """Return where our name stands in the text or caption, in order."""
    text = spoken(message)
    spans = [_span(entity) for entity in _names(message) if _is_own(entity, text, bot)]
    return sorted((span for span in spans if span is not None), key=lambda span: span.start)


def without_name(text: str, mentions: list[Span]) -> str:
    """Return `text` without the mentions that begin or end it: they say to whom it is said, not what."""
    begin, end = 0, len(text.encode("utf-16-le", "surrogatepass")) // 2
    for mention in mentions:
        if not utf16_slice(text, begin, mention.start).strip(_AFTER_NAME):
            begin = max(begin, mention.stop)
    for mention in reversed(mentions):
        if mention.start >= begin and not utf16_slice(text, mention.stop, end).strip():
            end = mention.start
    kept = utf16_slice(text, begin, end)
    return kept.lstrip(_AFTER_NAME) if begin else kept


def spoken(message: Fields) -> str:
    """Return the text of a message, or its caption, as it came."""
    return text_field(message, "text") or text_field(message, "caption")


def _begins_with_name(message: Fields) -> bool:
    text = spoken(message)
    starts = [span.start for entity in _names(message) if (span := _span(entity))]
    return any(not utf16_slice(text, 0, start).strip() for start in starts)


def _names(message: Fields) -> list[Fields]:
    entities = objects_field(message, "entities" if text_field(message, "text") else "caption_entities")
    return [entity for entity in entities[:_MAX_ENTITIES] if entity.get("type") in ("mention", "text_mention")]


def _is_own(entity: Fields, text: str, bot: BotIdentity) -> bool:
    if entity.get("type") == "text_mention":
        return number_field(object_field(entity, "user"), "id") == bot.id
    span = _span(entity)
    return span is not None and utf16_slice(text, span.start, span.stop).lower() == f"@{bot.username}".lower()


def _span(entity: Fields) -> Span | None:
    offset, length = number_field(entity, "offset"), number_field(entity, "length")
    return Span(offset, offset + length) if offset is not None and length is not None and offset >= 0 and length > 0 else None
