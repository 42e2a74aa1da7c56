"""the GPU market: what is on offer, bookings, the keys that they give, and jobs kept to a booked GPU"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

QUEUED = "queued = 1"
BEFORE = ("max_price_units", "min_memory_mb", "region", "required_miner_id", "min_context", "excluded")
LISTED = ("state", "model_key", "region", "memory_mb", "price_units", "rating_millis", "reliability_bps")
ORDERS = (
    ("price_units",),
    ("model_key", "price_units"),
    ("memory_mb",),
    ("rating_millis",),
    ("reliability_bps",),
)
CAUSES = (
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
STATES = ("active", "completed", "cancelled")
DETAILS = ("waiting", "running", "released", "ran_out", "cancelled", "no_show")
ENDERS = ("booker", "owner", "admin", "coordinator")


def texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def numbers(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def chain(column: str, values: tuple[str, ...]) -> str:
    return "(" + " OR ".join(f"{column} = '{value}'" for value in values) + ")"


def one_of(column: str, *values: str) -> str:
    """As `database.columns.listed` writes it for each database."""
    if op.get_bind().dialect.name == "sqlite":
        return chain(column, values)
    array = ",".join(value or '""' for value in values)
    return f"({column} = ANY ('{{{array}}}'::text[]))"


def partial(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


def upgrade() -> None:
    """Keys and jobs that are there belong to no booking."""
    gpus()
    bookings()
    empty = sa.text("''")
    for table, column in (("api_keys", "booking_id"), ("jobs", "reservation"), ("miners", "reservation")):
        op.add_column(table, sa.Column(column, sa.Text(), server_default=empty, nullable=False))
    for name, first in (("ix_jobs_queue", ["job_type", "model"]), ("ix_jobs_queue_any", ["job_type"])):
        op.drop_index(name, table_name="jobs")
        partial(name, "jobs", ["reservation", *first, "rank", "id", *BEFORE], QUEUED)
    may_end_with_its_booking(op.get_bind())


def gpus() -> None:
    op.create_table(
        "gpus",
        *texts("id", "owner_id", "miner_id", "model", "model_key"),
        *numbers("memory_mb"),
        sa.Column("cards", sa.Integer(), nullable=False),
        *texts("cuda_version", "region"),
        *numbers("price_units"),
        *texts("capabilities", "description", "state", "booking_id"),
        *numbers("bookings", "promised_ms", "served_ms", "reliability_bps"),
        *numbers("reviews", "stars", "rating_millis", "registered_at_ms", "updated_at_ms"),
        sa.CheckConstraint(one_of("state", "available", "booked", "offline"), name="state"),
        sa.CheckConstraint("(state = 'booked') = (booking_id <> '')", name="booked_by_one"),
        sa.CheckConstraint("price_units > 0", name="price"),
        sa.CheckConstraint("memory_mb > 0 AND cards >= 1", name="hardware"),
        sa.CheckConstraint("served_ms >= 0 AND promised_ms >= served_ms", name="served"),
        sa.CheckConstraint("reviews >= 0 AND stars >= reviews AND stars <= 5 * reviews", name="stars"),
        sa.ForeignKeyConstraint(["owner_id"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    partial("ux_gpus_miner", "gpus", ["miner_id"], "miner_id <> ''", unique=True)
    partial("ix_gpus_offline", "gpus", ["id", "miner_id"], "state = 'offline' AND miner_id <> ''")
    op.create_index("ix_gpus_owner", "gpus", ["owner_id", "id"])
    for first in ORDERS:
        rest = [column for column in LISTED if column not in first]
        op.create_index(f"ix_gpus_{first[0]}", "gpus", [*first, "id", *rest])


def bookings() -> None:
    op.create_table(
        "bookings",
        *texts("id", "gpu_id", "miner_id", "booker_id", "owner_id", "state", "detail"),
        *numbers("start_ms", "end_ms", "hour_units", "fee_bps"),
        *texts("hold_id"),
        *numbers("held_units"),
        *texts("key_id"),
        *numbers("spend_period_ms"),
        *texts("grant_key_id"),
        sa.Column("opened", sa.Integer(), nullable=False),
        *numbers("up_ms", "counted_until_ms", "used_ms", "price_units", "fee_units"),
        *texts("transfer_id", "ended_by"),
        sa.Column("ended_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("clearing", sa.Integer(), nullable=False),
        *numbers("created_at_ms"),
        sa.CheckConstraint(one_of("state", *STATES), name="state"),
        sa.CheckConstraint(one_of("detail", *DETAILS), name="detail"),
        sa.CheckConstraint(one_of("ended_by", "", *ENDERS), name="ended_by"),
        sa.CheckConstraint(f"{one_of('state', *STATES[1:])} = (ended_at_ms IS NOT NULL)", name="ended"),
        sa.CheckConstraint("start_ms < end_ms", name="time"),
        sa.CheckConstraint("used_ms >= 0 AND used_ms <= end_ms - start_ms", name="used_within"),
        sa.CheckConstraint("held_units > 0 AND hour_units > 0 AND fee_units >= 0", name="money"),
        sa.CheckConstraint(
            "price_units >= fee_units AND price_units <= held_units", name="price_within_hold"
        ),
        sa.CheckConstraint("booker_id <> owner_id", name="not_ones_own"),
        sa.ForeignKeyConstraint(["gpu_id"], ["gpus.id"]),
        sa.ForeignKeyConstraint(["booker_id"], ["accounts.id"]),
        sa.ForeignKeyConstraint(["owner_id"], ["accounts.id"]),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    partial("ix_bookings_busy", "bookings", ["gpu_id", "end_ms"], "state = 'active'")
    partial("ix_bookings_active", "bookings", ["booker_id", "gpu_id"], "state = 'active'")
    partial("ix_bookings_unopened", "bookings", ["start_ms", "id"], "state = 'active' AND opened = 0")
    partial("ix_bookings_open", "bookings", ["end_ms", "id"], "state = 'active' AND opened = 1")
    awaited = "state = 'active' AND opened = 1 AND detail = 'waiting'"
    partial("ix_bookings_awaited", "bookings", ["up_ms", "id"], awaited)
    partial("ix_bookings_clearing", "bookings", ["id"], "clearing = 1")
    op.create_index("ix_bookings_booker", "bookings", ["booker_id", "id", "state"])
    op.create_index("ix_bookings_owner", "bookings", ["owner_id", "id", "state"])
    op.create_index("ix_bookings_state", "bookings", ["state", "id"])
    op.create_index("ix_bookings_gpu", "bookings", ["gpu_id", "id"])


def may_end_with_its_booking(bind: sa.Connection) -> None:
    """A job may have one cause more. SQLite changes no CHECK: the rows go into a table that has it."""
    after = (*CAUSES, "BOOKING_ENDED")
    if bind.dialect.name == "postgresql":
        check = one_of("cause", "", *after)
        op.execute(f"ALTER TABLE jobs DROP CONSTRAINT cause, ADD CONSTRAINT cause CHECK ({check})")
        return
    found = bind.exec_driver_sql(
        "SELECT type, sql FROM sqlite_master WHERE tbl_name = 'jobs' AND sql IS NOT NULL"
    ).all()
    made = next(str(row.sql) for row in found if row.type == "table")
    old = chain("cause", ("", *CAUSES))
    if made.count(old) != 1:
        raise RuntimeError("jobs has another CHECK of its cause than was expected")
    bind.exec_driver_sql("PRAGMA legacy_alter_table=ON")  # other tables go on referring to `jobs`
    bind.exec_driver_sql("ALTER TABLE jobs RENAME TO old_jobs")
    bind.exec_driver_sql("PRAGMA legacy_alter_table=OFF")
    bind.exec_driver_sql(made.replace(old, chain("cause", ("", *after))))
    bind.exec_driver_sql("INSERT INTO jobs SELECT * FROM old_jobs")
    bind.exec_driver_sql("DROP TABLE old_jobs")
    for row in found:
        if row.type != "table":
            bind.exec_driver_sql(str(row.sql))
