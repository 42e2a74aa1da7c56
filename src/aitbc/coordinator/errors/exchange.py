"""Top-ups with Bitcoin."""

from aitbc.coordinator.errors.base import AitbcError, Forbidden, NotFound
from aitbc.coordinator.errors.money import MoneyError


class ExchangeOff(AitbcError):
    status = 503
    code = "EXCHANGE_OFF"
    template = "This coordinator takes no Bitcoin: {reason}"


class ExchangeBlind(AitbcError):
    status = 503
    code = "EXCHANGE_BLIND"
    template = (
        "The Bitcoin chain was last looked at {age_s} s ago, so no rate is locked now. What was paid is credited once"
        " it is seen again."
    )


class TopupNotFound(NotFound):
    code = "TOPUP_NOT_FOUND"
    template = "There is no such Bitcoin payment: {payment_id}"


class TooManyTopups(AitbcError):
    status = 429
    code = "TOO_MANY_TOPUPS"
    template = (
        "The account has {open} Bitcoin payments that wait, of {max_open} at most, and {unpaid} unpaid ones of the last"
        " 24 hours, of {max_unpaid}. Pay one, or wait."
    )


class NoAmountFree(AitbcError):
    status = 503
    code = "NO_AMOUNT_FREE"
    template = "Too many payments of about this amount wait on the one address; ask for another amount."


class AccountOwes(MoneyError, Forbidden):
    status = 403
    code = "ACCOUNT_OWES"
    template = (
        "A Bitcoin payment of this account was undone by a reorganisation of the chain after it was spent: {owed} AIT"
        " are missing, and the account has {available} AIT available. The operator has to settle it first."
    )
