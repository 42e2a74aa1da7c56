"""Payments"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "payments",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("payer_id", sa.Text(), nullable=False),
        sa.Column("payee_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("amount_units", sa.BigInteger(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("fee_units", sa.BigInteger(), nullable=False),
        sa.Column("refunded_units", sa.BigInteger(), nullable=False),
        sa.Column("release_after_ms", sa.BigInteger(), nullable=False),
        sa.Column("transfer_id", sa.Text(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(status = 'pending' OR status = 'escrowed' OR status = 'released' OR status = 'refunded' OR status = 'partially_refunded')",
            name="status",
        ),
        sa.CheckConstraint("amount_units >= 0 AND price_units >= 0 AND fee_units >= 0", name="not_negative"),
        sa.CheckConstraint("price_units <= amount_units AND fee_units <= price_units", name="within"),
        sa.CheckConstraint("refunded_units >= 0 AND refunded_units <= amount_units", name="refund_within"),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["jobs.id"],
        ),
        sa.ForeignKeyConstraint(
            ["payer_id"],
            ["accounts.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_payments_due",
        "payments",
        ["release_after_ms"],
        unique=False,
        sqlite_where=sa.text("status = 'escrowed' AND release_after_ms > 0"),
        postgresql_where=sa.text("status = 'escrowed' AND release_after_ms > 0"),
    )
    op.create_index("ux_payments_job", "payments", ["job_id"], unique=True)
