"""The first tables.

Revision ID: 0001
Revises: none
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    _create_users()
    _create_conversations()
    _create_turns()
    _create_inbox()
    _create_outbox()
    _create_rest()


def downgrade() -> None:
    for table in (
        "audit",
        "adapter_releases",
        "feedback",
        "channel_offsets",
        "outbox_chunks",
        "outbox",
        "inbox",
        "turn_documents",
        "turns",
        "conversations",
        "profile_notes",
        "profiles",
        "identities",
        "users",
    ):
        op.drop_table(table)


def _number() -> sa.Column[int]:
    return sa.Column("seq", _BIG, nullable=False, autoincrement=True)


def _key(name: str = "id") -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _words(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default="")


def _time(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


def _count(name: str, start: int = 0) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=str(start))


def _refers(table: str, column: str, target: str, on_delete: str = "CASCADE") -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [target], name=f"fk_{table}_{column}", ondelete=on_delete)


def _index(name: str, table: str, columns: list[str], where: str | None = None, **options: Any) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition, **options)


def _create_users() -> None:
    op.create_table("users", _key(), _time("created_at"), sa.PrimaryKeyConstraint("id", name="pk_users"))
    op.create_table(
        "identities",
        _key("channel"),
        _key("account"),
        _key("external_id"),
        _key("user_id"),
        _words("display_name"),
        sa.Column("language", sa.Text),
        _time("created_at"),
        sa.PrimaryKeyConstraint("channel", "account", "external_id", name="pk_identities"),
        _refers("identities", "user_id", "users.id"),
    )
    _index("ix_identities_user_id", "identities", ["user_id"])
    op.create_table(
        "profiles",
        _key("user_id"),
        _words("name"),
        _words("language"),
        _words("tone"),
        _time("updated_at"),
        sa.PrimaryKeyConstraint("user_id", name="pk_profiles"),
        _refers("profiles", "user_id", "users.id"),
    )
    op.create_table(
        "profile_notes",
        _number(),
        _key("user_id"),
        _key("text"),
        _time("created_at"),
        sa.PrimaryKeyConstraint("seq", name="pk_profile_notes"),
        _refers("profile_notes", "user_id", "users.id"),
        sqlite_autoincrement=True,
    )
    _index("ix_profile_notes_user_id", "profile_notes", ["user_id"])


def _create_conversations() -> None:
    op.create_table(
        "conversations",
        _key(),
        _key("channel"),
        _key("account"),
        _key("chat"),
        sa.Column("is_private", sa.Boolean, nullable=False),
        sa.Column("user_id", sa.Text),
        sa.Column("owner", sa.Text, nullable=False, server_default="bot"),
        _count("owner_epoch"),
        _count("claim_epoch"),
        _words("claimed_by"),
        _time("lease_until", nullable=True),
        _time("pending_since", nullable=True),
        _time("pending_last", nullable=True),
        _time("waiting_since", nullable=True),
        _words("skill"),
        _count("window_start", start=1),
        _words("summary"),
        _count("turns"),
        _time("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_conversations"),
        sa.UniqueConstraint("channel", "account", "chat", name="uq_conversations_channel_account_chat"),
        sa.CheckConstraint("owner IN ('bot', 'human')", name="owner"),
        _refers("conversations", "user_id", "users.id", on_delete="SET NULL"),
    )
    _index("ix_conversations_user_id", "conversations", ["user_id"])
    _index("ix_conversations_pending", "conversations", ["pending_since"], "pending_since IS NOT NULL")
    _index("ix_conversations_pending_channel", "conversations", ["channel", "pending_since"], "pending_since IS NOT NULL")
    _index("ix_conversations_leased", "conversations", ["lease_until"], "lease_until IS NOT NULL")
    _index("ix_conversations_waiting", "conversations", ["waiting_since"], "waiting_since IS NOT NULL")


def _create_turns() -> None:
    op.create_table(
        "turns",
        _key("conversation_id"),
        sa.Column("seq", sa.BigInteger, nullable=False, autoincrement=False),
        _key(),
        _key("user_id"),
        _words("skill"),
        _key("status"),
        _words("user_text"),
        _words("reply_text"),
        _words("engine"),
        _words("adapter"),
        _count("prompt_tokens"),
        _count("completion_tokens"),
        sa.Column("in_history", sa.Boolean, nullable=False),
        _time("created_at"),
        sa.PrimaryKeyConstraint("conversation_id", "seq", name="pk_turns"),
        sa.UniqueConstraint("id", name="uq_turns_id"),
        sa.CheckConstraint("status IN ('answered', 'stopped', 'failed', 'unanswered')", name="status"),
        _refers("turns", "conversation_id", "conversations.id"),
        _refers("turns", "user_id", "users.id"),
        sqlite_with_rowid=False,
    )
    _index("ix_turns_user_id", "turns", ["user_id"])
    op.create_table(
        "turn_documents",
        _key("turn_id"),
        sa.Column("document", sa.LargeBinary, nullable=False),
        _time("expires_at"),
        sa.PrimaryKeyConstraint("turn_id", name="pk_turn_documents"),
        _refers("turn_documents", "turn_id", "turns.id"),
    )
    _index("ix_turn_documents_expires_at", "turn_documents", ["expires_at"])


def _create_inbox() -> None:
    op.create_table(
        "inbox",
        _number(),
        _key("channel"),
        _key("account"),
        _key("event_id"),
        _key("conversation_id"),
        sa.Column("raw", sa.LargeBinary, nullable=False),
        _key("kind"),
        _key("state"),
        _count("attempts"),
        _time("received_at"),
        sa.Column("turn_id", sa.Text),
        _words("error"),
        sa.PrimaryKeyConstraint("seq", name="pk_inbox"),
        sa.UniqueConstraint("channel", "account", "event_id", name="uq_inbox_channel_account_event_id"),
        sa.CheckConstraint("kind IN ('message', 'stop')", name="kind"),
        sa.CheckConstraint("state IN ('new', 'claimed', 'done', 'quarantined')", name="state"),
        _refers("inbox", "conversation_id", "conversations.id"),
        sqlite_autoincrement=True,
    )
    _index("ix_inbox_conversation_id", "inbox", ["conversation_id"])
    _index("ix_inbox_turn_id", "inbox", ["turn_id"])
    _index("ix_inbox_waiting", "inbox", ["conversation_id", "seq"], "state IN ('new', 'claimed')")
    _index("ix_inbox_quarantined", "inbox", ["seq"], "state = 'quarantined'")
    op.create_table(
        "channel_offsets",
        _key("channel"),
        _key("account"),
        _time("event_offset", nullable=True),
        _words("polled_by"),
        _count("poll_epoch"),
        _time("lease_until", nullable=True),
        sa.PrimaryKeyConstraint("channel", "account", name="pk_channel_offsets"),
    )


def _create_outbox() -> None:
    undelivered = "state IN ('ready', 'started', 'unknown')"
    op.create_table(
        "outbox",
        _number(),
        _key(),
        _key("conversation_id"),
        sa.Column("turn_id", sa.Text),
        _key("state"),
        _words("text"),
        _words("reply_to"),
        _words("placeholder_ref"),
        _count("owner_epoch"),
        _count("attempts"),
        _time("next_attempt_at"),
        _words("error"),
        _time("created_at"),
        sa.PrimaryKeyConstraint("seq", name="pk_outbox"),
        sa.UniqueConstraint("id", name="uq_outbox_id"),
        sa.UniqueConstraint("turn_id", name="uq_outbox_turn_id"),
        sa.CheckConstraint("state IN ('reserved', 'ready', 'started', 'sent', 'unknown', 'failed', 'cancelled')", name="state"),
        _refers("outbox", "conversation_id", "conversations.id"),
        sqlite_autoincrement=True,
    )
    _index("ix_outbox_conversation_id", "outbox", ["conversation_id"])
    _index("ix_outbox_due", "outbox", ["next_attempt_at"], undelivered)
    _index("ix_outbox_lane", "outbox", ["conversation_id", "seq"], undelivered)
    _index("ix_outbox_reserved", "outbox", ["conversation_id"], "state = 'reserved'", unique=True)
    _index("ix_outbox_unsent", "outbox", ["state", "seq"], "state <> 'sent'")
    op.create_table(
        "outbox_chunks",
        _key("outbox_id"),
        sa.Column("position", sa.Integer, nullable=False, autoincrement=False),
        _key("ref"),
        sa.PrimaryKeyConstraint("outbox_id", "position", name="pk_outbox_chunks"),
        _refers("outbox_chunks", "outbox_id", "outbox.id"),
    )


def _create_rest() -> None:
    op.create_table(
        "feedback",
        _key(),
        _key("turn_id"),
        _key("user_id"),
        sa.Column("rating", sa.Integer, nullable=False),
        _words("reason"),
        _words("correction"),
        _time("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_feedback"),
        sa.UniqueConstraint("turn_id", "user_id", name="uq_feedback_turn_id_user_id"),
        sa.CheckConstraint("rating IN (-1, 1)", name="rating"),
        _refers("feedback", "turn_id", "turns.id"),
        _refers("feedback", "user_id", "users.id"),
    )
    _index("ix_feedback_user_id", "feedback", ["user_id"])
    op.create_table(
        "adapter_releases",
        _key(),
        _key("name"),
        _key("base_model_sha256"),
        _key("path"),
        _key("sha256"),
        _key("status"),
        _words("verdict"),
        _time("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_adapter_releases"),
        sa.CheckConstraint("status IN ('candidate', 'canary', 'active', 'retired', 'rejected')", name="status"),
    )
    _index("ix_adapter_releases_active", "adapter_releases", ["base_model_sha256"], "status = 'active'", unique=True)
    op.create_table(
        "audit",
        sa.Column("id", _BIG, nullable=False, autoincrement=True),
        _time("at"),
        _key("actor"),
        _key("action"),
        _words("subject"),
        _words("detail"),
        _words("previous_hash"),
        _key("hash"),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sqlite_autoincrement=True,
    )
