"""GPUs that are let by the hour, their bookings, and what the bookers say of them."""

from sqlalchemy import CheckConstraint, Index
from sqlalchemy import text as sql
from sqlmodel import SQLModel

from aitbc.coordinator.database.columns import big, listed, small, text
from aitbc.core.rating import PRIOR_MILLIS

GPU_STATES = ("available", "booked", "offline")
TRANSITIONS: dict[str, tuple[str, ...]] = {
    "waiting": ("running", "cancelled", "no_show"),
    "running": ("released", "ran_out"),
    "released": (),
    "ran_out": (),
    "cancelled": (),
    "no_show": (),
}
"""What the guarded updates of `bookings` allow, by a booking's detail."""

STATE_OF = {
    "waiting": "active",
    "running": "active",
    "released": "completed",
    "ran_out": "completed",
    "cancelled": "cancelled",
    "no_show": "cancelled",
}
"""The state of an order, by its detail."""

DETAILS = tuple(TRANSITIONS)
STATES = tuple(dict.fromkeys(STATE_OF.values()))
ENDERS = ("booker", "owner", "admin", "coordinator")

PRIOR_RATING_MILLIS = PRIOR_MILLIS
"""The rating of a GPU without reviews, in thousandths of a star."""
PRIOR_RELIABILITY_BPS = 9_000
"""The reliability of a GPU that was never booked, in basis points."""

ACTIVE = "state = 'active'"
UNOPENED = "state = 'active' AND opened = 0"
OPEN = "state = 'active' AND opened = 1"
AWAITED = "state = 'active' AND opened = 1 AND detail = 'waiting'"
"""No index has what each round changes of a booking that runs: PostgreSQL then changes its row in place."""
CLEARING = "clearing = 1"
USED = "state = 'completed' AND used_ms > 0"
"""Of bookings: those that may be reviewed."""
WITH_MINER = "miner_id <> ''"
OFFLINE = "state = 'offline' AND miner_id <> ''"

LISTED = ("state", "model_key", "region", "memory_mb", "price_units", "rating_millis", "reliability_bps")
"""What a list filters on, carried in its indexes so that GPUs that do not fit are passed over without their rows."""


def partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    return Index(name, *columns, unique=unique, sqlite_where=sql(where), postgresql_where=sql(where))


def sorted_by(*first: str, also: tuple[str, ...] = ()) -> Index:
    """The index of a list in this order."""
    rest = (column for column in LISTED if column not in first)
    return Index(f"ix_gpus_{first[0]}", *first, "id", *rest, *also)


class Gpu(SQLModel, table=True):
    """A machine's GPUs, let as one by the hour. One listing for each miner; without one it is offline.

    model_key   `core.gpu_names.model_key` of `model`: what is looked for
    memory_mb   of one card; cards how many there are
    price_units per hour, of all cards
    state       available | booked (`booking_id` has its time now) | offline (its miner is not here, or it has none)
    capabilities JSON: an array of texts
    bookings    how many there ever were; whoever books changes it, so that no two book at once
    promised_ms of bookings that have ended, while a coordinator ran; served_ms of that time its miner was there;
                reliability_bps follows from both
    reviews     how many; stars their sum, rating_millis their prior-weighted mean
    """

    __tablename__ = "gpus"
    __table_args__ = (
        listed("state", "state", GPU_STATES),
        CheckConstraint("(state = 'booked') = (booking_id <> '')", name="booked_by_one"),
        CheckConstraint("price_units > 0", name="price"),
        CheckConstraint("memory_mb > 0 AND cards >= 1", name="hardware"),
        CheckConstraint("served_ms >= 0 AND promised_ms >= served_ms", name="served"),
        CheckConstraint("reviews >= 0 AND stars >= reviews AND stars <= 5 * reviews", name="stars"),
        partial("ux_gpus_miner", "miner_id", where=WITH_MINER, unique=True),
        partial("ix_gpus_offline", "id", "miner_id", where=OFFLINE),
        Index("ix_gpus_owner", "owner_id", "id"),
        sorted_by("price_units"),
        sorted_by("model_key", "price_units", also=("registered_at_ms",)),  # the prices of a model, too
        sorted_by("memory_mb"),
        sorted_by("rating_millis"),
        sorted_by("reliability_bps"),
        {"sqlite_with_rowid": False},
    )

    id: str = text(primary_key=True)
    owner_id: str = text(foreign_key="accounts.id")
    miner_id: str = text("")
    model: str = text()
    model_key: str = text()
    memory_mb: int = big()
    cards: int = small()
    cuda_version: str = text("")
    region: str = text("")
    price_units: int = big()
    capabilities: str = text("[]")
    description: str = text("")
    state: str = text()
    booking_id: str = text("")
    bookings: int = big(0)
    promised_ms: int = big(0)
    served_ms: int = big(0)
    reliability_bps: int = big(PRIOR_RELIABILITY_BPS)
    reviews: int = big(0)
    stars: int = big(0)
    rating_millis: int = big(PRIOR_RATING_MILLIS)
    registered_at_ms: int = big()
    updated_at_ms: int = big()


class Booking(SQLModel, table=True):
    """A GPU for one account, from `start_ms` until before `end_ms`.

    state, detail   `STATE_OF`, `TRANSITIONS`
    hour_units      price of an hour, and fee_bps the network's share, both as they were when it was booked
    hold_id, held_units, key_id, spend_period_ms   the price of the whole time, held of the booker
    grant_key_id    the API key that it gives
    opened          1 from its start on; up_ms is how long coordinators had run by then (`bookings.uptime_ms`)
    counted_until_ms the latest heartbeat since the start that was counted (0: none yet)
    used_ms         time between heartbeats that were no further apart than the grace: what is billed
    price_units, fee_units, transfer_id   what it came to, and the ledger's post or void
    ended_by        who ended it ('' before)
    clearing        1 while jobs of it are still to be ended
    model_key       that of its GPU when it was booked
    """

    __tablename__ = "bookings"
    __table_args__ = (
        listed("state", "state", STATES),
        listed("detail", "detail", DETAILS),
        listed("ended_by", "ended_by", ("", *ENDERS)),
        listed("ended", "state", ("completed", "cancelled"), "{} = (ended_at_ms IS NOT NULL)"),
        CheckConstraint("start_ms < end_ms", name="time"),
        CheckConstraint("used_ms >= 0 AND used_ms <= end_ms - start_ms", name="used_within"),
        CheckConstraint("held_units > 0 AND hour_units > 0 AND fee_units >= 0", name="money"),
        CheckConstraint("price_units >= fee_units AND price_units <= held_units", name="price_within_hold"),
        CheckConstraint("booker_id <> owner_id", name="not_ones_own"),
        partial("ix_bookings_busy", "gpu_id", "end_ms", where=ACTIVE),
        partial("ix_bookings_active", "booker_id", "gpu_id", where=ACTIVE),
        partial("ix_bookings_unopened", "start_ms", "id", where=UNOPENED),
        partial("ix_bookings_open", "end_ms", "id", where=OPEN),
        partial("ix_bookings_awaited", "up_ms", "id", where=AWAITED),
        partial("ix_bookings_clearing", "id", where=CLEARING),
        # The state is in these so that orders in another one are passed over without their rows.
        Index("ix_bookings_booker", "booker_id", "id", "state"),
        Index("ix_bookings_owner", "owner_id", "id", "state"),
        Index("ix_bookings_state", "state", "id"),
        Index("ix_bookings_gpu", "gpu_id", "id"),
        Index("ix_bookings_model", "model_key", "state", "ended_at_ms", "start_ms", "end_ms"),
        partial("ix_bookings_used", "booker_id", "gpu_id", "id", where=USED),
        {"sqlite_with_rowid": False},
    )

    id: str = text(primary_key=True)
    gpu_id: str = text(foreign_key="gpus.id")
    miner_id: str = text()
    booker_id: str = text(foreign_key="accounts.id")
    owner_id: str = text(foreign_key="accounts.id")
    state: str = text()
    detail: str = text()
    start_ms: int = big()
    end_ms: int = big()
    hour_units: int = big()
    fee_bps: int = big()
    hold_id: str = text()
    held_units: int = big()
    key_id: str = text()
    spend_period_ms: int = big(0)
    grant_key_id: str = text()
    opened: int = small(0)
    up_ms: int = big(0)
    counted_until_ms: int = big(0)
    used_ms: int = big(0)
    price_units: int = big(0)
    fee_units: int = big(0)
    transfer_id: str = text("")
    ended_by: str = text("")
    ended_at_ms: int | None = big(None, nullable=True)
    clearing: int = small(0)
    created_at_ms: int = big()
    model_key: str = text("", sa_column_kwargs={"server_default": sql("''")})


class Review(SQLModel, table=True):
    """What a booker says of a GPU after a booking that was used: 1 to 5 stars, and a text that may be empty."""

    __tablename__ = "reviews"
    __table_args__ = (
        CheckConstraint("stars BETWEEN 1 AND 5", name="stars"),
        CheckConstraint("updated_at_ms >= created_at_ms", name="time"),
        Index("ux_reviews_booking", "booking_id", unique=True),
        Index("ix_reviews_gpu", "gpu_id", "id"),
    )

    id: str = text(primary_key=True)
    gpu_id: str = text(foreign_key="gpus.id")
    booking_id: str = text(foreign_key="bookings.id")
    author_id: str = text(foreign_key="accounts.id")
    stars: int = small()
    created_at_ms: int = big()
    updated_at_ms: int = big()
    text: str = text()
