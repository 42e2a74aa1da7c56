"""Fewer indexes on jobs, and which jobs are paid by hand"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

PENDING = sa.text("status = 'pending'")
RUNNING = sa.text("status = 'running'")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("manual_payment", sa.Integer(), nullable=False, server_default="0"))
    op.execute("UPDATE jobs SET manual_payment = 1 WHERE id IN (SELECT job_id FROM payments)")
    for name in ("ix_jobs_lease", "ix_jobs_held_by", "ix_jobs_open"):
        op.drop_index(name, "jobs")
    op.create_index(
        "ix_jobs_backlog",
        "jobs",
        ["client_id", "id"],
        unique=False,
        sqlite_where=PENDING,
        postgresql_where=PENDING,
    )
    op.create_index(
        "ix_jobs_running",
        "jobs",
        ["miner_id", "id", "lease_expires_at_ms"],
        unique=False,
        sqlite_where=RUNNING,
        postgresql_where=RUNNING,
    )
