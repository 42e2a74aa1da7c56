"""Manual payments in the database: guarded moves, each checked by its row count.

Reads take no lock: whoever moves a payment holds its job's row (`jobs.lock`).
"""

from typing import Any, NamedTuple

from sqlalchemy import bindparam, literal_column, or_, select, update
from sqlalchemy import text as sql

from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.payments.models import DUE, STATUSES, TRANSITIONS, Payment

_p: Any = table_of(Payment).c
_own = _p.id == bindparam("payment")


def _may_become(status: str) -> Any:
    """SQL: that a payment is in a state from which TRANSITIONS leads to this one."""
    return or_(*(_p.status == literal_column(f"'{one}'") for one in STATUSES if status in TRANSITIONS[one]))


_ESCROWED = _p.status == literal_column("'escrowed'")


class PaymentRow(NamedTuple):
    """Every column of `payments`, in the table's order."""

    id: str
    job_id: str
    payer_id: str
    payee_id: str
    status: str
    amount_units: int
    price_units: int
    fee_units: int
    refunded_units: int
    release_after_ms: int
    transfer_id: str
    created_at_ms: int
    updated_at_ms: int


COLUMNS = list(table_of(Payment).columns)
if PaymentRow._fields != tuple(column.name for column in COLUMNS):
    raise RuntimeError("PaymentRow and the payments table have drifted apart")

INSERT_PAYMENT = insert_into(Payment)
SELECT_PAYMENT = statement(select(*COLUMNS).where(_own), PaymentRow)
SELECT_OF_JOB = statement(select(*COLUMNS).where(_p.job_id == bindparam("job")), PaymentRow)
DUE_PAYMENTS = statement(
    select(*COLUMNS)
    .where(sql(DUE), _p.release_after_ms <= bindparam("now"))
    .order_by(_p.release_after_ms, _p.id)
    .limit(bindparam("count")),
    PaymentRow,
)
ESCROW = statement(
    update(Payment)
    .where(_own, _may_become("escrowed"))
    .values(status=literal_column("'escrowed'"), updated_at_ms=bindparam("now"))
)
PRICE = statement(
    update(Payment)
    .where(_own, _ESCROWED)
    .values(
        payee_id=bindparam("payee"),
        price_units=bindparam("price"),
        fee_units=bindparam("fee"),
        release_after_ms=bindparam("release_after"),
        updated_at_ms=bindparam("now"),
    )
)
END = statement(
    update(Payment)
    .where(_own, _p.status == bindparam("before"))
    .values(
        status=bindparam("after"),
        refunded_units=bindparam("refunded"),
        fee_units=bindparam("fee"),
        transfer_id=bindparam("transfer"),
        updated_at_ms=bindparam("now"),
    )
)


def open_pending(tx: Tx, payment_id: str, job_id: str, payer_id: str, amount_units: int) -> None:
    """Writes the payment of a job that waits for its escrow."""
    row = PaymentRow(
        payment_id, job_id, payer_id, "", "pending", amount_units, 0, 0, 0, 0, "", tx.now_ms, tx.now_ms
    )
    tx.add(INSERT_PAYMENT, row)


def get(tx: Tx, payment_id: str) -> PaymentRow | None:
    row: PaymentRow | None = tx.one(SELECT_PAYMENT, payment=payment_id)
    return row


def of_job(tx: Tx, job_id: str) -> PaymentRow | None:
    row: PaymentRow | None = tx.one(SELECT_OF_JOB, job=job_id)
    return row


def escrow(tx: Tx, payment_id: str) -> bool:
    """pending → escrowed. False where it moved meanwhile."""
    return tx.run(ESCROW, payment=payment_id, now=tx.booked_ms) == 1  # the time of its hold


def set_price(
    tx: Tx, payment_id: str, payee_id: str, price_units: int, fee_units: int, release_after_ms: int
) -> bool:
    """The job is completed: what it costs, for whom, and when it is released by itself."""
    return (
        tx.run(
            PRICE,
            payment=payment_id,
            payee=payee_id,
            price=price_units,
            fee=fee_units,
            release_after=release_after_ms,
            now=tx.now_ms,
        )
        == 1
    )


def end(
    tx: Tx, payment: PaymentRow, after: str, *, refunded_units: int, fee_units: int, transfer_id: str
) -> bool:
    """Released, refunded or partially refunded, for good, as TRANSITIONS has it. False where it moved meanwhile."""
    return (
        after in TRANSITIONS[payment.status]
        and tx.run(
            END,
            payment=payment.id,
            before=payment.status,
            after=after,
            refunded=refunded_units,
            fee=fee_units,
            transfer=transfer_id,
            now=tx.booked_ms if transfer_id else tx.now_ms,  # that of the transfer
        )
        == 1
    )


def due(tx: Tx, count: int) -> list[PaymentRow]:
    """Completed jobs' payments whose acceptance window is over."""
    return tx.all(DUE_PAYMENTS, now=tx.now_ms, count=count)
