"""What storage gives out: frozen records. ORM objects never leave the package.

Times are integer milliseconds since the Unix epoch, by the database's clock (`storage.clock`).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

ADAPTED_SKILLS: Final = ("chat", "support")  # what an adapter answers if nobody says otherwise: support data teaches nothing else


class InboxState(StrEnum):
    """new → claimed → done | quarantined; a lost claim makes it new again."""

    NEW = "new"
    CLAIMED = "claimed"
    DONE = "done"
    QUARANTINED = "quarantined"


class InboxKind(StrEnum):
    MESSAGE = "message"
    STOP = "stop"  # cancels the answer that is being made; is answered itself only when there was none


class OutboxState(StrEnum):
    """reserved → ready → started → sent | unknown | failed; reserved and ready may be cancelled."""

    RESERVED = "reserved"  # a placeholder may be on the screen; no text yet
    READY = "ready"  # the text is durable
    STARTED = "started"  # crossing the platform border
    SENT = "sent"
    UNKNOWN = "unknown"  # sent, no answer: resolved by an idempotent edit, shown to the operator otherwise
    FAILED = "failed"  # the platform refused for good
    CANCELLED = "cancelled"


class Owner(StrEnum):
    BOT = "bot"
    HUMAN = "human"


class TurnStatus(StrEnum):
    ANSWERED = "answered"
    STOPPED = "stopped"  # the user stopped it; the text so far is the reply
    FAILED = "failed"  # answered with a canned text
    UNANSWERED = "unanswered"  # a person has the conversation: recorded, not answered


class ReleaseStatus(StrEnum):
    """candidate → active → retired → active …; a candidate whose verdict says no is rejected. Canary is not in use yet."""

    CANDIDATE = "candidate"
    CANARY = "canary"
    ACTIVE = "active"
    RETIRED = "retired"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class NewInboxItem:
    """One raw event as a channel received it."""

    event_id: str  # unique within (channel, account)
    chat: str  # ConversationKey.chat; read from the raw event without parsing all of it
    raw: bytes
    kind: InboxKind = InboxKind.MESSAGE
    is_private: bool = True
    sender: str = ""  # the platform's id of who sent it, so that exports and erasures reach it; "" = nobody's words
    moved_from: str = ""  # with `moved_to`: the platform gave this chat a new id
    moved_to: str = ""


@dataclass(frozen=True, slots=True)
class InboxRecord:
    id: str
    channel: str
    account: str
    event_id: str
    conversation_id: str
    raw: bytes
    kind: InboxKind
    state: InboxState
    attempts: int
    received_at: int
    turn_id: str | None  # set in the turn's transaction
    error: str  # why it was quarantined


@dataclass(frozen=True, slots=True)
class UserRecord:
    id: str
    created_at: int


@dataclass(frozen=True, slots=True)
class ProfileRecord:
    """What a user told about themselves. Stands in that user's prompt in private chats only."""

    user_id: str
    name: str = ""
    language: str = ""  # IETF tag that the user chose; "" = follow the platform
    tone: str = ""
    notes: tuple[str, ...] = ()  # oldest first


@dataclass(frozen=True, slots=True)
class ConversationRecord:
    id: str
    channel: str
    account: str
    chat: str
    is_private: bool
    owner: Owner
    owner_epoch: int  # raised by every takeover and release
    claim_epoch: int  # raised by every claim
    waiting_since: int | None  # somebody waits for a person since: asked for one, or wrote to the one who has the conversation
    skill: str  # sticky choice; "" = the default skill
    window_start: int  # first turn seq that stands in prompts; moves on by /new and by cutting with hysteresis
    summary: str  # rolling summary of what was cut; "" = none
    turns: int  # seq of the newest turn; 0 = none
    created_at: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to answer a conversation, until the lease ends or a higher epoch exists."""

    conversation: ConversationRecord
    claim_epoch: int
    worker: str
    items: tuple[InboxRecord, ...]  # oldest first; never empty
    claimed_at: int = 0


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """One user message (or burst) and its reply."""

    id: str
    conversation_id: str
    seq: int  # 1, 2, 3 … within the conversation
    user_id: str
    skill: str
    status: TurnStatus
    user_text: str
    reply_text: str
    engine: str  # engine and model that answered; "" for a canned reply
    adapter: str  # release id; "" = base model
    prompt_tokens: int
    completion_tokens: int
    created_at: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a user has used since some time."""

    turns: int  # those with words of the user
    tokens: int  # of prompts and answers


@dataclass(frozen=True, slots=True)
class NewTurn:
    """What the dialogue hands over to be committed in one transaction."""

    id: str
    user_id: str
    skill: str
    status: TurnStatus
    user_text: str
    reply_text: str
    inbox_ids: tuple[str, ...]  # the items that this turn answers; all become done
    engine: str = ""
    adapter: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    document: bytes = b""  # opaque, compressed by the dialogue; kept, erased and expired here
    in_history: bool = True  # False for commands such as /help: they never stand in a later prompt
    window_start: int | None = None  # new value when the history was cut
    summary: str | None = None  # new rolling summary
    sticky_skill: str | None = None  # new sticky choice
    extras: str = ""  # goes to the outbox row as it is


@dataclass(frozen=True, slots=True)
class OutboxRecord:
    id: str
    conversation_id: str
    turn_id: str | None  # None for what a person says through the desk
    state: OutboxState
    text: str
    reply_to: str  # the platform's message id that it answers; "" = none
    placeholder_ref: str  # the platform's message id of the placeholder; "" = none
    chunks: tuple[str, ...]  # platform message ids, in order, of the parts that were sent
    owner_epoch: int
    attempts: int
    next_attempt_at: int
    error: str
    created_at: int
    extras: str = ""  # opaque JSON between the channel and whoever wrote the reply: buttons, an attachment; "" = none
    orphans: int = 0  # placeholders that may stand on the screen without ever getting a text


@dataclass(frozen=True, slots=True)
class Takeover:
    """What a person got: the conversation, and what has to end before the silence of the bot is confirmed."""

    conversation: ConversationRecord
    in_flight: OutboxRecord | None  # the one message that is crossing the platform border; None = nothing to wait for


@dataclass(frozen=True, slots=True)
class FeedbackRecord:
    id: str
    turn_id: str
    user_id: str
    rating: int  # 1 = good, -1 = bad
    reason: str  # "" | wrong | incomplete | outdated | tone | language | unsafe
    correction: str  # what a person would have said; "" = none
    created_at: int


@dataclass(frozen=True, slots=True)
class AdapterReleaseRecord:
    id: str
    name: str
    base_model_sha256: str
    path: str
    sha256: str
    status: ReleaseStatus
    verdict: str  # JSON of the evaluation gate; "" = none yet
    created_at: int
    passed: bool = False  # what the verdict says; the database lets nothing else become active, unless forced
    forced_reason: str = ""  # why somebody activated it without a passed verdict; "" = nobody did
    base_forms: tuple[str, ...] = ()  # sha256 of other forms of the base model that it fits as well: dequantised, quantised
    skills: tuple[str, ...] = ADAPTED_SKILLS  # those that it answers; the others keep the base model
    activation: int = 0  # its place in the order in which releases were activated; 0 = never was, or was rolled back


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One line of the append-only log; `hash` covers the line and `previous_hash`."""

    id: int
    at: int
    actor: str
    action: str
    subject: str
    detail: str
    previous_hash: str
    hash: str
