"""What channels need: extras and orphans of messages, senders of events, quick sums of what a user used.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("outbox", sa.Column("extras", sa.Text, nullable=False, server_default=""))
    op.add_column("outbox", sa.Column("orphans", sa.BigInteger, nullable=False, server_default="0"))
    _partial_index("ix_outbox_orphaned", "outbox", ["seq"], "orphans > 0")
    op.add_column("inbox", sa.Column("sender", sa.Text, nullable=False, server_default=""))
    _partial_index("ix_inbox_sender", "inbox", ["channel", "account", "sender"], "sender <> ''")
    op.create_index("ix_turns_user_id_created_at", "turns", ["user_id", "created_at"])
    op.drop_index("ix_turns_user_id", "turns")
    _partial_index("ix_channel_offsets_leased", "channel_offsets", ["lease_until"], "lease_until IS NOT NULL")


def downgrade() -> None:
    op.drop_index("ix_channel_offsets_leased", "channel_offsets")
    op.create_index("ix_turns_user_id", "turns", ["user_id"])
    op.drop_index("ix_turns_user_id_created_at", "turns")
    op.drop_index("ix_inbox_sender", "inbox")
    op.drop_column("inbox", "sender")
    op.drop_index("ix_outbox_orphaned", "outbox")
    op.drop_column("outbox", "orphans")
    op.drop_column("outbox", "extras")


def _partial_index(name: str, table: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)
