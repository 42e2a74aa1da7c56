"""Transfers between wallets: each is what a wallet signed, and everything that a wallet signed was done once."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from aitbc.audit.books import TREASURY
from aitbc.audit.findings import Progress, Report, Wrong
from aitbc.audit.network import Network, is_old
from aitbc.audit.pages import rows
from aitbc.coordinator.database import Tx, statement
from aitbc.core.canonical import loads_strict
from aitbc.core.signing import public_from_text
from aitbc.core.transfer_ids import ALLOCATED, BITCOIN, SIGNED_FEE
from aitbc.core.wallet.address import kind_of, native_address
from aitbc.core.wallet.transaction import Transaction, check_addresses, is_signed, read_transaction

PAGE = 500

MOVED = statement(
    text("""
SELECT t.id, t.debit_id, t.credit_id, t.amount_units, t.ref, t.created_at_ms,
       w.hash, w.sender_id, w.nonce, w.body, w.signature, w.transfer_id, w.created_at_ms AS signed_at_ms
FROM transfers t
LEFT JOIN wallet_transactions w
    ON w.hash = CASE WHEN substr(t.ref, 1, 4) = 'fee:' THEN substr(t.ref, 5) ELSE t.ref END
WHERE t.kind = 'transfer' AND t.id > :after ORDER BY t.id LIMIT :count
""")
)
USERS = statement(
    text("""
SELECT u.id, u.kind, u.public_key, u.nonce,
       (SELECT COUNT(DISTINCT nonce) FROM wallet_transactions w WHERE w.sender_id = u.id) AS signed,
       (SELECT MAX(nonce) FROM wallet_transactions w WHERE w.sender_id = u.id) AS newest
FROM users u WHERE u.id > :after ORDER BY u.id LIMIT :count
""")
)
COUNT = statement(text("SELECT COUNT(*) AS signed FROM wallet_transactions"))
NAMES_TRANSFER = statement(
    text("SELECT hash FROM wallet_transactions WHERE transfer_id = :transfer ORDER BY hash LIMIT 1")
)
NOT_DONE = statement(
    text(
        "SELECT w.hash FROM wallet_transactions w WHERE NOT EXISTS (SELECT 1 FROM transfers t"
        " WHERE t.id = w.transfer_id AND t.kind = 'transfer' AND t.ref = w.hash) ORDER BY w.hash LIMIT 1"
    )
)


def check_wallets(tx: Tx, network: Network, report: Report, progress: Progress) -> None:
    """Every transfer of the kind that wallets make, then every wallet's nonce. Raises Wrong."""
    signed = int(tx.one(COUNT).signed)
    progress.stage("wallets", signed)
    seen = 0
    fees: dict[str, int] = {}  # by transaction: how many are still to come; its fee stands beside it, so few
    for row in rows(tx, MOVED, PAGE):
        if BITCOIN.fits(
            row.id
        ):  # taken back after a reorganisation: held to its entry in the log by `audit.bitcoin`
            continue
        report.at = ("transfer", row.id)
        if ALLOCATED.fits(row.id):
            continue  # a proposal decided it (`audit.governance`)
        if row.hash is None:
            raise _unsigned(tx, row)
        if row.ref == row.hash:
            seen += 1
            progress.step(1)
            fee_units = _check_signed(row, network)
            _owe(fees, row.hash, 1 if fee_units else 0)
        else:
            _check_fee(row)
            _owe(fees, row.hash, -1)
    for hashed in sorted(fees):
        raise Wrong("transaction", hashed, "its fee was not paid once")
    if seen != signed:
        row = tx.one(NOT_DONE)
        raise Wrong("transaction", "?" if row is None else row.hash, "its transfer is not there")
    report.counts["wallet_transactions"] = seen
    for row in rows(tx, USERS, PAGE):
        report.at = ("user", row.id)
        _check_user(row)


def _unsigned(tx: Tx, row: Any) -> Wrong:
    signed = tx.one(NAMES_TRANSFER, transfer=row.id)
    if signed is None:
        return Wrong("transfer", row.id, "no wallet signed it")
    return Wrong("transaction", signed.hash, f"its transfer {row.id} was made for {row.ref or 'nothing'}")


def _check_signed(row: Any, network: Network) -> int:
    """A transfer against the document that its payer signed; the fee (base units) that this names."""
    which = row.hash
    try:
        document = loads_strict(row.body.encode())
        if not isinstance(document, dict) or "signature" in document:
            raise ValueError("its text is not what is signed")
        transaction, signature = read_transaction({**document, "signature": row.signature})
        check_addresses(transaction)
    except (AttributeError, ValueError) as error:
        raise Wrong("transaction", which, str(error)) from None
    fault = _fault(row, transaction, signature, network)
    if fault:
        raise Wrong("transaction", which, fault)
    return transaction.fee_units


def _fault(row: Any, transaction: Transaction, signature: str, network: Network) -> str:
    if transaction.chain_id != network.chain_id:
        return f"it is of the network {transaction.chain_id}"
    # Version 1 names no id; what was made before there were any stays, and none is taken since.
    if transaction.network_id != network.network_id and (
        transaction.network_id or not is_old(network.genesis)
    ):
        return f"it is of another network of this name, {transaction.network_id or 'or of any'}"
    if transaction.encode() != row.body.encode() or transaction.hash != row.hash:
        return "its hash is not that of its text"
    if not is_signed(transaction, signature):
        return "its sender's signature does not match"
    if (row.sender_id, row.nonce) != (transaction.sender, transaction.nonce):
        return "its sender or its nonce is not what was signed"
    made = (row.debit_id, row.credit_id, row.amount_units)
    if row.transfer_id != row.id or made != (
        transaction.sender,
        transaction.recipient,
        transaction.amount_units,
    ):
        return f"transfer {row.id} is not what was signed"
    if row.signed_at_ms != row.created_at_ms:
        return "it was not kept when its transfer was made"
    return ""


def _check_fee(row: Any) -> None:
    """The fee's transfer; what it should be stands in a document that is checked with its own transfer."""
    if row.ref != SIGNED_FEE.prefix + row.hash:
        raise Wrong("transfer", row.id, f"its reference {row.ref} names no transaction")
    units = loads_strict(row.body.encode()).get("fee_units")
    if (row.debit_id, row.credit_id, str(row.amount_units)) != (row.sender_id, TREASURY, units):
        raise Wrong("transfer", row.id, f"it is not the fee that was signed in {row.hash}")
    if row.signed_at_ms != row.created_at_ms:
        raise Wrong("transfer", row.id, f"it was not made with the transaction {row.hash}")


def _owe(fees: dict[str, int], hashed: str, number: int) -> None:
    """On PostgreSQL ids of other transactions may stand between the two, and either may be the first."""
    owed = fees.pop(hashed, 0) + number
    if owed:
        fees[hashed] = owed


def _check_user(row: Any) -> None:
    if row.kind != kind_of(row.id):
        raise Wrong("user", row.id, f"its kind is {row.kind}")
    if row.public_key and (
        row.kind != "native" or native_address(public_from_text(row.public_key)) != row.id
    ):
        raise Wrong("user", row.id, "its public key is not that of its address")
    if row.kind == "native" and row.nonce and not row.public_key:
        raise Wrong("user", row.id, "it has signed, and its public key is gone")
    # They begin with 1: so this many different ones, up to this one, are all of them.
    if row.nonce != row.signed or row.nonce != (row.newest or 0):
        what = f"its nonce is {row.nonce}, it signed {row.signed} transfers, the last with {row.newest or 0}"
        raise Wrong("user", row.id, what)
