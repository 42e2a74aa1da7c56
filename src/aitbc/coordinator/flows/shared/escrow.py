"""A job's money: held when it is submitted, posted when it is answered, given back when it is not.

In part both where it is cancelled while it runs.
"""

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import PaymentNotEscrowed, PriceTooLarge
from aitbc.coordinator.flows.shared import holds
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.jobs import free
from aitbc.coordinator.jobs.rows import JobRow
from aitbc.coordinator.ledger.service import Hold
from aitbc.coordinator.payments import service as payments
from aitbc.coordinator.payments.service import PaymentRow
from aitbc.core.money import EXACT_NUMBER_UNITS, fee_units
from aitbc.core.transfer_ids import JOB, new_transfer_id, stored_id


def reserve(tx: Tx, principal: Principal, job_id: str, units: int) -> Hold | None:
    """Holds the worst-case price of a job; None for a free one. Raises InsufficientFunds, KeyLimitExceeded."""
    if units == 0:
        return None
    check_exact(units)
    return holds.take(tx, principal, new_transfer_id(tx.now_ms), units, JOB.of(job_id))


def hold_of(job: JobRow) -> Hold:
    """The hold of a job that has one."""
    ref = JOB.of(job.id)
    return Hold(stored_id(job.hold_id), job.client_id, job.held_units, ref, job.key_id, job.spend_period_ms)


def check_exact(units: int) -> None:
    """Raises PriceTooLarge for a worst-case price beyond what a receipt can state."""
    if units > EXACT_NUMBER_UNITS:
        raise PriceTooLarge(needed_units=units, limit_units=EXACT_NUMBER_UNITS)


def pay(tx: Tx, ctx: FlowContext, job: JobRow, provider_id: str, price_units: int) -> int:
    """Pays the miner's account and the fee out of the hold and frees the rest. Returns the fee.

    A manual payment only learns its price here: its payer releases it, or the acceptance window does.
    """
    if not price_units and not job.reservation:  # that of a booked GPU is paid by its booking
        free.count(tx, job.client_id)
    if not job.hold_id:
        return 0
    fee = _fee(job, price_units)
    if job.manual_payment:
        release_after_ms = release_after_s(tx, ctx, job) * 1000
        payments.set_price(tx, job.hold_id, provider_id, price_units, fee, release_after_ms)
        return fee
    holds.pay(tx, hold_of(job), provider_id, price_units, fee)
    return fee


def _fee(job: JobRow, price_units: int) -> int:
    """The network's part of a run's price, as it was in force when the miner got the job."""
    if job.fee_bps is None:
        raise RuntimeError(f"job {job.id} runs and its fee is not fixed")
    return fee_units(price_units, job.fee_bps)


def release_after_s(tx: Tx, ctx: FlowContext, job: JobRow) -> int:
    """When a manual payment of a job that is completed now is released by itself, in unix seconds; else 0.

    A whole second, as the receipt states it.
    """
    return -(-(tx.now_ms + ctx.acceptance_ms) // 1000) if job.manual_payment else 0


def pay_cancelled(tx: Tx, job: JobRow, provider_id: str, price_units: int) -> None:
    """Pays for a run that was cancelled, at once also where the payment is manual, and frees the rest."""
    if not price_units or not job.hold_id:
        give_back(tx, job)
        return
    fee = _fee(job, price_units)
    post_id = holds.pay(tx, hold_of(job), provider_id, price_units, fee)
    payment = payments.of_job(tx, job.id) if job.manual_payment else None
    if payment is not None:
        payments.set_price(tx, payment.id, provider_id, price_units, fee, 0)
        _end(tx, payment, "released", fee_units=fee, transfer_id=post_id)


def give_back(tx: Tx, job: JobRow) -> None:
    """Frees the whole hold of a job that ended without an answer; its manual payment is refunded.

    Of jobs of all GPUs that an account booked as many may end so as of its others, and they are counted apart.
    """
    free.count(tx, free.payer(job))
    transfer_id = ""
    if job.hold_id:
        transfer_id = holds.give_back(tx, hold_of(job))
    payment = payments.of_job(tx, job.id) if job.manual_payment else None
    if payment is not None:
        _end(tx, payment, "refunded", refunded_units=job.held_units, transfer_id=transfer_id)


def _end(
    tx: Tx, payment: PaymentRow, after: str, *, transfer_id: str, refunded_units: int = 0, fee_units: int = 0
) -> None:
    """Ends the payment with its job: neither without the other."""
    if not payments.end(
        tx, payment, after, refunded_units=refunded_units, fee_units=fee_units, transfer_id=transfer_id
    ):
        raise PaymentNotEscrowed(payment_id=payment.id, status=payment.status)
