"""Signed transfers between wallets. docs/formats/transaction.md gives the exact bytes, with a vector."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from aitbc.core import canonical
from aitbc.core.money import MAX_UNITS
from aitbc.core.signing import PrivateKey, decode_b64, encode_b64, public_from_text, verify
from aitbc.core.wallet.address import AddressInvalid, canonical_address, native_address

VERSION = "aitbc/transaction/v2"
VERSION_1 = "aitbc/transaction/v1"
"""Which names the network's name alone, so that every network of that name would take it: none takes it any more."""
USUAL_FEE_UNITS = 100_000
"""The least fee of a network that has set no other (0.001 AIT): a transfer stays in the log for ever."""
MAX_NONCE = canonical.MAX_INTEGER
_MEMBERS_1 = frozenset(
    {"version", "chain_id", "from", "to", "amount_units", "fee_units", "nonce", "public_key", "signature"}
)
_MEMBERS = _MEMBERS_1 | {"network_id"}
_NETWORK_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)


class TransactionInvalid(ValueError):
    """Not a transaction of this version; the message says where."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transfer as it is signed. Money in base units; `public_key` is the sender's, in base64.

    `network_id` (hex) is the network's own, as /rpc/info tells it; '' in a transfer of version 1. `nonce` is
    one more than that of the sender's last applied transfer: the first has 1.
    """

    chain_id: str
    network_id: str
    sender: str
    recipient: str
    amount_units: int
    fee_units: int
    nonce: int
    public_key: str

    def to_json(self) -> dict[str, Any]:
        """What is signed; amounts as strings, as everywhere in signed documents."""
        network = {"network_id": self.network_id} if self.network_id else {}
        return {
            "version": VERSION if self.network_id else VERSION_1,
            "chain_id": self.chain_id,
            **network,
            "from": self.sender,
            "to": self.recipient,
            "amount_units": str(self.amount_units),
            "fee_units": str(self.fee_units),
            "nonce": self.nonce,
            "public_key": self.public_key,
        }

    def encode(self) -> bytes:
        """RFC 8785: what is hashed and signed."""
        return canonical.encode(self.to_json())

    @property
    def hash(self) -> str:
        """SHA-256 of the encoded transaction, hex: its name. The signature is no part of it."""
        return canonical.sha256_hex(self.encode())

    @classmethod
    def make(
        cls,
        key: PrivateKey,
        *,
        chain_id: str,
        network_id: str,
        recipient: str,
        amount_units: int,
        fee_units: int,
        nonce: int,
    ) -> Transaction:
        """A transaction from the key's own address."""
        return cls(
            chain_id=chain_id,
            network_id=network_id,
            sender=native_address(key.public_bytes),
            recipient=recipient,
            amount_units=amount_units,
            fee_units=fee_units,
            nonce=nonce,
            public_key=encode_b64(key.public_bytes),
        )

    def signed(self, key: PrivateKey) -> dict[str, Any]:
        """The document to send: what is signed, and the signature."""
        return {**self.to_json(), "signature": encode_b64(key.sign(self.encode()))}


def read_transaction(document: object) -> tuple[Transaction, str]:
    """A sent document of either version as the transaction and its signature (base64). Nothing is verified yet.

    TransactionInvalid: members that are missing or unknown, wrong types, amounts out of range.
    """
    if not isinstance(document, dict):
        raise TransactionInvalid("a signed transaction is an object")
    old = document.get("version") == VERSION_1
    members = _MEMBERS_1 if old else _MEMBERS
    if document.keys() != members:
        raise TransactionInvalid(f"a signed transaction has exactly the members {', '.join(sorted(members))}")
    if not old and document["version"] != VERSION:
        raise TransactionInvalid(f"version is not {VERSION}")
    for name in ("chain_id", "from", "to", "public_key", "signature"):
        if not isinstance(document[name], str) or len(document[name]) > 128:
            raise TransactionInvalid(f"{name} is not a short string")
    network_id = "" if old else document["network_id"]
    if not isinstance(network_id, str) or not (old or _NETWORK_ID.fullmatch(network_id)):
        raise TransactionInvalid("network_id is not 64 lower-case hex digits")
    nonce = document["nonce"]
    if type(nonce) is not int or not 1 <= nonce <= MAX_NONCE:
        raise TransactionInvalid("nonce is not an integer from 1 to 2**53-1")
    amount = _units(document, "amount_units")
    if amount == 0:
        raise TransactionInvalid("amount_units is zero")
    transaction = Transaction(
        chain_id=document["chain_id"],
        network_id=network_id,
        sender=document["from"],
        recipient=document["to"],
        amount_units=amount,
        fee_units=_units(document, "fee_units"),
        nonce=nonce,
        public_key=document["public_key"],
    )
    return transaction, document["signature"]


def _units(document: dict[str, Any], name: str) -> int:
    text = document[name]
    if isinstance(text, str) and len(text) <= 16 and text.isascii() and text.isdigit():
        units = int(text)
        if str(units) == text and units <= MAX_UNITS:
            return units
    raise TransactionInvalid(f"{name} is not a string of base units, 0 to 2**53-1")


def check_addresses(transaction: Transaction) -> None:
    """AddressInvalid: an address that is not canonical, a sender that is not its key's, or sender = recipient."""
    for name, address in (("from", transaction.sender), ("to", transaction.recipient)):
        try:
            if canonical_address(address) != address:
                raise AddressInvalid("an EVM address is written in lower case here")
        except AddressInvalid as error:
            raise AddressInvalid(f"{name}: {error}") from None
    try:
        own = native_address(public_from_text(transaction.public_key))
    except ValueError as error:
        raise AddressInvalid(f"public_key: {error}") from None
    if own != transaction.sender:
        raise AddressInvalid("from: not the address of public_key")
    if transaction.sender == transaction.recipient:
        raise AddressInvalid("to: a wallet does not pay itself")


def is_signed(transaction: Transaction, signature: str) -> bool:
    """Whether this (base64) is the signature of the transaction's own public key."""
    try:
        public = public_from_text(transaction.public_key)
        return verify(public, transaction.encode(), decode_b64(signature))
    except ValueError:
        return False
