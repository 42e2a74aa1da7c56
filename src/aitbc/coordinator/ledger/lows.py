"""The least that an account had in a time, exactly, at a cost that does not grow with its transfers.

What an account has at a moment is its balance, held money among it, after all that bears that millisecond or an earlier
one: so the order of movements within a millisecond does not matter, and what comes and goes within one counts for
nothing. Each mark of a balance (`ledger.marks`) keeps the least since the mark before it; a time is the
movements up to its first mark, the marks in it, and the movements since its last one.
"""

from typing import Any, NamedTuple

from sqlalchemy import BigInteger, bindparam, cast, func, literal_column, or_, select, union_all

from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.ledger.models import MOVING_KINDS, BalanceMark, Transfer

_t: Any = table_of(Transfer).c
_m: Any = table_of(BalanceMark).c
_MOVES = or_(*(_t.kind == literal_column(f"'{kind}'") for kind in MOVING_KINDS))


class _Mark(NamedTuple):
    at_ms: int
    balance_units: int
    low_units: int | None


def _side(column: Any, sign: str) -> Any:
    amount = _t.amount_units if sign == "+" else -_t.amount_units
    time = (_t.created_at_ms >= bindparam("since"), _t.created_at_ms < bindparam("before"))
    return select(_t.created_at_ms.label("at_ms"), amount.label("units")).where(
        column == bindparam("account"), *time, _MOVES
    )


_moved = union_all(_side(_t.credit_id, "+"), _side(_t.debit_id, "-")).subquery("moved")
_steps = (
    select(_moved.c.at_ms, func.sum(_moved.c.units).label("units")).group_by(_moved.c.at_ms).subquery("steps")
)
_after = select(
    cast(func.sum(_steps.c.units).over(order_by=_steps.c.at_ms), BigInteger).label("units")
).subquery("after")
DEEPEST = statement(select(func.min(_after.c.units).label("units")))
MARKS_IN = statement(
    select(_m.at_ms, _m.in_units - _m.out_units, _m.low_units)
    .where(
        _m.account_id == bindparam("account"), _m.at_ms > bindparam("since"), _m.at_ms <= bindparam("before")
    )
    .order_by(_m.at_ms),
    _Mark,
)
LAST_MARK = statement(
    select(_m.at_ms, _m.in_units - _m.out_units, _m.low_units)
    .where(_m.account_id == bindparam("account"), _m.at_ms <= bindparam("since"))
    .order_by(_m.at_ms.desc())
    .limit(literal_column("1")),
    _Mark,
)
NET = tuple(
    statement(
        select(func.coalesce(func.sum(_t.amount_units), 0).label("units")).where(
            side == bindparam("account"),
            _t.created_at_ms >= bindparam("since"),
            _t.created_at_ms < bindparam("before"),
            _MOVES,
        )
    )
    for side in (_t.credit_id, _t.debit_id)
)
BEGINNING = _Mark(0, 0, None)


def balance_at(tx: Tx, account_id: str, at_ms: int) -> int:
    """What the account had before `at_ms`, base units."""
    mark: _Mark = tx.one(LAST_MARK, account=account_id, since=at_ms) or BEGINNING
    received, paid = (tx.one(side, account=account_id, since=mark.at_ms, before=at_ms).units for side in NET)
    return mark.balance_units + int(received) - int(paid)


def lowest(tx: Tx, account_id: str, since_ms: int, before_ms: int) -> int:
    """The least that the account had from `since_ms` on, what it began with included, and before `before_ms`.

    Base units; final where the books are closed up to `before_ms`.
    """
    balance = balance_at(tx, account_id, since_ms)
    low, at_ms = balance, since_ms
    for number, mark in enumerate(tx.all(MARKS_IN, account=account_id, since=since_ms, before=before_ms)):
        if number == 0 or mark.low_units is None:
            low = min(low, of_stretch(tx, account_id, balance, at_ms, mark.at_ms))
        else:
            low = min(low, mark.low_units)
        balance, at_ms = mark.balance_units, mark.at_ms
    return min(low, of_stretch(tx, account_id, balance, at_ms, before_ms))


def of_stretch(tx: Tx, account_id: str, balance_units: int, since_ms: int, before_ms: int) -> int:
    """`lowest` of a time that began with this balance, by adding up all its movements."""
    deepest = tx.one(DEEPEST, account=account_id, since=since_ms, before=before_ms).units
    return balance_units + min(0, 0 if deepest is None else int(deepest))
