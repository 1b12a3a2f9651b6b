"""The contract of every channel (messaging adapter): raw events in, previews and final answers out.

A channel knows its platform's wire format. It knows no prompts, no tables and no models, and it never decides what is
delivered: the stored final text always goes out last, whatever the previews showed. The life of one message in it:

    receive      raw event ─► Inlet.accept returns: it is durable ─► only now acknowledge it to the platform
    parse        stored bytes ─► IncomingMessage; pure, and may run again in a later process
    open_reply   previews while the answer is made; any of them may fail or be missed
    deliver      the stored text; every message id is recorded before the next step

`DeliveryError` says how far a delivery came, because that alone decides what may be done next:

    DeliveryError
    ├── DeliveryRetry       certainly not accepted: try again, after `after_s` if the platform names a time
    ├── DeliveryMoved       certainly not accepted: the chat has another id now
    ├── DeliveryRefused     certainly not accepted and never will be: blocked, kicked, deleted
    └── DeliveryUnknown     perhaps on the screen, perhaps not: repeated only where repeating is safe
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dialogue.extras import ReplyExtras
from dialogue.messages import ButtonPress, ButtonRows, IncomingMessage, ReplyEvent
from storage.records import ConversationRecord, InboxKind, InboxRecord, NewInboxItem, OutboxRecord

POLL_LEASE_S = 15.0  # how long others wait after the process that polled was killed; one that lives renews its right during a long poll

_STOP = re.compile(r"\s*/stop(@\w+)?\s*", re.IGNORECASE)


class DeliveryError(Exception):
    """Base of what `Channel.deliver` raises. `str(error)` is a sentence for the operator, without message text or secrets."""


class DeliveryRetry(DeliveryError):
    """Certainly not accepted; `after_s` is what the platform asked for (429), None = the usual backoff."""

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


class DeliveryMoved(DeliveryError):
    """Certainly not accepted: the platform has given the chat another id, `chat` (`ConversationKey.chat` without a thread)."""

    def __init__(self, message: str, chat: str) -> None:
        super().__init__(message)
        self.chat = chat


class DeliveryRefused(DeliveryError):
    """Certainly not accepted, and trying again will not help."""


class DeliveryUnknown(DeliveryError):
    """It was sent and no answer came: it may be on the screen."""


class FileRefused(Exception):
    """A file cannot be read: too big, no text, gone. `reason` is the key of a sentence for the user, `values` what stands in it."""

    def __init__(self, message: str, reason: str, **values: object) -> None:
        super().__init__(message)
        self.reason = reason
        self.values = values


class ChannelRefused(Exception):
    """The platform does not let this account in, and no retry heals that. `str(error)` is a sentence for the operator, `hint` a remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UnparsableEvent(Exception):
    """The raw bytes are no event that this channel understands. The item is quarantined and stays visible."""


@dataclass(frozen=True, slots=True)
class ChannelCapabilities:
    """What the framework has to know about a platform; everything else is the channel's own business."""

    streaming: bool = True  # previews are worth making
    joins_bursts: bool = True  # people send one thought in several messages: wait for a quiet moment, answer them as one
    resend_is_safe: bool = False  # `deliver` may be repeated with the recorded row after DeliveryUnknown or a crash: nothing shows twice
    timeout_s: float = 30.0  # a delivery that makes no progress this long counts as unknown
    settle_s: float = 0.0  # how long a request without an answer may still take effect; a repeated delivery waits this long
    has_buttons: bool = False  # buttons can stand under a message
    sends_files: bool = False  # a file can go with a message
    is_local: bool = False  # who writes here runs the program: limits and lists are for people from outside


@dataclass(frozen=True, slots=True)
class ReplyTarget:
    """What a reply answers, and where it is shown."""

    conversation: ConversationRecord
    turn_id: str  # the same in every run of this turn; also OutboxRecord.turn_id
    message: IncomingMessage  # the last message of the turn; its sender's language chooses the words of the waiting line


class Inlet(Protocol):
    """Where a channel hands in what it received."""

    async def offset(self) -> int | None:
        """Return the polling offset that was stored last, None before the first."""
        ...

    async def accept(self, items: Sequence[NewInboxItem], offset: int | None = None) -> None:
        """Make the items and the polling offset durable. Acknowledge to the platform only after this returned. Raises StorageError."""
        ...

    async def hold_poll(self) -> bool:
        """Whether this process may poll: at most one does, for as long as it asks again within POLL_LEASE_S. Raises StorageError."""
        ...

    async def backlog(self) -> int:
        """Return how many accepted events of this channel wait for an answer. Raises StorageError."""
        ...


class PlaceholderSlot(Protocol):
    """The one message in which previews of a reply may stand before its text is known, written down so that a second run reuses it."""

    async def reserve(self) -> str:
        """Make room for a placeholder before it is sent; return the one that a former run has sent, "" = none. Raises StorageError."""
        ...

    async def fill(self, ref: str) -> None:
        """It is on the screen as platform message `ref`; comes back as `OutboxRecord.placeholder_ref`. Raises StorageError."""
        ...

    async def may_show(self) -> bool:
        """Whether previews may go on: ask before each call to the platform. False once a person took the conversation."""
        ...


class Progress(Protocol):
    """Where a channel writes down how far a delivery came, so that a second run continues instead of repeating.

    An exception from here must pass through `deliver`: the row is in other hands, or a person took over.
    """

    @property
    def is_repeat(self) -> bool:
        """Whether an earlier attempt may have sent something that was not recorded."""
        ...

    async def record(self, index: int, ref: str) -> None:
        """Part `index` (0, 1, …) of the answer is, or is about to be, in platform message `ref`. Durable on return."""
        ...

    async def orphan(self) -> None:
        """An earlier attempt may have left a placeholder whose id is not known: nobody will ever fill it. Durable on return."""
        ...


@dataclass(frozen=True, slots=True)
class Document:
    """A file that goes out with a reply."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class OutgoingReply:
    """What is to be delivered, and where."""

    row: OutboxRecord
    conversation: ConversationRecord
    extras: ReplyExtras = field(default_factory=ReplyExtras)
    document: Document | None = None  # what `extras.document` names


@dataclass(frozen=True, slots=True)
class PressOutcome:
    """What a pressed button changes on the screen."""

    text: str | None = None  # the new text of the message under which it stands; None = as it is
    buttons: ButtonRows | None = None  # its new buttons; None = as they are


class ReplyStream(Protocol):
    """Shows how one answer grows. An error here ends the previews of this answer and nothing else."""

    async def show(self, event: ReplyEvent) -> None:
        """Show the next event; may wait for the platform. Text that comes meanwhile arrives as one ReplyDelta, or not at all.

        The last event, ReplyCommitted, always arrives unless an error ended the previews.
        """
        ...

    async def close(self) -> None:
        """No preview is in flight and none will start when this returns. Idempotent."""
        ...


class Channel(Protocol):
    """One account on one messaging platform. Registered in the entry-point group `kefu.channels`."""

    name: str  # "terminal", "telegram", …; ConversationKey.channel
    account: str  # which bot or installation; ConversationKey.account
    capabilities: ChannelCapabilities

    async def open(self) -> None:
        """Make contact with the platform, however long that takes; nothing is parsed or delivered before. Raises ChannelRefused."""
        ...

    async def close(self) -> None:
        """Let go of connections, after everything else has ended. Idempotent."""
        ...

    async def receive(self, inlet: Inlet) -> None:
        """Receive until cancelled, or until the platform has nothing more to say. Raises what no retry can heal."""
        ...

    def parse(self, item: InboxRecord) -> IncomingMessage | ButtonPress | None:
        """Read one stored event; None = there is nothing to answer. Raises UnparsableEvent."""
        ...

    async def complete(self, message: IncomingMessage) -> IncomingMessage:
        """Fetch what the event only names: the file becomes quoted text. Raises FileRefused and DeliveryRetry."""
        ...

    def open_reply(self, target: ReplyTarget, slot: PlaceholderSlot) -> ReplyStream:
        """Begin the previews of one answer."""
        ...

    async def deliver(self, reply: OutgoingReply, progress: Progress) -> None:
        """Show exactly `reply.row.text`, continuing from its placeholder and chunks. Returns once accepted. Raises DeliveryError."""
        ...

    async def show_outcome(self, press: ButtonPress, outcome: PressOutcome) -> None:
        """Show what a pressed button did. Repeating it changes nothing. Raises DeliveryError."""
        ...


class SimpleChannel:
    """What a channel without connections, files and buttons does: nothing of it."""

    async def open(self) -> None:
        """There is no contact to make."""

    async def close(self) -> None:
        """There is nothing to let go of."""

    async def complete(self, message: IncomingMessage) -> IncomingMessage:
        """Messages are complete as they are."""
        return message

    async def show_outcome(self, press: ButtonPress, outcome: PressOutcome) -> None:
        """There are no buttons."""


def inbox_kind(text: str) -> InboxKind:
    """Say what a message does on arrival: `/stop` must reach a running answer before anything is parsed."""
    return InboxKind.STOP if _STOP.fullmatch(text) else InboxKind.MESSAGE
