"""jobs by how they ended"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index(op.f("ix_jobs_backlog"), table_name="jobs", sqlite_where=sa.text("status = 'pending'"))
    op.create_index(
        "ix_jobs_backlog",
        "jobs",
        ["client_id", "id", "status"],
        unique=False,
        sqlite_where=sa.text("status = 'pending'"),
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "ix_jobs_cancelled",
        "jobs",
        ["client_id", "id", "status"],
        unique=False,
        sqlite_where=sa.text("status = 'cancelled'"),
        postgresql_where=sa.text("status = 'cancelled'"),
    )
    op.create_index(
        "ix_jobs_cancelled_all",
        "jobs",
        ["id", "status"],
        unique=False,
        sqlite_where=sa.text("status = 'cancelled'"),
        postgresql_where=sa.text("status = 'cancelled'"),
    )
    op.create_index(
        "ix_jobs_failed",
        "jobs",
        ["client_id", "id", "status"],
        unique=False,
        sqlite_where=sa.text("status = 'failed'"),
        postgresql_where=sa.text("status = 'failed'"),
    )
    op.create_index(
        "ix_jobs_failed_all",
        "jobs",
        ["id", "status"],
        unique=False,
        sqlite_where=sa.text("status = 'failed'"),
        postgresql_where=sa.text("status = 'failed'"),
    )
