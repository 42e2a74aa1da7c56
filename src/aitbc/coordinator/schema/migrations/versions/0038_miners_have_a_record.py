"""miners have a record: how long they were here, what they kept of bookings, and why they failed"""

import sqlalchemy as sa
from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None

TIMES = ("up_ms", "away_ms", "lapsed_at_ms", "promised_ms", "served_ms")


def upgrade() -> None:
    """Records begin now: what was before was not kept, or is in the sums that are there."""
    for name in TIMES:
        op.add_column("miners", sa.Column(name, sa.BigInteger(), server_default="0", nullable=False))
    op.create_table(
        "miner_failures",
        sa.Column("miner_id", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("count >= 0", name="count"),
        sa.ForeignKeyConstraint(["miner_id"], ["miners.id"]),
        sa.PrimaryKeyConstraint("miner_id", "cause"),
    )
