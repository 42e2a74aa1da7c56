"""Manual payments. Ordinary jobs have no row here: their payment is read off the job and its hold."""

from sqlalchemy import CheckConstraint, Index
from sqlalchemy import text as sql
from sqlmodel import SQLModel

from aitbc.coordinator.database.columns import big, listed, text

TRANSITIONS: dict[str, tuple[str, ...]] = {
    "pending": ("escrowed", "refunded"),
    "escrowed": ("released", "refunded", "partially_refunded"),
    "released": (),
    "refunded": (),
    "partially_refunded": (),
}
"""What the guarded updates of `service` allow."""

STATUSES = tuple(TRANSITIONS)
DUE = "status = 'escrowed' AND release_after_ms > 0"


class Payment(SQLModel, table=True):
    """The payment of a job that was submitted with payment "manual". Its id is also its hold's id.

    amount_units     what is held: the job's worst case
    price_units      what the completed job costs (0 before), fee_units of it for the treasury
    refunded_units   what the payee gave back of the price
    release_after_ms when a completed job's payment is released by itself (0 before)
    transfer_id      the ledger's post or void that ended it ('' before)
    """

    __tablename__ = "payments"
    __table_args__ = (
        listed("status", "status", STATUSES),
        CheckConstraint("amount_units >= 0 AND price_units >= 0 AND fee_units >= 0", name="not_negative"),
        CheckConstraint("price_units <= amount_units AND fee_units <= price_units", name="within"),
        CheckConstraint("refunded_units >= 0 AND refunded_units <= amount_units", name="refund_within"),
        Index("ux_payments_job", "job_id", unique=True),
        Index("ix_payments_due", "release_after_ms", sqlite_where=sql(DUE), postgresql_where=sql(DUE)),
    )

    id: str = text(primary_key=True)
    job_id: str = text(foreign_key="jobs.id")
    payer_id: str = text(foreign_key="accounts.id")
    payee_id: str = text("")
    status: str = text()
    amount_units: int = big()
    price_units: int = big(0)
    fee_units: int = big(0)
    refunded_units: int = big(0)
    release_after_ms: int = big(0)
    transfer_id: str = text("")
    created_at_ms: int = big()
    updated_at_ms: int = big()
