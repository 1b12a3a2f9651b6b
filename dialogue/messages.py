"""The vocabulary of a conversation: plain frozen values that channels make and the dialogue reads.

This module knows no platform, no database and no model. Equal content is equal.
"""

from dataclasses import dataclass
from enum import StrEnum

from storage.records import TurnRecord


class Role(StrEnum):
    """Who speaks in a prompt. Roles come only from this enum, never from text."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a prompt, before it becomes token ids."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class ConversationKey:
    """Where a conversation takes place."""

    channel: str  # "terminal", "telegram", …
    account: str  # which bot or installation of that channel received it
    chat: str  # the platform's chat id, thread or topic included


@dataclass(frozen=True, slots=True)
class Sender:
    """Who wrote a message, as the platform tells it."""

    external_id: str  # the platform's user id
    display_name: str = ""
    language: str | None = None  # IETF tag such as "en" or "zh-hans"; None when the platform does not say


@dataclass(frozen=True, slots=True)
class FileRef:
    """A text file that came with a message, not fetched yet."""

    ref: str  # the platform's id, by which its channel fetches the file
    name: str = ""
    size: int = 0  # bytes; 0 = the platform does not say


@dataclass(frozen=True, slots=True)
class IncomingMessage:
    """One message of a person, parsed from the raw bytes of a channel."""

    key: ConversationKey
    sender: Sender
    text: str  # control and invisible characters already removed
    is_private: bool  # False in groups: nothing of a private chat may enter the prompt
    message_ref: str = ""  # the platform's message id, to reply to
    quoted_text: str = ""  # text of the message that this one replies to
    is_forward: bool = False  # somebody else's words, passed on
    is_edit: bool = False  # a new version of the message `message_ref`
    file: FileRef | None = None  # a text file: its own, or that of the message it replies to
    is_unreadable: bool = False  # a picture, a voice message …: nothing of it can be read


@dataclass(frozen=True, slots=True)
class Abilities:
    """What can go out with a text where the conversation takes place."""

    buttons: bool = False
    files: bool = False


@dataclass(frozen=True, slots=True)
class Button:
    """Something to press under a message."""

    label: str
    data: str  # what comes back when it is pressed; at most 64 bytes


ButtonRows = tuple[tuple[Button, ...], ...]


@dataclass(frozen=True, slots=True)
class ButtonPress:
    """Somebody pressed a button under a message of the assistant."""

    key: ConversationKey
    sender: Sender
    data: str  # `Button.data`
    is_private: bool
    message_ref: str  # the message under which the button stands
    press_ref: str  # the platform's id of this press


@dataclass(frozen=True, slots=True)
class ReplyWaiting:
    """The turn waits for a place in the engine."""

    position: int  # 1 = next


@dataclass(frozen=True, slots=True)
class ReplyDelta:
    """Some more text of a reply that is being made; a preview only, never what decides delivery."""

    text: str


@dataclass(frozen=True, slots=True)
class ReplyRestarted:
    """The engine was lost and begins again: every ReplyDelta so far is void, a preview starts from nothing."""


@dataclass(frozen=True, slots=True)
class ReplyTimings:
    """Where the time of one reply went. All in milliseconds; tokens are counts."""

    queue_ms: float = 0.0  # waiting for admission
    first_token_ms: float = 0.0  # from submission to the first text
    total_ms: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0  # prompt tokens whose KV the engine still had
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ReplyCommitted:
    """The turn is durable; its outbox row holds exactly this text."""

    turn: TurnRecord
    outbox_id: str | None  # None when nothing is to be sent (a person has taken over)
    timings: ReplyTimings = ReplyTimings()


ReplyEvent = ReplyWaiting | ReplyDelta | ReplyRestarted | ReplyCommitted
