"""Signed transfers between wallets, applied to the ledger."""

from __future__ import annotations

from typing import NamedTuple

from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import (
    AccountNotFound,
    FeeTooLow,
    InvalidRequest,
    TxBadAddress,
    TxBadSignature,
    TxOldVersion,
    TxReplayed,
    TxWrongChain,
    TxWrongNonce,
)
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.models import TREASURY
from aitbc.coordinator.parameters import service as parameters
from aitbc.coordinator.users import service as users
from aitbc.coordinator.users.service import SignedRow
from aitbc.core.transfer_ids import SIGNED, SIGNED_FEE, new_transfer_id
from aitbc.core.wallet.address import AddressInvalid
from aitbc.core.wallet.transaction import (
    VERSION,
    Transaction,
    TransactionInvalid,
    check_addresses,
    is_signed,
    read_transaction,
)


class Signed(NamedTuple):
    """A transaction whose form, chain, addresses and signature are right."""

    transaction: Transaction
    signature: str


def read(document: object, chain_id: str, network_id: str) -> Signed:
    """Checks all of a sent transaction that needs no database.

    Raises InvalidRequest, TxOldVersion, TxWrongChain, TxBadAddress, TxBadSignature.
    """
    try:
        transaction, signature = read_transaction(document)
    except TransactionInvalid as error:
        raise InvalidRequest(f"The request is not valid: {error}") from None
    if not transaction.network_id:
        raise TxOldVersion(version=VERSION, network_id=network_id)
    if (transaction.chain_id, transaction.network_id) != (chain_id, network_id):
        raise TxWrongChain(chain_id=chain_id, network_id=network_id)
    try:
        check_addresses(transaction)
    except AddressInvalid as error:
        raise TxBadAddress(reason=str(error)) from None
    if not is_signed(transaction, signature):
        raise TxBadSignature()
    return Signed(transaction, signature)


def apply(tx: Tx, signed: Signed) -> str:
    """Moves the money; the transfer's id. The recipient's account is opened where it is new.

    Raises TxReplayed or TxWrongNonce before anything else, then FeeTooLow, InsufficientFunds; nothing has
    changed then.
    """
    transaction = signed.transaction
    hashed = transaction.hash
    user = users.get(tx, transaction.sender)
    if transaction.nonce != (1 if user is None else user.nonce + 1):
        raise _out_of_turn(tx, transaction, hashed)
    least = parameters.get(tx, "min_transaction_fee")
    if transaction.fee_units < least:
        raise FeeTooLow(fee_units=transaction.fee_units, min_fee_units=least)
    _check_funds(tx, transaction)
    users.ensure(tx, transaction.sender, transaction.public_key)
    if not users.advance_nonce(tx, transaction.sender, transaction.nonce):  # another was quicker
        raise _out_of_turn(tx, transaction, hashed)
    ledger.open_account(tx, transaction.recipient)
    transfer_id = new_transfer_id(tx.booked_ms)
    ref = SIGNED.of(hashed)
    ledger.transfer(
        tx, transfer_id, transaction.sender, transaction.recipient, transaction.amount_units, ref=ref
    )
    if transaction.fee_units:
        fee_ref = SIGNED_FEE.of(hashed)
        ledger.transfer(
            tx,
            new_transfer_id(tx.booked_ms),
            transaction.sender,
            TREASURY,
            transaction.fee_units,
            ref=fee_ref,
        )
    users.keep_signed(
        tx,
        SignedRow(
            hash=hashed,
            sender_id=transaction.sender,
            nonce=transaction.nonce,
            body=transaction.encode().decode(),
            signature=signed.signature,
            transfer_id=transfer_id,
            created_at_ms=tx.booked_ms,
        ),
    )
    return transfer_id


def next_nonce(tx: Tx, address: str) -> int:
    """The nonce of the wallet's next transfer."""
    user = users.get(tx, address)
    return 1 if user is None else user.nonce + 1


def _out_of_turn(tx: Tx, transaction: Transaction, hashed: str) -> TxReplayed | TxWrongNonce:
    if users.find_signed(tx, hashed) is not None:
        return TxReplayed(hash=hashed)
    return TxWrongNonce(expected=next_nonce(tx, transaction.sender))


def _check_funds(tx: Tx, transaction: Transaction) -> None:
    """Says what is missing of amount and fee together; the ledger's own guard looks at each alone."""
    try:
        has = ledger.balance(tx, transaction.sender)
    except AccountNotFound:
        has = ledger.Balance(transaction.sender, 0, 0)  # nobody ever paid this wallet
    total = transaction.amount_units + transaction.fee_units
    if has.available_units < total:
        raise ledger.insufficient(total, has)
