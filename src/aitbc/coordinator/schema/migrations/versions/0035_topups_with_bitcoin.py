"""top-ups with bitcoin"""

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0025"
branch_labels = None
depends_on = None

KINDS = ("credit", "reversal")
STATES = ("pending", "seen", "confirmed", "expired", "invalid")
EXCEPTIONS = ("none", "underpaid", "overpaid", "late", "replaced")


def upgrade() -> None:
    op.create_table(
        "bitcoin_blocks",
        sa.Column("height", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("height"),
    )
    op.create_table(
        "bitcoin_credits",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("outpoint", sa.Text(), nullable=False),
        sa.Column("topup_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("sat", sa.BigInteger(), nullable=False),
        sa.Column("rate_units", sa.BigInteger(), nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.Column("short_units", sa.BigInteger(), nullable=False),
        sa.Column("block_height", sa.BigInteger(), nullable=False),
        sa.Column("block_hash", sa.Text(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(_one_of("kind", KINDS), name="kind"),
        sa.CheckConstraint("sat > 0 AND rate_units > 0 AND units >= 0 AND short_units >= 0", name="amounts"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "bitcoin_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("next_index", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "bitcoin_outputs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("topup_id", sa.Text(), nullable=False),
        sa.Column("script", sa.Text(), nullable=False),
        sa.Column("sat", sa.BigInteger(), nullable=False),
        sa.Column("coinbase", sa.Integer(), nullable=False),
        sa.Column("height", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("lost_height", sa.BigInteger(), nullable=False),
        sa.Column("gone", sa.Integer(), nullable=False),
        sa.Column("late", sa.Integer(), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("rate_units", sa.BigInteger(), nullable=False),
        sa.Column("credited_units", sa.BigInteger(), nullable=False),
        sa.Column("reversed", sa.Integer(), nullable=False),
        sa.Column("forgiven", sa.Integer(), nullable=False),
        sa.Column("final", sa.Integer(), nullable=False),
        sa.Column("seen_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("(height >= 0) = (hash <> '')", name="in_a_block"),
        sa.CheckConstraint("gone = 0 OR height = -1", name="gone_from_the_chain"),
        sa.CheckConstraint("sat > 0 AND credited_units >= 0 AND events >= 0", name="amounts"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_bitcoin_outputs_flagged",
        "bitcoin_outputs",
        ["topup_id"],
        unique=False,
        sqlite_where=sa.text("reversed = 1 AND credited_units > 0 AND forgiven = 0"),
        postgresql_where=sa.text("reversed = 1 AND credited_units > 0 AND forgiven = 0"),
    )
    op.create_index(
        "ix_bitcoin_outputs_open",
        "bitcoin_outputs",
        ["id"],
        unique=False,
        sqlite_where=sa.text("final = 0"),
        postgresql_where=sa.text("final = 0"),
    )
    op.create_index("ix_bitcoin_outputs_topup", "bitcoin_outputs", ["topup_id"], unique=False)
    op.create_table(
        "bitcoin_watch",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("genesis", sa.Text(), nullable=False),
        sa.Column("height", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("scanned_height", sa.BigInteger(), nullable=False),
        sa.Column("scanned_number", sa.BigInteger(), nullable=False),
        sa.Column("whole_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name="one_row"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "topups",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("exception", sa.Text(), nullable=False),
        sa.Column("ait_units", sa.BigInteger(), nullable=False),
        sa.Column("sat", sa.BigInteger(), nullable=False),
        sa.Column("rate_units", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("script", sa.Text(), nullable=False),
        sa.Column("told_by_sat", sa.BigInteger(), nullable=True),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("key_index", sa.BigInteger(), nullable=False),
        sa.Column("lock_over", sa.Integer(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("looked_height", sa.BigInteger(), nullable=False),
        sa.Column("asked_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(_one_of("exception", EXCEPTIONS), name="exception"),
        sa.CheckConstraint(_one_of("state", STATES), name="state"),
        sa.CheckConstraint("ait_units >= 0 AND sat > 0 AND rate_units > 0", name="amounts"),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_topups_account", "topups", ["account_id", "created_at_ms"], unique=False)
    op.create_index("ix_topups_asked", "topups", ["asked_ms"], unique=False)
    op.create_index(
        "ix_topups_locked",
        "topups",
        ["expires_at_ms"],
        unique=False,
        sqlite_where=sa.text("lock_over = 0"),
        postgresql_where=sa.text("lock_over = 0"),
    )
    op.create_index(
        "ix_topups_reserved",
        "topups",
        ["expires_at_ms"],
        unique=False,
        sqlite_where=sa.text("told_by_sat > 0"),
        postgresql_where=sa.text("told_by_sat > 0"),
    )
    op.create_index("ux_topups_number", "topups", ["number"], unique=True)
    op.create_index("ux_topups_paid_by", "topups", ["script", "told_by_sat"], unique=True)
    _refuse_changes("bitcoin_credits")


def _one_of(column: str, values: tuple[str, ...]) -> str:
    if op.get_bind().dialect.name == "postgresql":
        return f"({column} = ANY ('{{{','.join(values)}}}'::text[]))"
    return "(" + " OR ".join(f"{column} = '{value}'" for value in values) + ")"


def _refuse_changes(table: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        return
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
