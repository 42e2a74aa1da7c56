"""What an account had received and paid by a moment, at a cost that does not grow with its transfers.

Every so many transfers (`MARK_EVERY`) a mark says what all before it add up to. It is written in the background,
for a time for which the books are closed (`closing`), so nothing can be booked before it any more, and the hot path
has nothing to do with it. A sum is that of the last mark before the moment and the few movements since.
"""

from typing import Any, NamedTuple

from sqlalchemy import bindparam, func, literal_column, or_, select

from aitbc.coordinator.chain import counters
from aitbc.coordinator.chain.models import MARK_EVERY
from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.ledger import closing, lows
from aitbc.coordinator.ledger.models import ESCROW, MOVING_KINDS, BalanceMark, Transfer

MOST_ACCOUNTS = 64  # accounts that one round looks at
MOST_MARKS = 64  # marks that one round makes
SETTLED_MS = (
    1_000  # the books are closed so long ago: nothing that is under way has to be booked later for it
)

_t: Any = table_of(Transfer).c
_m: Any = table_of(BalanceMark).c
_SIDES = (_t.debit_id, _t.credit_id)
_MOVES = or_(*(_t.kind == literal_column(f"'{kind}'") for kind in MOVING_KINDS))
_since: Any = _t.created_at_ms >= bindparam("since")


class Sums(NamedTuple):
    """What an account received and paid in all before a moment, in base units, and in how many movements."""

    in_units: int
    out_units: int
    movements: int


class Mark(NamedTuple):
    """A row of `balance_marks`. `low_units`: None where it is not kept."""

    account_id: str
    at_ms: int
    in_units: int
    out_units: int
    movements: int
    low_units: int | None = None


class Draft(NamedTuple):
    """New marks, and of which accounts all were made: (account, transfers it had). `more`: others are due."""

    marks: list[Mark]
    done: list[tuple[str, int]]
    more: bool


SELECT_MARK = statement(
    select(*(_m[name] for name in Mark._fields))
    .where(_m.account_id == bindparam("account"), _m.at_ms <= bindparam("before"))
    .order_by(_m.at_ms.desc())
    .limit(literal_column("1")),
    Mark,
)
# A mark is made once for good: another coordinator's says the same.
INSERT_MARK = insert_into(BalanceMark, on_conflict_ignore=True)
SUMS = tuple(
    statement(
        select(
            func.coalesce(func.sum(_t.amount_units), 0).label("units"),
            func.count().label("movements"),
        ).where(side == bindparam("account"), _since, _t.created_at_ms < bindparam("before"), _MOVES)
    )
    for side in _SIDES
)
# Holds and voids move nothing, but have to be passed over: they count here.
AFTER_SOME = tuple(
    statement(
        select(_t.created_at_ms)
        .where(side == bindparam("account"), _since)
        .order_by(_t.created_at_ms)
        .limit(literal_column("1"))
        .offset(bindparam("every"))
    )
    for side in _SIDES
)
NEXT = tuple(
    statement(
        select(func.min(_t.created_at_ms).label("created_at_ms")).where(side == bindparam("account"), _since)
    )
    for side in _SIDES
)


def before(tx: Tx, account_id: str, at_ms: int) -> Sums:
    """What the account received and paid before `at_ms`."""
    mark: Mark | None = tx.one(SELECT_MARK, account=account_id, before=at_ms)
    if mark is None:
        return _added(tx, Mark(account_id, 0, 0, 0, 0), at_ms)
    return _added(tx, mark, at_ms)


def _added(tx: Tx, mark: Mark, before_ms: int) -> Sums:
    """The mark's sums with what moved from there to `before_ms`."""
    out, into = (tx.one(sums, account=mark.account_id, since=mark.at_ms, before=before_ms) for sums in SUMS)
    return Sums(
        mark.in_units + int(into.units),
        mark.out_units + int(out.units),
        mark.movements + int(out.movements) + int(into.movements),
    )


def due(tx: Tx) -> bool:
    """Whether some account's balance has to be marked."""
    return bool(counters.unmarked(tx, 1))


def draft(tx: Tx, every: int = MARK_EVERY) -> Draft:
    """The next marks of accounts that are due, one for each `every` transfers, up to where the books are closed."""
    closed = closing.closed_ms(tx)
    marks: list[Mark] = []
    done: list[tuple[str, int]] = []
    found = counters.unmarked(tx, MOST_ACCOUNTS)
    for account in found:
        if account.account_id != ESCROW:  # it has no movements: holds and voids only name it
            marks += of_account(tx, account.account_id, closed, MOST_MARKS - len(marks), every)
        if len(marks) >= MOST_MARKS:
            return Draft(marks, done, more=True)
        done.append((account.account_id, account.transfers))
    return Draft(marks, done, len(found) == MOST_ACCOUNTS)


def of_account(tx: Tx, account_id: str, closed_ms: int, most: int, every: int = MARK_EVERY) -> list[Mark]:
    """An account's next marks before `closed_ms`, at most so many."""
    made: list[Mark] = []
    last: Mark | None = tx.one(SELECT_MARK, account=account_id, before=closed_ms)
    mark = last or Mark(account_id, 0, 0, 0, 0)
    while len(made) < most:
        at_ms = _next(tx, account_id, mark.at_ms, every)
        if at_ms is None or at_ms > closed_ms:
            break
        had = mark.in_units - mark.out_units
        low_units = lows.of_stretch(tx, account_id, had, mark.at_ms, at_ms)
        mark = Mark(account_id, at_ms, *_added(tx, mark, at_ms), low_units)
        made.append(mark)
    return made


def _next(tx: Tx, account_id: str, since_ms: int, every: int) -> int | None:
    """The time of a transfer with `every` others on one side since the last mark; None where there are fewer."""
    found = [tx.one(side, account=account_id, since=since_ms, every=every) for side in AFTER_SOME]
    times = [row.created_at_ms for row in found if row is not None]
    if not times:
        return None
    if min(times) > since_ms:
        return int(min(times))
    # More than that many in one millisecond: the first one after it.
    later = [tx.one(side, account=account_id, since=since_ms + 1).created_at_ms for side in NEXT]
    return min((int(one) for one in later if one is not None), default=None)


def write(tx: Tx, made: Draft) -> None:
    """Keeps the marks."""
    tx.many(INSERT_MARK, [mark._asdict() for mark in made.marks])
    for account_id, transfers in made.done:
        counters.set_marked(tx, account_id, transfers)
