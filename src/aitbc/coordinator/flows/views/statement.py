"""Statements of account: each movement of a balance in a time, and totals that equal the ledger's.

What belongs to a time is decided by each transfer's own time, to the millisecond. Before a statement is read,
the books are closed up to its end (`ledger.closing`): all of it has committed, and the next one begins there.
The order is that of time, along which the indexes of each side run, and of one millisecond that in which the log took
them: never by what an id looks like. A page costs the same wherever it is, and so do the totals, which start from the
balance's last mark (`ledger.marks`).
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Integer, and_, bindparam, func, literal_column, or_, select

from aitbc.coordinator.chain.models import Leaf
from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.errors import InvalidRequest
from aitbc.coordinator.ledger import closing, marks
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.models import MOVING_KINDS, Transfer
from aitbc.coordinator.payments.models import Payment
from aitbc.coordinator.receipts.models import Receipt
from aitbc.core.transfer_ids import MAX_ID_CHARS, PROPOSAL

LAST_MS = 253_402_300_799_999  # the end of the year 9999
DEBIT, CREDIT = 0, 1

_CURSOR = re.compile(
    rf"([0-9]{{1,15}})\.([01])\.([0-9]{{1,15}})\.([0-9]{{1,18}}):(.{{1,{MAX_ID_CHARS}}})", re.ASCII
)


class Movement(NamedTuple):
    """One change of an account's balance. Money in base units; None where a field does not apply.

    amount is signed. units, unit price, price, fee and refunded are the job's, told on its payment (`post`)
    and not again on the fee that the payer pays beside it.
    """

    time_ms: int
    kind: str
    role: str
    amount_units: int
    counterparty: str
    transfer_id: str
    reference: str
    job_id: str | None = None
    receipt_id: str | None = None
    model: str | None = None
    units: int | None = None
    unit_price_units: int | None = None
    price_units: int | None = None
    fee_units: int | None = None
    refunded_units: int | None = None


class Totals(NamedTuple):
    """opening + in - out = closing; `movements` is how many rows all pages have."""

    opening_units: int
    in_units: int
    out_units: int
    movements: int

    @property
    def closing_units(self) -> int:
        return self.opening_units + self.in_units - self.out_units


class StatementPage(NamedTuple):
    """The movements with from_ms <= time < to_ms after the cursor. `totals` stand on the first page only."""

    account_id: str
    from_ms: int
    to_ms: int
    totals: Totals | None
    rows: list[Movement]
    next_cursor: str | None


class _Place(NamedTuple):
    """Where a row stands in the order: `seq` is its leaf's; the id tells apart what no leaf does."""

    at_ms: int
    seq: int
    id: str
    side: int


class _Line(NamedTuple):
    id: str
    kind: str
    debit_id: str
    credit_id: str
    amount_units: int
    hold_id: str | None
    ref: str
    created_at_ms: int
    seq: int
    receipt_id: str | None
    body: str | None
    payment_fee_units: int | None
    refunded_units: int | None


_t: Any = table_of(Transfer)
_l: Any = table_of(Leaf)
_r: Any = table_of(Receipt)
_m: Any = table_of(Payment)
_SIDES = {DEBIT: _t.c.debit_id, CREDIT: _t.c.credit_id}
_MOVES = or_(*(_t.c.kind == literal_column(f"'{kind}'") for kind in MOVING_KINDS))
_SAME = bindparam("same", type_=Integer) == literal_column("1")


def _lines(side: int, dialect: str) -> Any:
    """Movements of one side up to `to`, behind a place, and what their jobs' receipts and payments say."""
    # As Python orders them, which puts both sides together; an index of PostgreSQL's may have another order.
    name = _t.c.id.collate("BINARY" if dialect == "sqlite" else "C")
    seq = func.coalesce(_l.c.seq, literal_column("0"))  # a line without a leaf is shown as well
    at: Any = bindparam("at")
    last: Any = bindparam("seq", type_=BigInteger)
    behind = or_(name > bindparam("id"), and_(_t.c.id == bindparam("id"), _SAME))
    later = or_(seq > last, and_(seq == last, behind))
    return (
        select(
            _t.c.id,
            _t.c.kind,
            _t.c.debit_id,
            _t.c.credit_id,
            _t.c.amount_units,
            _t.c.hold_id,
            _t.c.ref,
            _t.c.created_at_ms,
            seq.label("seq"),
            _r.c.id,
            _r.c.body,
            _m.c.fee_units,
            _m.c.refunded_units,
        )
        .select_from(
            _t.outerjoin(_l, _l.c.ref_id == _t.c.id)
            .outerjoin(_r, and_(_r.c.job_id == _t.c.ref, _t.c.hold_id.is_not(None)))
            .outerjoin(_m, _m.c.id == _t.c.hold_id)
        )
        .where(
            _SIDES[side] == bindparam("account"),
            _t.c.created_at_ms >= at,
            _t.c.created_at_ms < bindparam("to"),
            or_(_t.c.created_at_ms > at, later),
            _MOVES,
        )
        .order_by(_t.c.created_at_ms, seq, name)
        .limit(bindparam("count"))
    )


LINES = {
    DEBIT: statement(lambda dialect: _lines(DEBIT, dialect), _Line),
    CREDIT: statement(lambda dialect: _lines(CREDIT, dialect), _Line),
}


def settled(tx: Tx, to_ms: int | None) -> bool:
    """Whether a statement with this end can be read at once: nothing that belongs to it is still to come."""
    return to_ms is not None and to_ms <= closing.closed_ms(tx)


def settle(tx: Tx, from_ms: int, to_ms: int | None, now_ms: int) -> int:
    """The end of a statement that is to end with `to_ms` (None: with this millisecond), never later than now.

    From here on nothing is booked before it, so that the next statement begins where this one ends. One of a
    time that is yet to come ends where it begins.
    """
    end = closing.close(tx, to_ms, now_ms)
    return max(end, from_ms) if to_ms is not None and from_ms <= to_ms else end


def read(tx: Tx, account_id: str, from_ms: int, to_ms: int, limit: int, cursor: str | None) -> StatementPage:
    """One page of an account's statement up to `to_ms`, which is `settled`.

    The cursor of a page carries the statement's end, so that all pages are of the same time. Raises
    InvalidRequest for a time that ends before it begins or a cursor that is none, AccountNotFound.
    """
    place: _Place | None = None
    if cursor:
        to_ms, place = _parse(cursor)
    if from_ms > to_ms:
        message = "A statement begins before it ends."
        raise InvalidRequest(message, fields=[{"field": "from", "message": message}])
    totals = None if place else _totals(tx, account_id, from_ms, to_ms)
    found = sorted(
        _after(tx, place or _Place(from_ms, 0, "", DEBIT), account=account_id, to=to_ms, count=limit + 1)
    )
    rows = [_movement(line, place.side) for place, line in found[:limit]]
    more = f"{to_ms}.{_text(found[limit - 1][0])}" if len(found) > limit else None
    return StatementPage(account_id, from_ms, to_ms, totals, rows, more)


def _totals(tx: Tx, account_id: str, from_ms: int, to_ms: int) -> Totals:
    ledger.balance(tx, account_id)  # raises AccountNotFound
    opening, closing_ = (marks.before(tx, account_id, at_ms) for at_ms in (from_ms, to_ms))
    return Totals(
        opening.in_units - opening.out_units,
        closing_.in_units - opening.in_units,
        closing_.out_units - opening.out_units,
        closing_.movements - opening.movements,
    )


def _after(tx: Tx, place: _Place, **values: Any) -> Iterator[tuple[_Place, _Line]]:
    """The next rows of each side, with their places."""
    for side in (DEBIT, CREDIT):
        # The row at the place itself was shown; the same transfer's other side comes behind it.
        same = int(side > place.side)
        for line in tx.all(LINES[side], at=place.at_ms, seq=place.seq, id=place.id, same=same, **values):
            yield _Place(line.created_at_ms, line.seq, line.id, side), line


def _text(place: _Place) -> str:
    return f"{place.side}.{place.at_ms}.{place.seq}:{place.id}"


def _parse(cursor: str) -> tuple[int, _Place]:
    match = _CURSOR.fullmatch(cursor)
    if match is None or max(int(match[1]), int(match[3])) > LAST_MS or "\0" in match[5]:
        raise InvalidRequest("The cursor is not valid.", fields=[{"field": "cursor", "message": "not valid"}])
    return int(match[1]), _Place(int(match[3]), int(match[4]), match[5], int(match[2]))


def _movement(line: _Line, side: int) -> Movement:
    settles = line.hold_id is not None
    role = "account"
    if PROPOSAL.fits(line.ref):
        pass  # a deposit that is lost: nobody was served
    elif settles and side == DEBIT:
        role = "client"
    elif line.kind == "post":
        role = "miner"
    plain = Movement(
        time_ms=line.created_at_ms,
        kind=line.kind,
        role=role,
        amount_units=line.amount_units if side == CREDIT else -line.amount_units,
        counterparty=line.debit_id if side == CREDIT else line.credit_id,
        transfer_id=line.id,
        reference=line.ref,
    )
    if line.body is None:
        return plain
    of_job = plain._replace(job_id=line.ref, receipt_id=line.receipt_id)
    if line.kind != "post":
        return of_job
    body = json.loads(line.body)
    by_receipt = int(body["fee_units"])
    return of_job._replace(
        model=str(body["model"]),
        units=int(body["units"]),
        unit_price_units=int(body["unit_price_units"]),
        price_units=int(body["price_units"]),
        fee_units=by_receipt if line.payment_fee_units is None else line.payment_fee_units,
        refunded_units=line.refunded_units or 0,
    )
