"""Bookings in the database: guarded moves, each checked by its row count. Money and miners are the flows' business."""

from typing import Any

from sqlalchemy import bindparam, func, literal_column, or_, select, update
from sqlalchemy import text as sql

from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.marketplace.models import (
    ACTIVE,
    AWAITED,
    CLEARING,
    OPEN,
    STATE_OF,
    TRANSITIONS,
    UNOPENED,
    USED,
    Booking,
)
from aitbc.coordinator.marketplace.rows import BOOKING_COLUMNS, BookingRow
from aitbc.core.ids import floor_id

DAY_MS = 86_400_000
MAX_ACTIVE = 256
"""Bookings of one account that have not ended."""
MAX_A_DAY = 1_000
"""Bookings that one account makes in 24 hours: one that is cancelled costs nothing and leaves a row."""
MOST_BUSY = 50
"""Times of a GPU's bookings that are shown."""

_b: Any = table_of(Booking).c
_own = _b.id == bindparam("booking")
_now: Any = bindparam("now")
_active = sql(ACTIVE)

INSERT_BOOKING = insert_into(Booking)
SELECT_BOOKING = statement(select(*BOOKING_COLUMNS).where(_own), BookingRow)
LOCK_BOOKING = statement(select(*BOOKING_COLUMNS).where(_own).with_for_update(), BookingRow)
SHARE_BOOKING = statement(select(*BOOKING_COLUMNS).where(_own).with_for_update(read=True), BookingRow)
OVERLAPPING = statement(
    select(*BOOKING_COLUMNS)
    .where(
        _active,
        _b.gpu_id == bindparam("gpu"),
        _b.end_ms > bindparam("start"),
        _b.start_ms < bindparam("end"),
    )
    .order_by(_b.end_ms)
    .limit(1),
    BookingRow,
)
BUSY = statement(
    select(_b.start_ms, _b.end_ms)
    .where(_active, _b.gpu_id == bindparam("gpu"), _b.end_ms > _now)
    .order_by(_b.end_ms)
    .limit(MOST_BUSY)
)
OF_BOOKER = statement(
    select(*BOOKING_COLUMNS)
    .where(_active, _b.gpu_id == bindparam("gpu"), _b.booker_id == bindparam("booker"))
    .order_by(_b.end_ms)
    .limit(1),
    BookingRow,
)
EVER_OF_BOOKER = statement(
    select(_b.id).where(_b.gpu_id == bindparam("gpu"), _b.booker_id == bindparam("booker")).limit(1)
)
NEWEST_USED = statement(
    select(*BOOKING_COLUMNS)
    .where(sql(USED), _b.gpu_id == bindparam("gpu"), _b.booker_id == bindparam("booker"))
    .order_by(_b.id.desc())
    .limit(1),
    BookingRow,
)
NOT_ENDED = statement(select(_b.id).where(_active, _b.gpu_id == bindparam("gpu")).limit(1))
ACTIVE_OF_BOOKER = statement(
    select(func.count().label("count")).select_from(
        select(_b.id).where(_active, _b.booker_id == bindparam("booker")).limit(bindparam("most")).subquery()
    )
)
MADE_SINCE = statement(
    select(func.count().label("count")).select_from(
        select(_b.id)
        .where(_b.booker_id == bindparam("booker"), _b.id > bindparam("after"))
        .limit(bindparam("most"))
        .subquery()
    )
)
OPEN_ONE = statement(
    update(Booking).where(_own, sql(UNOPENED)).values(opened=literal_column("1"), up_ms=bindparam("up"))
)


def _may_become(detail: str) -> Any:
    """SQL: that a booking is in a state from which TRANSITIONS leads to this one."""
    before = [one for one, after in TRANSITIONS.items() if detail in after]
    return or_(*(_b.detail == literal_column(f"'{one}'") for one in before))


END = {
    detail: statement(
        update(Booking)
        .where(_own, _active, _may_become(detail))
        .values(
            state=literal_column(f"'{STATE_OF[detail]}'"),
            detail=literal_column(f"'{detail}'"),
            used_ms=bindparam("used"),
            price_units=bindparam("price"),
            fee_units=bindparam("fee"),
            transfer_id=bindparam("transfer"),
            ended_by=bindparam("by"),
            ended_at_ms=_now,
            clearing=_b.opened,
        )
    )
    for detail, state in STATE_OF.items()
    if state != "active"
}
"""By the detail that it then has."""

SET_GRANT = statement(update(Booking).where(_own, _active).values(grant_key_id=bindparam("key")))
CLEARED = statement(update(Booking).where(_own).values(clearing=literal_column("0")))
DUE = {
    "ended": select(_b.id).where(sql(OPEN), _b.end_ms <= _now).order_by(_b.end_ms),
    "awaited": select(_b.id).where(sql(AWAITED), _b.up_ms <= bindparam("up_before")).order_by(_b.up_ms),
    "unopened": select(_b.id).where(sql(UNOPENED), _b.start_ms <= _now).order_by(_b.start_ms, _b.id),
    "clearing": select(_b.id).where(sql(CLEARING)).order_by(_b.id),
}
LOOKS = {name: statement(look.limit(bindparam("count"))) for name, look in DUE.items()}


def add(tx: Tx, row: BookingRow) -> None:
    """Writes a new booking."""
    tx.run(INSERT_BOOKING, **row._asdict())


def get(tx: Tx, booking_id: str) -> BookingRow | None:
    row: BookingRow | None = tx.one(SELECT_BOOKING, booking=booking_id)
    return row


def lock(tx: Tx, booking_id: str) -> BookingRow | None:
    """The booking, kept from changing until this transaction ends."""
    row: BookingRow | None = tx.one(LOCK_BOOKING, booking=booking_id)
    return row


def share(tx: Tx, booking_id: str) -> BookingRow | None:
    """The booking, kept from ending until this transaction has; others may share it."""
    row: BookingRow | None = tx.one(SHARE_BOOKING, booking=booking_id)
    return row


def overlapping(tx: Tx, gpu_id: str, start_ms: int, end_ms: int) -> BookingRow | None:
    """The first of the GPU's bookings that have some of this time; None where it is free."""
    row: BookingRow | None = tx.one(OVERLAPPING, gpu=gpu_id, start=start_ms, end=end_ms)
    return row


def busy(tx: Tx, gpu_id: str) -> list[tuple[int, int]]:
    """When the GPU is booked, now and later: (start, end) in ms, MOST_BUSY at most."""
    return sorted((row.start_ms, row.end_ms) for row in tx.all(BUSY, gpu=gpu_id, now=tx.now_ms))


def of_booker(tx: Tx, gpu_id: str, booker_id: str) -> BookingRow | None:
    """The account's booking of the GPU that ends next; None where it has none that has not ended."""
    row: BookingRow | None = tx.one(OF_BOOKER, gpu=gpu_id, booker=booker_id)
    return row


def ever_booked(tx: Tx, gpu_id: str, booker_id: str) -> bool:
    """Whether the account has ever booked the GPU."""
    return tx.one(EVER_OF_BOOKER, gpu=gpu_id, booker=booker_id) is not None


def newest_used(tx: Tx, gpu_id: str, booker_id: str) -> BookingRow | None:
    """The account's newest booking of the GPU that has ended and was used; None where it has none."""
    row: BookingRow | None = tx.one(NEWEST_USED, gpu=gpu_id, booker=booker_id)
    return row


def any_not_ended(tx: Tx, gpu_id: str) -> bool:
    """Whether the GPU has bookings, begun or not, that have not ended."""
    return tx.one(NOT_ENDED, gpu=gpu_id) is not None


def active_of(tx: Tx, booker_id: str) -> int:
    """How many bookings of the account have not ended, counted up to MAX_ACTIVE."""
    return int(tx.one(ACTIVE_OF_BOOKER, booker=booker_id, most=MAX_ACTIVE).count)


def made_today(tx: Tx, booker_id: str) -> int:
    """How many bookings the account made in the last 24 hours, counted up to MAX_A_DAY."""
    after = floor_id(max(0, tx.now_ms - DAY_MS))
    return int(tx.one(MADE_SINCE, booker=booker_id, after=after, most=MAX_A_DAY).count)


def open_one(tx: Tx, booking_id: str, up_ms: int) -> bool:
    """Its time has come. False where it has ended, or begun already."""
    return tx.run(OPEN_ONE, booking=booking_id, up=up_ms) == 1


def end(
    tx: Tx, booking: BookingRow, detail: str, by: str, *, price_units: int, fee_units: int, transfer_id: str
) -> bool:
    """Ends it for good, as TRANSITIONS has it, with the time that `booking` says was used. False where it moved
    meanwhile."""
    moved = tx.run(
        END[detail],
        booking=booking.id,
        used=booking.used_ms,
        price=price_units,
        fee=fee_units,
        transfer=transfer_id,
        by=by,
        now=tx.booked_ms,  # the time of the transfer
    )
    return moved == 1


def set_grant(tx: Tx, booking_id: str, key_id: str) -> bool:
    """Which key gives access now. False where the booking has ended."""
    return tx.run(SET_GRANT, booking=booking_id, key=key_id) == 1


def cleared(tx: Tx, booking_id: str) -> None:
    """All its jobs have ended."""
    tx.run(CLEARED, booking=booking_id)


def due(tx: Tx, what: str, count: int, **params: int) -> list[str]:
    """Ids of bookings of which something is due, as DUE has it, what is due for longest first."""
    if what in ("ended", "unopened"):
        params["now"] = tx.now_ms
    return [row.id for row in tx.all(LOOKS[what], count=count, **params)]
