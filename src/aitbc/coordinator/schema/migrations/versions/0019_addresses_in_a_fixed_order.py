"""addresses in a fixed order"""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_account_activity_last", table_name="account_activity")
    op.create_index(
        "ix_account_activity_first", "account_activity", ["first_leaf", "account_id"], unique=False
    )
