"""PostgreSQL refuses to empty the append-only tables, too: TRUNCATE fires no trigger for rows."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLES = ("transfers", "receipts", "job_events", "blocks", "cosignatures", "wallet_transactions")


def upgrade() -> None:
    """Adds the triggers. SQLite has no TRUNCATE: a DELETE of all rows fires its triggers."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for table in TABLES:
        op.execute(
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
