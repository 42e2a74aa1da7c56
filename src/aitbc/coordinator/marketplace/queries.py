"""Lists of GPUs and of bookings, a page at a time. Each order has an index that holds all that is filtered on."""

from typing import Any, NamedTuple

from sqlalchemy import and_, or_, select

from aitbc.coordinator.database import Tx
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.marketplace.models import Booking, Gpu
from aitbc.coordinator.marketplace.rows import BOOKING_COLUMNS, GPU_COLUMNS, BookingRow, GpuRow

_g: Any = table_of(Gpu).c
_b: Any = table_of(Booking).c

SORTS: dict[str, tuple[str, bool]] = {
    "price": ("price_units", False),
    "-price": ("price_units", True),
    "memory": ("memory_mb", False),
    "-memory": ("memory_mb", True),
    "rating": ("rating_millis", False),
    "-rating": ("rating_millis", True),
    "reliability": ("reliability_bps", False),
    "-reliability": ("reliability_bps", True),
    "newest": ("id", True),
}
"""By name: the column, and whether the largest comes first. Among equals the older listing is first, or the last."""


class GpuFilter(NamedTuple):
    """What a list is narrowed to; None: by nothing. Memory in MB of one card, prices in base units an hour."""

    available: bool | None = None
    model_key: str | None = None
    region: str | None = None
    min_memory_mb: int | None = None
    min_price_units: int | None = None
    max_price_units: int | None = None
    min_rating_millis: int | None = None
    min_reliability_bps: int | None = None
    owner_id: str | None = None


class After(NamedTuple):
    """The last row of the page before: the value that the list is sorted by, and its id."""

    value: int | str
    id: str


def _conditions(wanted: GpuFilter) -> list[Any]:
    bounds = (
        (wanted.model_key, _g.model_key.__eq__),
        (wanted.region, _g.region.__eq__),
        (wanted.owner_id, _g.owner_id.__eq__),
        (wanted.min_memory_mb, _g.memory_mb.__ge__),
        (wanted.min_price_units, _g.price_units.__ge__),
        (wanted.max_price_units, _g.price_units.__le__),
        (wanted.min_rating_millis, _g.rating_millis.__ge__),
        (wanted.min_reliability_bps, _g.reliability_bps.__ge__),
    )
    found = [condition(value) for value, condition in bounds if value is not None]
    if wanted.available is not None:
        found.append(_g.state == "available" if wanted.available else _g.state != "available")
    return found


def listed(tx: Tx, wanted: GpuFilter, sort: str, limit: int, after: After | None = None) -> list[GpuRow]:
    """The GPUs that fit, `limit` at most; those behind `after` where it is given."""
    name, descending = SORTS[sort]
    column = _g[name]
    look = select(_g.id).where(*_conditions(wanted))
    order = [column, _g.id] if name != "id" else [column]
    if after is not None and name == "id":
        look = look.where(_g.id < after.id)
    elif after is not None:
        further = column < after.value if descending else column > after.value
        behind = _g.id < after.id if descending else _g.id > after.id
        # The first condition follows from the second: it is what the index is entered by.
        edge = column <= after.value if descending else column >= after.value
        look = look.where(edge, or_(further, and_(column == after.value, behind)))
    in_order = [one.desc() if descending else one for one in order]
    # The ids first, from the index alone: SQLite would go to the row of each GPU that does not fit.
    page = look.order_by(*in_order).limit(limit).subquery()
    rows = select(*GPU_COLUMNS).join_from(page, Gpu, _g.id == page.c.id).order_by(*in_order)
    return [GpuRow._make(row) for row in tx.query(rows)]


def sort_value(row: GpuRow, sort: str) -> int | str:
    """What the list in this order goes by."""
    value: int | str = getattr(row, SORTS[sort][0])
    return value


def orders(
    tx: Tx,
    *,
    booker_id: str | None = None,
    owner_id: str | None = None,
    gpu_id: str | None = None,
    state: str | None = None,
    before_id: str | None = None,
    limit: int,
) -> list[BookingRow]:
    """Bookings, newest first: those that an account made, those of an account's GPUs, of one GPU, or everybody's."""
    bounds = (
        (booker_id, _b.booker_id.__eq__),
        (owner_id, _b.owner_id.__eq__),
        (gpu_id, _b.gpu_id.__eq__),
        (state, _b.state.__eq__),
        (before_id, _b.id.__lt__),
    )
    where = [condition(value) for value, condition in bounds if value is not None]
    page = select(_b.id).where(*where).order_by(_b.id.desc()).limit(limit).subquery()
    rows = select(*BOOKING_COLUMNS).join_from(page, Booking, _b.id == page.c.id).order_by(_b.id.desc())
    return [BookingRow._make(row) for row in tx.query(rows)]
