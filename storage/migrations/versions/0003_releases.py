"""What promotion needs: verdicts that the database itself insists on, the order of activations, skills and other forms of the base.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TABLE = "adapter_releases"
_EXPLAIN = "UPDATE adapter_releases SET forced_reason = 'before verdicts were kept' WHERE status IN ('active', 'retired')"
_NUMBER = "UPDATE adapter_releases SET activation = CASE status WHEN 'active' THEN 2 ELSE 1 END WHERE status IN ('active', 'retired')"


def upgrade() -> None:
    op.add_column(_TABLE, sa.Column("passed", sa.Boolean, nullable=False, server_default=sa.false()))
    for name, default in (("forced_reason", ""), ("base_forms", ""), ("skills", "chat,support")):
        op.add_column(_TABLE, sa.Column(name, sa.Text, nullable=False, server_default=default))
    op.execute(_EXPLAIN)
    # SQLite cannot add a constraint to a table, but a column that brings one: no table has to be copied.
    rule = sa.CheckConstraint("status <> 'active' OR passed OR forced_reason <> ''", name="verdict")
    op.add_column(_TABLE, sa.Column("activation", sa.BigInteger, rule, nullable=False, server_default="0"))
    op.execute(_NUMBER)


def downgrade() -> None:
    for name in ("activation", "skills", "base_forms", "forced_reason", "passed"):
        op.drop_column(_TABLE, name)
