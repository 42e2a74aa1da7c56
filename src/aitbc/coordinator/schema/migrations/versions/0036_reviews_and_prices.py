"""reviews of GPUs, and what the prices of a model are read from"""

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

LISTED = ("state", "region", "memory_mb", "rating_millis", "reliability_bps")
USED = "state = 'completed' AND used_ms > 0"


def upgrade() -> None:
    """A booking that is there is of the model that its GPU is called now."""
    reviews()
    op.add_column("bookings", sa.Column("model_key", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.execute(
        "UPDATE bookings SET model_key = (SELECT g.model_key FROM gpus g WHERE g.id = bookings.gpu_id)"
    )
    op.create_index(
        "ix_bookings_model", "bookings", ["model_key", "state", "ended_at_ms", "start_ms", "end_ms"]
    )
    condition = sa.text(USED)
    op.create_index(
        "ix_bookings_used",
        "bookings",
        ["booker_id", "gpu_id", "id"],
        sqlite_where=condition,
        postgresql_where=condition,
    )
    op.drop_index("ix_gpus_model_key", table_name="gpus")
    op.create_index(
        "ix_gpus_model_key", "gpus", ["model_key", "price_units", "id", *LISTED, "registered_at_ms"]
    )


def reviews() -> None:
    op.create_table(
        "reviews",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("gpu_id", sa.Text(), nullable=False),
        sa.Column("booking_id", sa.Text(), nullable=False),
        sa.Column("author_id", sa.Text(), nullable=False),
        sa.Column("stars", sa.Integer(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.CheckConstraint("stars BETWEEN 1 AND 5", name="stars"),
        sa.CheckConstraint("updated_at_ms >= created_at_ms", name="time"),
        sa.ForeignKeyConstraint(["gpu_id"], ["gpus.id"]),
        sa.ForeignKeyConstraint(["booking_id"], ["bookings.id"]),
        sa.ForeignKeyConstraint(["author_id"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ux_reviews_booking", "reviews", ["booking_id"], unique=True)
    op.create_index("ix_reviews_gpu", "reviews", ["gpu_id", "id"])
