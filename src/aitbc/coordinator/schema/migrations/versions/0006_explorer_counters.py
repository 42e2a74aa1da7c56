"""Explorer counters"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "account_activity",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("transfers", sa.BigInteger(), nullable=False),
        sa.Column("first_leaf", sa.BigInteger(), nullable=False),
        sa.Column("last_leaf", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("first_leaf >= 0 AND last_leaf >= first_leaf AND transfers > 0", name="counted"),
        sa.PrimaryKeyConstraint("account_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_account_activity_last", "account_activity", ["last_leaf", "account_id"], unique=False)
    op.create_table(
        "counters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.Column("mark", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_leaves_transfers",
        "leaves",
        ["seq"],
        unique=False,
        sqlite_where=sa.text("kind = 0"),
        postgresql_where=sa.text("kind = 0"),
    )
