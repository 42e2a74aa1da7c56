"""receipts by miner and by model"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_receipts_miner", "receipts", ["miner_id", "id"], unique=False)
    op.create_index("ix_receipts_model", "receipts", ["model", "id"], unique=False)
