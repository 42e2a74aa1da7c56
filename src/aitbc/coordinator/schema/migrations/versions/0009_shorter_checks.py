"""CHECKs of a column's values that PostgreSQL reads more quickly"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

JOB_STATUS = ("pending", "running", "completed", "failed", "cancelled")
CAUSE = (
    '""',
    "ENGINE_ERROR",
    "ENGINE_UNAVAILABLE",
    "MODEL_NOT_FOUND",
    "OUT_OF_MEMORY",
    "CONTEXT_LENGTH_EXCEEDED",
    "BAD_REQUEST",
    "TIMEOUT",
    "SHUTTING_DOWN",
    "COMPLETED",
    "CANCELLED_BY_CLIENT",
    "CANCELLED_BY_ADMIN",
    "EXPIRED",
    "LEASE_EXPIRED",
    "MINER_LEFT",
)
EVENT_TYPE = ("created", "claimed", "requeued", "completed", "failed", "cancelled", "expired")
PAYMENT_STATUS = ("pending", "escrowed", "released", "refunded", "partially_refunded")
TRANSFER_KIND = ("mint", "transfer", "hold", "post", "fee", "void")
CHECKS = (
    ("accounts", "kind", "kind", ("user", "mint", "treasury", "escrow"), ""),
    ("job_events", "status", "status", JOB_STATUS, ""),
    ("job_events", "type", "type", EVENT_TYPE, ""),
    ("jobs", "actor", "actor", ('""', "client", "miner", "coordinator", "admin"), ""),
    ("jobs", "cause", "cause", CAUSE, ""),
    ("jobs", "ended", "status", ("completed", "failed", "cancelled"), " = (finished_at_ms IS NOT NULL)"),
    ("jobs", "status", "status", JOB_STATUS, ""),
    ("miners", "status", "status", ("active", "draining", "inactive"), ""),
    ("payments", "status", "status", PAYMENT_STATUS, ""),
    ("transfers", "kind", "kind", TRANSFER_KIND, ""),
    ("transfers", "settles_a_hold", "kind", ("post", "fee", "void"), " = (hold_id IS NOT NULL)"),
    ("users", "kind", "kind", ("evm", "native"), ""),
)


def upgrade() -> None:
    """Says the same of each in fewer words. SQLite keeps what it reads."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, name, column, values, more in CHECKS:
        one_of = f"({column} = ANY ('{{{','.join(values)}}}'::text[])){more}"
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} CHECK ({one_of})")
