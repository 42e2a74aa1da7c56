"""large inputs that wait"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_jobs_large",
        "jobs",
        ["client_id", "prompt_bound"],
        unique=False,
        sqlite_where=sa.text("status = 'pending' AND prompt_bound > 4096"),
        postgresql_where=sa.text("status = 'pending' AND prompt_bound > 4096"),
    )
