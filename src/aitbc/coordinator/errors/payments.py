"""A job's payment: escrow, release, refund."""

from aitbc.coordinator.errors.base import AitbcError, InvalidRequest, NotFound
from aitbc.coordinator.errors.money import MoneyError


class RefundTooLarge(MoneyError, InvalidRequest):
    template = (
        "A refund of {amount} AIT is not possible: it is more than 0 and at most the price of {price} AIT."
    )


class PaymentNotFound(NotFound):
    code = "PAYMENT_NOT_FOUND"
    template = "There is no such payment: {payment_id}"


class PaymentNotPending(AitbcError):
    status = 409
    code = "PAYMENT_NOT_PENDING"
    template = "The job's payment is not waiting for escrow: it is {status}."


class PaymentNotEscrowed(AitbcError):
    status = 409
    code = "PAYMENT_NOT_ESCROWED"
    template = "The payment is not in escrow: it is {status}."


class PaymentAlreadyReleased(AitbcError):
    status = 409
    code = "PAYMENT_ALREADY_RELEASED"
    template = "The payment was released; it cannot be moved again."


class PaymentAlreadyRefunded(AitbcError):
    status = 409
    code = "PAYMENT_ALREADY_REFUNDED"
    template = "The payment was refunded; it cannot be moved again."


class JobNotCompleted(AitbcError):
    status = 409
    code = "JOB_NOT_COMPLETED"
    template = "The job has no answer yet, so there is nothing to pay for: it is {status}."


class JobStillOpen(AitbcError):
    status = 409
    code = "JOB_STILL_OPEN"
    template = "The job can still complete; cancel it to get the money back."


class JobAnswered(AitbcError):
    status = 409
    code = "JOB_ANSWERED"
    template = "The job was answered; only the miner's account can refund its payment."
