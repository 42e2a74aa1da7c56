"""Payments as their parties see and steer them: escrow, release, refund; and what an ordinary job's payment was.

Each move is one transaction: the payment's guarded update, the ledger's post or void, the spending limit.
"""

from typing import Any, NamedTuple

from sqlalchemy import bindparam, select

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.chain import proofs
from aitbc.coordinator.chain.proofs import Place
from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.errors import (
    Forbidden,
    JobAnswered,
    JobNotCompleted,
    JobNotFound,
    JobStillOpen,
    PaymentAlreadyRefunded,
    PaymentAlreadyReleased,
    PaymentNotEscrowed,
    PaymentNotFound,
    PaymentNotPending,
    RefundTooLarge,
)
from aitbc.coordinator.flows.shared import escrow, holds, own_jobs
from aitbc.coordinator.jobs import service as jobs
from aitbc.coordinator.jobs.rows import JobRow
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.models import Transfer
from aitbc.coordinator.miners import service as miners
from aitbc.coordinator.payments import service as payments
from aitbc.coordinator.payments.service import PaymentRow
from aitbc.core.money import format_ait
from aitbc.core.transfer_ids import JOB, stored_id

_t: Any = table_of(Transfer).c
HOLD_BY_ID = statement(select(_t.ref).where(_t.id == bindparam("hold"), _t.kind == "hold"))
DERIVED = {
    "pending": "escrowed",
    "running": "escrowed",
    "completed": "released",
    "failed": "refunded",
    "cancelled": "refunded",
}
DUE_BATCH = 100


class PaymentView(NamedTuple):
    """A payment as its parties see it. Money in base units; times in ms; '' or 0 for what is not known yet.

    amount is what is or was held, price what the job costs, refunded what went back of the price or the hold.
    """

    id: str
    job_id: str
    mode: str
    status: str
    payer_id: str
    payee_id: str
    amount_units: int
    price_units: int
    fee_units: int
    refunded_units: int
    transfer_id: str
    receipt_id: str
    release_after_ms: int
    created_at_ms: int
    updated_at_ms: int


class PaymentReceipt(NamedTuple):
    """A payment, its lines in the ledger with where the log has them, and the proof of the one that ended it."""

    payment: PaymentView
    lines: list[tuple[Any, Place | None]]
    proof: str | None


def open_escrow(tx: Tx, principal: Principal, job_id: str) -> PaymentView:
    """Holds the worst-case price of the caller's job that waits for its payment; it is dispatched from now on.

    Raises JobNotFound, PaymentNotPending, InsufficientFunds, KeyLimitExceeded.
    """
    job = own_jobs.paid_by(tx, principal, job_id)
    payment = payments.of_job(tx, job_id)
    if payment is None or payment.status != "pending":
        raise PaymentNotPending(status=DERIVED[job.status] if payment is None else payment.status)
    held = holds.take(tx, principal, stored_id(payment.id), payment.amount_units, JOB.of(job_id))
    queued = jobs.put_into_queue(
        tx,
        job,
        key_id=principal.key_id,
        spend_period_ms=held.period_ms,
        hold_id=held.id,
        held_units=held.units,
    )
    if not queued or not payments.escrow(tx, payment.id):
        raise PaymentNotPending(status=payment.status)
    return _again(tx, payment.id)


def release(tx: Tx, principal: Principal, payment_id: str) -> PaymentView:
    """The payer (or an admin) pays the miner now. Raises PaymentNotFound, Forbidden, and what forbids it."""
    view, payment, job = _locked(tx, principal, payment_id)
    _still_movable(view)
    if principal.account_id != view.payer_id and not principal.is_admin:
        raise Forbidden("Only the payer may release a payment.")
    if job.status != "completed" or payment is None:
        raise JobNotCompleted(status=job.status)
    _release(tx, payment, job)
    return _again(tx, payment_id)


def refund(tx: Tx, principal: Principal, payment_id: str, amount_units: int | None) -> PaymentView:
    """The payee (or an admin) gives the price back, or a part of it; the payer once the job cannot complete.

    `amount_units` None: all of it. A refund by the payer of a job that ended without an answer has happened
    already, in the transaction that ended it, and is shown again. Raises JobStillOpen and JobAnswered where
    the job's state forbids it to the payer, who may otherwise: a conflict, not a want of rights.
    """
    view, payment, job = _locked(tx, principal, payment_id)
    by_payee = principal.account_id == view.payee_id or principal.is_admin
    if not by_payee and job.finished_at_ms is None:
        raise JobStillOpen(job_id=job.id)
    if not by_payee and view.status == "refunded":
        return view
    _still_movable(view)
    if not by_payee:
        raise JobAnswered(job_id=job.id)
    if payment is None or job.status != "completed":
        raise JobNotCompleted(status=job.status)
    amount = payment.price_units if amount_units is None else amount_units
    if not 0 < amount <= payment.price_units and amount_units is not None:
        most = format_ait(payment.price_units)
        raise RefundTooLarge(
            amount_units=amount,
            price_units=payment.price_units,
            fields=[{"field": "amount", "message": f"must be above 0 and at most {most}"}],
        )
    if amount >= payment.price_units:
        void_id = holds.give_back(tx, escrow.hold_of(job))
        _ended(tx, payment, "refunded", refunded=payment.price_units, fee=0, transfer_id=void_id)
    else:
        paid = payment.price_units - amount
        fee = payment.fee_units * paid // payment.price_units
        post_id = _post(tx, payment, job, paid, fee)
        _ended(tx, payment, "partially_refunded", refunded=amount, fee=fee, transfer_id=post_id)
    return _again(tx, payment_id)


def release_due(tx: Tx) -> int:
    """Releases payments whose acceptance window is over; how many were due.

    What another coordinator or a party moved meanwhile is passed over.
    """
    due = payments.due(tx, DUE_BATCH)
    for found in due:
        job = jobs.lock(tx, found.job_id)
        payment = payments.get(tx, found.id)
        if job is not None and payment is not None and payment.status == "escrowed":
            _release(tx, payment, job)
    return len(due)


def show(tx: Tx, principal: Principal, payment_id: str) -> PaymentView:
    """One payment for its payer, payee or an admin. Raises PaymentNotFound for anybody else."""
    return _seen(tx, principal, payment_id)[0]


def receipt(tx: Tx, principal: Principal, payment_id: str) -> PaymentReceipt:
    """What proves a payment, for its payer, payee or an admin. Raises PaymentNotFound for anybody else."""
    view = show(tx, principal, payment_id)
    hold = ledger.line(tx, view.id)
    lines = [] if hold is None else [hold, *ledger.lines_of_hold(tx, view.id)]
    proof = proofs.proof_if_sealed(tx, view.transfer_id) if view.transfer_id else None
    return PaymentReceipt(view, [(line, proofs.place_of(tx, line.id)) for line in lines], proof)


def of_job(tx: Tx, principal: Principal, job_id: str) -> PaymentView:
    """A job's payment for its payer, payee or an admin. Raises JobNotFound for anybody else."""
    job = jobs.get(tx, job_id)
    if job is None:
        raise JobNotFound(job_id=job_id)
    view = _view(tx, payments.of_job(tx, job_id), job)
    if not _is_party(principal, view):
        raise JobNotFound(job_id=job_id)
    return view


def _seen(tx: Tx, principal: Principal, payment_id: str) -> tuple[PaymentView, PaymentRow | None, JobRow]:
    """The payment as it is, if the caller may see it. Raises PaymentNotFound. Takes no lock."""
    payment = payments.get(tx, payment_id)
    job = jobs.get(tx, _job_of_hold(tx, payment_id) if payment is None else payment.job_id)
    if job is None:
        raise PaymentNotFound(payment_id=payment_id)
    view = _view(tx, payment or payments.of_job(tx, job.id), job)
    if view.id != payment_id or not _is_party(principal, view):
        raise PaymentNotFound(payment_id=payment_id)
    return view, payment, job


def _locked(tx: Tx, principal: Principal, payment_id: str) -> tuple[PaymentView, PaymentRow | None, JobRow]:
    """`_seen`, kept from changing until the transaction ends.

    The job's row is the lock of its payment too: every move of either takes it first, so that no two
    of them wait for each other.
    """
    job = _seen(tx, principal, payment_id)[2]
    jobs.lock(tx, job.id)
    return _seen(tx, principal, payment_id)


def _job_of_hold(tx: Tx, hold_id: str) -> str:
    """The id of the job that this hold was made for; a free job, which has none, goes by its own id."""
    row = tx.one(HOLD_BY_ID, hold=hold_id)
    return hold_id if row is None else str(row.ref)


def _is_party(principal: Principal, view: PaymentView) -> bool:
    return principal.is_admin or principal.account_id in (view.payer_id, view.payee_id)


def _view(tx: Tx, payment: PaymentRow | None, job: JobRow) -> PaymentView:
    if payment is not None:
        return PaymentView(
            id=payment.id,
            job_id=job.id,
            mode="manual",
            status=payment.status,
            payer_id=payment.payer_id,
            payee_id=payment.payee_id or _payee(tx, job),
            amount_units=payment.amount_units,
            price_units=payment.price_units,
            fee_units=payment.fee_units,
            refunded_units=payment.refunded_units,
            transfer_id=payment.transfer_id,
            receipt_id=job.receipt_id,
            release_after_ms=payment.release_after_ms,
            created_at_ms=payment.created_at_ms,
            updated_at_ms=payment.updated_at_ms,
        )
    lines = ledger.lines_of_hold(tx, job.hold_id) if job.hold_id else []
    back = job.status in ("failed", "cancelled") and not job.price_units
    return PaymentView(
        id=job.hold_id or job.id,
        job_id=job.id,
        mode="auto",
        status="released" if job.price_units else DERIVED[job.status],
        payer_id=job.client_id,
        payee_id=_payee(tx, job),
        amount_units=job.held_units,
        price_units=job.price_units,
        fee_units=sum(line.amount_units for line in lines if line.kind == "fee"),
        refunded_units=job.held_units if back else 0,
        transfer_id=str(lines[0].id) if lines else "",
        receipt_id=job.receipt_id,
        release_after_ms=0,
        created_at_ms=job.created_at_ms,
        updated_at_ms=job.finished_at_ms or job.created_at_ms,
    )


def _payee(tx: Tx, job: JobRow) -> str:
    miner = miners.get(tx, job.miner_id) if job.miner_id else None
    return "" if miner is None else miner.account_id


def _still_movable(view: PaymentView) -> None:
    """Raises what says why a payment that has ended, or has not begun, cannot be moved."""
    if view.status in ("released", "partially_refunded"):
        raise PaymentAlreadyReleased(payment_id=view.id)
    if view.status == "refunded":
        raise PaymentAlreadyRefunded(payment_id=view.id)
    if view.status != "escrowed":
        raise PaymentNotEscrowed(payment_id=view.id, status=view.status)


def _release(tx: Tx, payment: PaymentRow, job: JobRow) -> None:
    post_id = _post(tx, payment, job, payment.price_units, payment.fee_units)
    _ended(tx, payment, "released", refunded=0, fee=payment.fee_units, transfer_id=post_id)


def _post(tx: Tx, payment: PaymentRow, job: JobRow, paid_units: int, fee: int) -> str:
    return holds.pay(tx, escrow.hold_of(job), payment.payee_id, paid_units, fee)


def _ended(tx: Tx, payment: PaymentRow, after: str, *, refunded: int, fee: int, transfer_id: str) -> None:
    moved = payments.end(tx, payment, after, refunded_units=refunded, fee_units=fee, transfer_id=transfer_id)
    if not moved:
        raise PaymentNotEscrowed(payment_id=payment.id, status=payment.status)


def _again(tx: Tx, payment_id: str) -> PaymentView:
    payment = payments.get(tx, payment_id)
    job = None if payment is None else jobs.get(tx, payment.job_id)
    if payment is None or job is None:
        raise PaymentNotFound(payment_id=payment_id)
    return _view(tx, payment, job)
