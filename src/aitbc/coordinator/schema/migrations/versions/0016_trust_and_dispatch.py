"""Trust and dispatch: whom a failed job is kept from, context lengths, how far miners are trusted"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

QUEUED = "queued = 1"
REVIEWED = "queued = 1 AND review_at_ms > 0"
MATCHED = ("max_price_units", "min_memory_mb", "region", "required_miner_id", "min_context", "excluded")
COUNTERS = ("paused_until_ms", "delivered", "failed", "run_ms", "units", "deposit_units")


def upgrade() -> None:
    """Jobs that a miner failed stay kept from it, and are looked at again at once. Accounts that have miners are
    trusted with a lease for each answer of theirs."""
    for index in ("ix_jobs_queue", "ix_jobs_queue_any"):
        op.drop_index(index, table_name="jobs")
    op.execute("ALTER TABLE jobs RENAME COLUMN excluded_miner_id TO excluded")
    op.execute("ALTER TABLE jobs RENAME COLUMN excluded_until_ms TO review_at_ms")
    op.execute(
        "UPDATE jobs SET excluded = ' ' || excluded || ' ' WHERE excluded <> '' AND status = 'pending'"
    )
    op.add_column("jobs", sa.Column("min_context", sa.BigInteger(), nullable=False, server_default="0"))
    for name, first in (("ix_jobs_queue", ("job_type", "model")), ("ix_jobs_queue_any", ("job_type",))):
        columns = [*first, "rank", "id", *MATCHED]
        op.create_index(name, "jobs", columns, sqlite_where=sa.text(QUEUED), postgresql_where=sa.text(QUEUED))
    op.create_index(
        "ix_jobs_review",
        "jobs",
        ["review_at_ms"],
        sqlite_where=sa.text(REVIEWED),
        postgresql_where=sa.text(REVIEWED),
    )
    op.add_column("miners", sa.Column("strikes", sa.Integer(), nullable=False, server_default="0"))
    for name in COUNTERS[:-1]:
        op.add_column("miners", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column(
        "miners", sa.Column("deposit_hold_id", sa.Text(), nullable=False, server_default=sa.text("''"))
    )
    op.add_column("miners", sa.Column("deposit_units", sa.BigInteger(), nullable=False, server_default="0"))
    approvals = "(approval = 'none' OR approval = 'approved' OR approval = 'revoked')"
    if op.get_bind().dialect.name == "postgresql":
        approvals = "(approval = ANY ('{none,approved,revoked}'::text[]))"
    op.create_table(
        "providers",
        sa.Column("account_id", sa.Text(), sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("approval", sa.Text(), nullable=False),
        sa.Column("allowance", sa.Integer(), nullable=False),
        sa.Column("delivered", sa.BigInteger(), nullable=False),
        sa.Column("strikes", sa.Integer(), nullable=False),
        sa.Column("paused_until_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(approvals, name="approval"),
        sa.CheckConstraint("allowance >= 1 AND strikes >= 0", name="counts"),
        sa.PrimaryKeyConstraint("account_id"),
    )
    op.execute(
        "INSERT INTO providers (account_id, approval, allowance, delivered, strikes, paused_until_ms)"
        " SELECT m.account_id, 'none', CASE WHEN COALESCE(r.n, 0) > 4088 THEN 4096 ELSE 8 + COALESCE(r.n, 0) END,"
        " COALESCE(r.n, 0), 0, 0 FROM (SELECT DISTINCT account_id FROM miners) m"
        " LEFT JOIN (SELECT provider_id, COUNT(*) AS n FROM receipts GROUP BY provider_id) r"
        " ON r.provider_id = m.account_id"
    )
