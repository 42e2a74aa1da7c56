"""Money that an operator makes: a transfer like any other, in the log, its reason for everybody to read."""

from __future__ import annotations

from typing import NamedTuple

from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import InvalidRequest
from aitbc.coordinator.flows.shared.grants import open_account_with_grant
from aitbc.coordinator.ledger import service as ledger
from aitbc.core.money import MAX_UNITS, ait_number, format_ait
from aitbc.core.text import clean
from aitbc.core.transfer_ids import MINTED, REASON, Reference, TransferId, new_transfer_id
from aitbc.core.wallet.address import AddressInvalid, canonical_address, looks_like_address

_SYSTEM = "system:"


class Minted(NamedTuple):
    """What a mint did. `made` is False where the same mint, by its reference, was done before."""

    transfer_id: TransferId
    account_id: str
    made: bool
    created: bool
    balance_units: int


def account_of(text: str) -> str:
    """The account id that an operator means. Raises InvalidRequest: a system account, a mistyped address."""
    if text.startswith(_SYSTEM):
        raise InvalidRequest("Money is minted for people's accounts, not for the system's own.", field="to")
    try:
        return canonical_address(text) if looks_like_address(text) else text
    except AddressInvalid as error:
        raise InvalidRequest(f"The address does not fit: {error}.", field="to") from None


def reason_of(text: str) -> Reference:
    """A reason as it is kept: one line without control characters. Raises InvalidRequest: empty or too long."""
    reason = " ".join(clean(text, len(text)).split())
    try:
        return REASON.of(reason)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None


def mint(
    tx: Tx, account_id: str, units: int, reason: str, *, reference: str | None = None, create: bool = False
) -> Minted:
    """Makes `units` for the account (as `account_of` gives it). With a `reference` it happens once, however often.

    Raises AccountNotFound where there is no such account and `create` is false; InvalidRequest for an amount that
    is none, or with which the account would have more than any amount can say; TransferConflict where the
    reference names another mint.
    """
    if not 1 <= units <= MAX_UNITS:
        raise InvalidRequest(
            f"An amount is more than 0 and at most {format_ait(MAX_UNITS)} AIT.", field="amount"
        )
    try:
        transfer_id = new_transfer_id(tx.now_ms) if reference is None else MINTED.of(reference)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    created = False
    if create:
        created = open_account_with_grant(tx, account_id, 0)
    before = ledger.balance(tx, account_id).balance_units
    stands = reference is not None and ledger.line(tx, transfer_id) is not None
    if not stands and before + units > MAX_UNITS:
        raise InvalidRequest(
            f"The account would have more than {format_ait(MAX_UNITS)} AIT, the most that any amount can say.",
            balance=ait_number(before),
        )
    ledger.open_system_accounts(tx)
    made = ledger.mint(tx, transfer_id, account_id, units, ref=reason_of(reason))
    return Minted(transfer_id, account_id, made, created, ledger.balance(tx, account_id).balance_units)
