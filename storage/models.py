"""The tables. Times are BIGINT milliseconds; queues are numbered in the order of arrival.

Partial indexes hold only what waits, so finding the next work costs the same with ten rows and with ten million.
"""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Written out, never as bound parameters: a database uses a partial index only if the query repeats its condition.
WAITING: Final = text("state IN ('new', 'claimed')")
UNDELIVERED: Final = text("state IN ('ready', 'started', 'unknown')")
RESERVED: Final = text("state = 'reserved'")
QUARANTINED: Final = text("state = 'quarantined'")
UNSENT: Final = text("state <> 'sent'")
SIGNED: Final = text("sender <> ''")
ORPHANED: Final = text("orphans > 0")

_BIG = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only in an INTEGER column


def _number() -> Column[int]:
    return Column("seq", _BIG, primary_key=True, autoincrement=True)


def _id(name: str = "id", **options: Any) -> Column[str]:
    return Column(name, Text, **options)


def _reference(name: str, target: str, *, on_delete: str = "CASCADE", **options: Any) -> Column[str]:
    return Column(name, Text, ForeignKey(target, ondelete=on_delete), **options)


def _words(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, server_default="")


def _time(name: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable)


def _count(name: str, start: int = 0) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=str(start))


users: Final = Table("users", metadata, _id(primary_key=True), _time("created_at"))

identities: Final = Table(
    "identities",
    metadata,
    Column("channel", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("external_id", Text, primary_key=True),
    _reference("user_id", "users.id", nullable=False, index=True),
    _words("display_name"),
    Column("language", Text),
    _time("created_at"),
)

profiles: Final = Table(
    "profiles",
    metadata,
    _reference("user_id", "users.id", primary_key=True),
    _words("name"),
    _words("language"),
    _words("tone"),
    _time("updated_at"),
)

profile_notes: Final = Table(
    "profile_notes",
    metadata,
    _number(),
    _reference("user_id", "users.id", nullable=False, index=True),
    Column("text", Text, nullable=False),
    _time("created_at"),
    sqlite_autoincrement=True,
)

conversations: Final = Table(
    "conversations",
    metadata,
    _id(primary_key=True),
    Column("channel", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("chat", Text, nullable=False),
    Column("is_private", Boolean, nullable=False),
    _reference("user_id", "users.id", on_delete="SET NULL", index=True),  # whose private chat it is, known from its first turn on
    Column("owner", Text, nullable=False, server_default="bot"),
    _count("owner_epoch"),
    _count("claim_epoch"),
    _words("claimed_by"),  # "" = nobody
    _time("lease_until", nullable=True),
    _time("pending_since", nullable=True),  # arrival of the oldest item that waits for an answer
    _time("pending_last", nullable=True),  # arrival of the newest one
    _time("waiting_since", nullable=True),
    _words("skill"),
    _count("window_start", start=1),
    _words("summary"),
    _count("turns"),
    _time("created_at"),
    UniqueConstraint("channel", "account", "chat"),
    CheckConstraint("owner IN ('bot', 'human')", name="owner"),
)
_PENDING = text("pending_since IS NOT NULL")
Index("ix_conversations_pending", conversations.c.pending_since, sqlite_where=_PENDING, postgresql_where=_PENDING)
Index(
    "ix_conversations_pending_channel",
    conversations.c.channel,
    conversations.c.pending_since,
    sqlite_where=_PENDING,
    postgresql_where=_PENDING,
)
_LEASED = text("lease_until IS NOT NULL")
Index("ix_conversations_leased", conversations.c.lease_until, sqlite_where=_LEASED, postgresql_where=_LEASED)
_HANDOFF = text("waiting_since IS NOT NULL")
Index("ix_conversations_waiting", conversations.c.waiting_since, sqlite_where=_HANDOFF, postgresql_where=_HANDOFF)

turns: Final = Table(
    "turns",
    metadata,
    _reference("conversation_id", "conversations.id", primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    _id(nullable=False, unique=True),
    _reference("user_id", "users.id", nullable=False),
    _words("skill"),
    Column("status", Text, nullable=False),
    _words("user_text"),
    _words("reply_text"),
    _words("engine"),
    _words("adapter"),
    _count("prompt_tokens"),
    _count("completion_tokens"),
    Column("in_history", Boolean, nullable=False),
    _time("created_at"),
    CheckConstraint("status IN ('answered', 'stopped', 'failed', 'unanswered')", name="status"),
    Index("ix_turns_user_id_created_at", "user_id", "created_at"),
    sqlite_with_rowid=False,  # the turns of one conversation lie side by side
)

turn_documents: Final = Table(
    "turn_documents",
    metadata,
    _reference("turn_id", "turns.id", primary_key=True),
    Column("document", LargeBinary, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

inbox: Final = Table(
    "inbox",
    metadata,
    _number(),
    Column("channel", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    _reference("conversation_id", "conversations.id", nullable=False, index=True),
    Column("raw", LargeBinary, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    _count("attempts"),
    _time("received_at"),
    _id("turn_id", index=True),
    _words("error"),
    _words("sender"),  # the platform's id of who sent it; "" = not known
    UniqueConstraint("channel", "account", "event_id"),
    CheckConstraint("kind IN ('message', 'stop')", name="kind"),
    CheckConstraint("state IN ('new', 'claimed', 'done', 'quarantined')", name="state"),
    sqlite_autoincrement=True,  # a number is never used twice, so an old claim never names a new item
)
Index("ix_inbox_waiting", inbox.c.conversation_id, inbox.c.seq, sqlite_where=WAITING, postgresql_where=WAITING)
Index("ix_inbox_sender", inbox.c.channel, inbox.c.account, inbox.c.sender, sqlite_where=SIGNED, postgresql_where=SIGNED)
Index("ix_inbox_quarantined", inbox.c.seq, sqlite_where=QUARANTINED, postgresql_where=QUARANTINED)

outbox: Final = Table(
    "outbox",
    metadata,
    _number(),
    _id(nullable=False, unique=True),
    _reference("conversation_id", "conversations.id", nullable=False, index=True),
    _id("turn_id", unique=True),  # a reserved row comes before its turn, so this is no foreign key
    Column("state", Text, nullable=False),
    _words("text"),
    _words("reply_to"),
    _words("placeholder_ref"),
    _count("owner_epoch"),
    _count("attempts"),
    _time("next_attempt_at"),
    _words("error"),
    _time("created_at"),
    _words("extras"),  # opaque to storage: what the channel adds to the text
    _count("orphans"),
    CheckConstraint("state IN ('reserved', 'ready', 'started', 'sent', 'unknown', 'failed', 'cancelled')", name="state"),
    sqlite_autoincrement=True,
)
Index("ix_outbox_due", outbox.c.next_attempt_at, sqlite_where=UNDELIVERED, postgresql_where=UNDELIVERED)
Index("ix_outbox_lane", outbox.c.conversation_id, outbox.c.seq, sqlite_where=UNDELIVERED, postgresql_where=UNDELIVERED)
Index("ix_outbox_reserved", outbox.c.conversation_id, unique=True, sqlite_where=RESERVED, postgresql_where=RESERVED)
Index("ix_outbox_unsent", outbox.c.state, outbox.c.seq, sqlite_where=UNSENT, postgresql_where=UNSENT)
Index("ix_outbox_orphaned", outbox.c.seq, sqlite_where=ORPHANED, postgresql_where=ORPHANED)

outbox_chunks: Final = Table(
    "outbox_chunks",
    metadata,
    _reference("outbox_id", "outbox.id", primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("ref", Text, nullable=False),
)

channel_offsets: Final = Table(
    "channel_offsets",
    metadata,
    Column("channel", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("event_offset", BigInteger),
    _words("polled_by"),  # which process polls this account; "" = nobody
    _count("poll_epoch"),
    _time("lease_until", nullable=True),
)
Index("ix_channel_offsets_leased", channel_offsets.c.lease_until, sqlite_where=_LEASED, postgresql_where=_LEASED)

feedback: Final = Table(
    "feedback",
    metadata,
    _id(primary_key=True),
    _reference("turn_id", "turns.id", nullable=False),
    _reference("user_id", "users.id", nullable=False, index=True),
    Column("rating", Integer, nullable=False),
    _words("reason"),
    _words("correction"),
    _time("created_at"),
    UniqueConstraint("turn_id", "user_id"),
    CheckConstraint("rating IN (-1, 1)", name="rating"),
)

adapter_releases: Final = Table(
    "adapter_releases",
    metadata,
    _id(primary_key=True),
    Column("name", Text, nullable=False),
    Column("base_model_sha256", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("status", Text, nullable=False),
    _words("verdict"),
    _time("created_at"),
    Column("passed", Boolean, nullable=False, server_default=false()),
    _words("forced_reason"),
    _words("base_forms"),
    Column("skills", Text, nullable=False, server_default="chat,support"),
    _count("activation"),
    CheckConstraint("status IN ('candidate', 'canary', 'active', 'retired', 'rejected')", name="status"),
    CheckConstraint("status <> 'active' OR passed OR forced_reason <> ''", name="verdict"),  # whatever program writes here
)
_ACTIVE = text("status = 'active'")
Index("ix_adapter_releases_active", adapter_releases.c.base_model_sha256, unique=True, sqlite_where=_ACTIVE, postgresql_where=_ACTIVE)

audit: Final = Table(
    "audit",
    metadata,
    Column("id", _BIG, primary_key=True, autoincrement=True),
    _time("at"),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    _words("subject"),
    _words("detail"),
    _words("previous_hash"),
    Column("hash", Text, nullable=False),
    sqlite_autoincrement=True,
)
