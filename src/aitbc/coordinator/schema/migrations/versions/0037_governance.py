"""governance"""

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None

APPEND_ONLY = ("delegations", "proposal_events", "votes_cast")


def one_of(name: str, column: str, *values: str) -> sa.CheckConstraint:
    """As the models' `listed` writes it on each database."""
    if op.get_bind().dialect.name == "postgresql":
        array = ",".join(values)
        return sa.CheckConstraint(f"({column} = ANY ('{{{array}}}'::text[]))", name=name)
    chain = " OR ".join(f"{column} = '{value}'" for value in values)
    return sa.CheckConstraint(f"({chain})", name=name)


def upgrade() -> None:
    op.create_table(
        "delegations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("delegator_id", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("delegate_id", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_delegations_delegate", "delegations", ["delegate_id", "at_ms"], unique=False)
    op.create_index("ux_delegations_number", "delegations", ["delegator_id", "number"], unique=True)
    op.create_table(
        "proposal_events",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "votes_cast",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("choice", sa.Text(), nullable=False),
        sa.Column("power_units", sa.BigInteger(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("power_units >= 0", name="power"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "proposals",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("proposer_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("parameter", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=True),
        sa.Column("recipient_id", sa.Text(), nullable=False),
        sa.Column("amount_units", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("snapshot_ms", sa.BigInteger(), nullable=False),
        sa.Column("age_ms", sa.BigInteger(), nullable=False),
        sa.Column("quorum_units", sa.BigInteger(), nullable=False),
        sa.Column("threshold_bps", sa.BigInteger(), nullable=False),
        sa.Column("starts_ms", sa.BigInteger(), nullable=False),
        sa.Column("ends_ms", sa.BigInteger(), nullable=False),
        sa.Column("extension_ms", sa.BigInteger(), nullable=False),
        sa.Column("extended", sa.Integer(), nullable=False),
        sa.Column("timelock_ms", sa.BigInteger(), nullable=False),
        sa.Column("window_ms", sa.BigInteger(), nullable=False),
        sa.Column("quorum_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("execute_after_ms", sa.BigInteger(), nullable=False),
        sa.Column("execute_by_ms", sa.BigInteger(), nullable=False),
        sa.Column("for_units", sa.BigInteger(), nullable=False),
        sa.Column("against_units", sa.BigInteger(), nullable=False),
        sa.Column("abstain_units", sa.BigInteger(), nullable=False),
        sa.Column("veto_units", sa.BigInteger(), nullable=False),
        sa.Column("casts", sa.BigInteger(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("deposit_units", sa.BigInteger(), nullable=False),
        sa.Column("deposit_hold_id", sa.Text(), nullable=False),
        sa.Column("deposit_key_id", sa.Text(), nullable=False),
        sa.Column("deposit_period_ms", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        one_of(
            "status",
            "status",
            "pending",
            "active",
            "queued",
            "passed",
            "rejected",
            "expired",
            "cancelled",
            "executed",
        ),
        one_of("type", "type", "parameter_change", "fund_allocation", "text"),
        sa.CheckConstraint(
            "for_units >= 0 AND against_units >= 0 AND abstain_units >= 0 AND veto_units >= 0",
            name="not_negative",
        ),
        sa.CheckConstraint("starts_ms <= ends_ms AND extended >= 0 AND extended <= 1", name="times"),
        sa.ForeignKeyConstraint(
            ["proposer_id"],
            ["accounts.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_proposals_due",
        "proposals",
        ["due_ms"],
        unique=False,
        sqlite_where=sa.text("due_ms IS NOT NULL"),
        postgresql_where=sa.text("due_ms IS NOT NULL"),
    )
    op.create_index("ix_proposals_proposer", "proposals", ["proposer_id", "status"], unique=False)
    op.create_index("ix_proposals_status", "proposals", ["status", "id"], unique=False)
    op.create_table(
        "votes",
        sa.Column("proposal_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("choice", sa.Text(), nullable=False),
        sa.Column("power_units", sa.BigInteger(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        one_of("choice", "choice", "for", "against", "abstain", "veto"),
        sa.ForeignKeyConstraint(
            ["proposal_id"],
            ["proposals.id"],
        ),
        sa.PrimaryKeyConstraint("proposal_id", "account_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_votes_account", "votes", ["account_id", "proposal_id"], unique=False)
    # The least of each stretch between marks; of those that stand already it is not known.
    op.add_column("balance_marks", sa.Column("low_units", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("lease_ms", sa.BigInteger(), nullable=True))
    for table in APPEND_ONLY:
        refuse_change(table)


def refuse_change(table: str) -> None:
    """The database itself refuses to change or delete the table's rows."""
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
