"""miners that are gone"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_miners_gone",
        "miners",
        ["last_heartbeat_ms"],
        unique=False,
        sqlite_where=sa.text("status = 'inactive' AND revision <> 0"),
        postgresql_where=sa.text("status = 'inactive' AND revision <> 0"),
    )
