"""What a message says: its text, a text file, words that it quotes, or nothing that can be read."""

from dataclasses import dataclass
from typing import Final

from bot.channels.telegram.groups import reply_of, spoken
from bot.channels.telegram.update_fields import Fields, number_field, object_field, ref_field, text_field
from dialogue.messages import FileRef
from dialogue.normalise import clean_text

_TEXT_SUFFIXES: Final = (".txt", ".md", ".markdown")
_TEXT_TYPES: Final = {"text/plain", "text/markdown"}
_MAX_NAME_CHARS: Final = 255

# What the platform says about the chat, in messages that look as if somebody had written them. A kind of content that
# stands here in no list is a medium that cannot be read: better a needless answer than none.
_SERVICE: Final = frozenset(
    (
        *("new_chat_members", "left_chat_member", "chat_owner_left", "chat_owner_changed", "new_chat_title", "new_chat_photo"),
        *("delete_chat_photo", "group_chat_created", "supergroup_chat_created", "channel_chat_created", "pinned_message"),
        *("message_auto_delete_timer_changed", "migrate_to_chat_id", "migrate_from_chat_id", "chat_background_set", "boost_added"),
        *("successful_payment", "refunded_payment", "users_shared", "user_shared", "chat_shared", "connected_website", "passport_data"),
        *("gift", "unique_gift", "gift_upgrade_sent", "write_access_allowed", "proximity_alert_triggered", "web_app_data"),
        *("checklist_tasks_done", "checklist_tasks_added", "direct_message_price_changed", "paid_message_price_changed"),
        *("forum_topic_created", "forum_topic_edited", "forum_topic_closed", "forum_topic_reopened"),
        *("general_forum_topic_hidden", "general_forum_topic_unhidden", "managed_bot_created"),
        *("giveaway", "giveaway_created", "giveaway_winners", "giveaway_completed", "poll_option_added", "poll_option_deleted"),
        *("suggested_post_approved", "suggested_post_approval_failed", "suggested_post_declined", "suggested_post_paid"),
        *("suggested_post_refunded", "community_chat_added", "community_chat_removed", "community_chat_joined"),
        *("video_chat_scheduled", "video_chat_started", "video_chat_ended", "video_chat_participants_invited"),
    )
)


@dataclass(frozen=True, slots=True)
class Content:
    """What can be read of a message."""

    text: str  # cleaned
    quoted_text: str  # cleaned
    file: FileRef | None  # its own, or that of the message it replies to
    is_medium: bool  # a picture, a voice message …: it has nothing of its own that can be read

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing at all to answer, not even something unreadable."""
        return not (self.text or self.quoted_text or self.file or self.is_medium)


def is_service(message: Fields) -> bool:
    """Whether the platform speaks, not a person."""
    return not _SERVICE.isdisjoint(message)


def read_content(message: Fields, text: str, max_chars: int) -> Content:
    """Return what a message says; `text` is its text or caption without our name around it."""
    cleaned = clean_text(text, max_chars).text.strip()
    own_file = _text_file(message)
    is_medium = not cleaned and own_file is None and not text_field(message, "text")
    file = own_file or _text_file(reply_of(message)) or _text_file(object_field(message, "external_reply"))
    return Content(cleaned, _quoted_text(message, max_chars), file, is_medium)


def _quoted_text(message: Fields, max_chars: int) -> str:
    chosen = text_field(object_field(message, "quote"), "text")  # what was marked, also of a message in another chat
    return clean_text(chosen or spoken(reply_of(message)), max_chars).text.strip()


def clean_line(text: str, limit: int) -> str:
    """Return `text` without what cannot be seen, on one line of at most `limit` characters."""
    return " ".join(clean_text(text, limit).text.split())


def _text_file(message: Fields) -> FileRef | None:
    document = object_field(message, "document")
    ref, name = ref_field(document, "file_id"), clean_line(text_field(document, "file_name"), _MAX_NAME_CHARS)
    is_text = name.lower().endswith(_TEXT_SUFFIXES) or text_field(document, "mime_type").lower() in _TEXT_TYPES
    return FileRef(ref, name, max(0, number_field(document, "file_size") or 0)) if ref and is_text else None
