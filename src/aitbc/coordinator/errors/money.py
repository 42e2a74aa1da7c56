"""Amounts, accounts and the ledger."""

from typing import Any

from aitbc.coordinator.errors.base import AitbcError, InvalidRequest, NotFound, filled
from aitbc.core.money import ait_number, format_ait


class MoneyError(AitbcError):
    """Base of refusals over amounts, which say their numbers.

    A detail named `…_units` is an amount in base units: the message has it in exact decimals of AIT, and the
    details under the name without `_units` as the JSON number in AIT.
    """

    def __init__(self, message: str | None = None, **details: Any) -> None:
        texts, numbers = dict(details), {}
        for name, value in details.items():
            if name.endswith("_units"):
                texts[name.removesuffix("_units")] = format_ait(value)
                numbers[name.removesuffix("_units")] = ait_number(value)
            else:
                numbers[name] = value
        super().__init__(filled(self.template, texts) if message is None else message, **numbers)


class FeeTooLow(MoneyError, InvalidRequest):
    template = "The fee of {fee} AIT is too low: a transfer costs at least {min_fee} AIT here."


class InsufficientFunds(MoneyError):
    status = 402
    code = "INSUFFICIENT_FUNDS"
    template = (
        "This needs {needed} AIT and the account has {available} AIT available: {balance} AIT, of which {held} AIT"
        " are held."
    )


class PriceTooLarge(InsufficientFunds):
    template = "The worst-case price of {needed} AIT is more than the {limit} AIT that a receipt can state."


class KeyLimitExceeded(MoneyError):
    status = 402
    code = "KEY_LIMIT_EXCEEDED"
    template = (
        "This needs {needed} AIT and key {key_id} has {available} AIT left: it may spend {limit} AIT a"
        " {limit_period}, {reserved} AIT are spent or reserved, and it starts anew at {resets_at}."
    )


class AccountNotFound(NotFound):
    code = "ACCOUNT_NOT_FOUND"
    template = "There is no such account: {account_id}"


class TransferConflict(AitbcError):
    """A transfer id was used for something else, or a hold was settled before: the ledger refuses both."""

    status = 409
    code = "TRANSFER_CONFLICT"
    template = "That transfer was already made with other terms."
