"""marks of balances"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "balance_marks",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("in_units", sa.BigInteger(), nullable=False),
        sa.Column("out_units", sa.BigInteger(), nullable=False),
        sa.Column("movements", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("in_units >= 0 AND out_units >= 0 AND movements >= 0", name="counted"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("account_id", "at_ms"),
        sqlite_with_rowid=False,
    )
    op.add_column(
        "account_activity", sa.Column("marked", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.create_index(
        "ix_account_activity_unmarked",
        "account_activity",
        ["account_id"],
        unique=False,
        sqlite_where=sa.text("transfers - marked >= 500"),
        postgresql_where=sa.text("transfers - marked >= 500"),
    )
    # Statements go by the time of what moved; so do the lists of an account's transfers.
    for side in ("debit", "credit"):
        op.create_index(
            f"ix_transfers_{side}_time", "transfers", [f"{side}_id", "created_at_ms", "id"], unique=False
        )
        op.drop_index(f"ix_transfers_{side}", table_name="transfers")
