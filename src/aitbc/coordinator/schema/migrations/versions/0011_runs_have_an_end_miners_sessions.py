"""Runs have an end, miners sessions"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What runs now has the default time from its start; a coordinator that starts gives it a lease at least."""
    for name, default in (("max_run_ms", "1800000"), ("run_ends_at_ms", "0")):
        op.add_column("jobs", sa.Column(name, sa.BigInteger(), nullable=False, server_default=default))
    op.add_column("jobs", sa.Column("miner_session", sa.Text(), nullable=False, server_default=sa.text("''")))
    for name in ("session_id", "installation_id"):
        op.add_column("miners", sa.Column(name, sa.Text(), nullable=False, server_default=sa.text("''")))
    op.execute("UPDATE jobs SET run_ends_at_ms = started_at_ms + max_run_ms WHERE status = 'running'")
