"""fees are fixed at the claim"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

USUAL_FEE_BPS = 250


def upgrade() -> None:
    """Jobs that run now have the fee that is in force now."""
    op.add_column("jobs", sa.Column("fee_bps", sa.BigInteger(), nullable=True))
    op.execute(
        "UPDATE jobs SET fee_bps = COALESCE((SELECT value FROM parameters WHERE name = 'fee_bps'),"
        f" {USUAL_FEE_BPS}) WHERE status = 'running'"
    )
