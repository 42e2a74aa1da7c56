"""What cancelled runs cost"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What was cancelled before cost nothing: none of its run was paid for."""
    for name in ("progress_tokens", "progress_ms", "paid_run_ms"):
        op.add_column("jobs", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
