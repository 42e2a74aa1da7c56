"""What GPUs of one model cost, and how much of their time was booked in the last 24 hours.

Each look is a range of one index that holds all that it needs.
"""

from typing import Any, NamedTuple

from sqlalchemy import BigInteger, bindparam, case, func, literal_column, select

from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.marketplace.models import Booking, Gpu
from aitbc.core.price_advice import DAY_MS, suggested_units, utilisation_bps

PART = 2**20
"""Sums are taken of prices' high and low parts: SQLite's integers have 64 bits, and anybody may ask any price."""

_g: Any = table_of(Gpu).c
_b: Any = table_of(Booking).c
_now: Any = bindparam("now")
_since: Any = bindparam("since")

_of_model = _g.model_key == bindparam("model")
_offered = _g.state != literal_column("'offline'")


def _least(one: Any, other: Any) -> Any:
    return case((one < other, one), else_=other)


def _greatest(one: Any, other: Any) -> Any:
    return case((one > other, one), else_=other)


_here_ms = case(
    (_g.registered_at_ms <= _since, _now - _since),
    (_g.registered_at_ms < _now, _now - _g.registered_at_ms),
    else_=0,
)
_price = _g.price_units
_part: Any = literal_column(str(PART), BigInteger)
COUNTS = statement(
    select(
        func.count().label("total"),
        func.coalesce(func.sum(case((_offered, 1), else_=0)), 0).label("offered"),
        func.coalesce(func.sum(case((_g.state == literal_column("'available'"), 1), else_=0)), 0).label(
            "available"
        ),
        func.coalesce(func.sum(case((_offered, _here_ms), else_=0)), 0).label("offered_ms"),
    ).where(_of_model)
)


def _prices(*which: Any) -> Any:
    return statement(
        select(
            func.min(_price).label("least"),
            func.max(_price).label("most"),
            func.sum(_price // _part).label("high"),
            func.sum(_price % _part).label("low"),
        ).where(_of_model, *which)
    )


def _ranked(*which: Any) -> Any:
    """The prices at a rank, from the least on."""
    return statement(
        select(_price)
        .where(_of_model, *which)
        .order_by(_price, _g.id)
        .limit(bindparam("count"))
        .offset(bindparam("rank"))
    )


PRICES = {True: _prices(_offered), False: _prices()}
RANKED = {True: _ranked(_offered), False: _ranked()}
"""By whether only GPUs count that are on offer."""

ENDED = statement(
    select(
        func.coalesce(
            func.sum(_least(_b.ended_at_ms, _b.end_ms) - _greatest(_b.start_ms, _since)),
            0,
        ).label("booked_ms")
    ).where(
        _b.model_key == bindparam("model"),
        _b.state == literal_column("'completed'"),
        _b.ended_at_ms > _since,
        _least(_b.ended_at_ms, _b.end_ms) > _greatest(_b.start_ms, _since),
    )
)
RUNNING = statement(
    select(
        func.coalesce(func.sum(_least(_now, _b.end_ms) - _greatest(_b.start_ms, _since)), 0).label(
            "booked_ms"
        )
    ).where(
        _b.model_key == bindparam("model"),
        _b.state == literal_column("'active'"),
        _b.start_ms < _now,
        _b.end_ms > _since,
    )
)


class ModelPrices(NamedTuple):
    """Prices an hour in base units, of the GPUs on offer; where none is, of all. Averages are rounded down.

    available, offered, total: how many GPUs can be booked now, are on offer (free or booked), are listed.
    utilisation_bps: of the time that the GPUs on offer were listed in the last 24 hours, the part that was booked.
    """

    total: int
    offered: int
    available: int
    least_units: int
    most_units: int
    median_units: int
    mean_units: int
    utilisation_bps: int
    suggested_units: int


def of_model(tx: Tx, model: str) -> ModelPrices | None:
    """What GPUs of this model key cost; None where none is listed."""
    since_ms = max(0, tx.now_ms - DAY_MS)
    times = {"now": tx.now_ms, "since": since_ms}
    counts = tx.one(COUNTS, model=model, **times)
    if not counts.total:
        return None
    offered = int(counts.offered)
    only_offered = offered > 0
    priced = offered or counts.total
    prices = tx.one(PRICES[only_offered], model=model)
    middle = tx.all(RANKED[only_offered], model=model, rank=(priced - 1) // 2, count=2 - priced % 2)
    median = sum(row.price_units for row in middle) // len(middle)
    booked_ms = int(tx.one(ENDED, model=model, since=since_ms).booked_ms) + int(
        tx.one(RUNNING, model=model, **times).booked_ms
    )
    offered_ms = int(counts.offered_ms)
    return ModelPrices(
        total=counts.total,
        offered=offered,
        available=int(counts.available),
        least_units=prices.least,
        most_units=prices.most,
        median_units=median,
        mean_units=(int(prices.high) * PART + int(prices.low)) // priced,
        utilisation_bps=utilisation_bps(booked_ms, offered_ms),
        suggested_units=suggested_units(median, booked_ms, offered_ms),
    )
