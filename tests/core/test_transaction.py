"""Signed transfers: their bytes, their hash, and what is none."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from aitbc.core.signing import PrivateKey, encode_b64
from aitbc.core.wallet.address import AddressInvalid, native_address
from aitbc.core.wallet.transaction import (
    Transaction,
    TransactionInvalid,
    check_addresses,
    is_signed,
    read_transaction,
)

KEY = PrivateKey.from_seed(b"\x01" * 32)
OTHER = PrivateKey.from_seed(b"\x02" * 32)
TO = native_address(OTHER.public_bytes)
MADE = Transaction.make(
    KEY,
    chain_id="ait-devnet",
    network_id="ab" * 32,
    recipient=TO,
    amount_units=150_000_000,
    fee_units=1,
    nonce=1,
)
DOCUMENT = MADE.signed(KEY)
PAGE = Path(__file__).parents[2] / "docs" / "formats" / "transaction.md"


def test_the_vector_of_the_page() -> None:
    text = PAGE.read_text()
    assert MADE.encode().decode() in text
    assert MADE.hash in text
    assert DOCUMENT["signature"] in text
    assert KEY.seed.hex() in text


def test_the_old_versions_vector_still_holds() -> None:
    """What was signed before networks had ids is still what it was, for those who look back at it."""
    old = dataclasses.replace(MADE, network_id="")
    document = old.signed(KEY)
    assert old.hash == "0bb77a59090af589e8cda8ccc8d62e746b4d0a8a26f9932da8257c150f2ef1c9"
    assert old.hash in PAGE.read_text()
    assert document["version"] == "aitbc/transaction/v1"
    assert read_transaction(document) == (old, document["signature"])
    for both in ({**document, "network_id": "ab" * 32}, {**DOCUMENT, "version": "aitbc/transaction/v1"}):
        with pytest.raises(TransactionInvalid):
            read_transaction(both)


def test_a_document_is_read_back() -> None:
    read, signature = read_transaction(json.loads(json.dumps(DOCUMENT)))
    assert read == MADE
    assert is_signed(read, signature)
    check_addresses(read)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", "aitbc/transaction/v1"),
        ("version", "aitbc/transaction/v3"),
        ("network_id", ""),
        ("network_id", None),
        ("network_id", "AB" * 32),
        ("network_id", "ab" * 31),
        ("chain_id", 1),
        ("from", None),
        ("to", "a" * 129),
        ("amount_units", 5),
        ("amount_units", "0"),
        ("amount_units", "-1"),
        ("amount_units", "01"),
        ("amount_units", "1.5"),
        ("amount_units", "1e3"),
        ("amount_units", "\u0661"),
        ("amount_units", str(2**53)),
        ("amount_units", "9" * 5000),
        ("fee_units", ""),
        ("fee_units", None),
        ("nonce", 0),
        ("nonce", "1"),
        ("nonce", True),
        ("nonce", 1.0),
        ("nonce", 2**53),
        ("more", 1),
    ],
)
def test_what_is_no_transaction(name: str, value: Any) -> None:
    with pytest.raises(TransactionInvalid):
        read_transaction({**DOCUMENT, name: value})


def test_every_member_is_needed() -> None:
    for name in DOCUMENT:
        with pytest.raises(TransactionInvalid):
            read_transaction({key: value for key, value in DOCUMENT.items() if key != name})
    for wrong in (None, [], "x", 1):
        with pytest.raises(TransactionInvalid):
            read_transaction(wrong)


@pytest.mark.parametrize(
    "change",
    [
        {"chain_id": "ait-mainnet"},
        {"network_id": "cd" * 32},
        {"recipient": native_address(PrivateKey.from_seed(b"\x03" * 32).public_bytes)},
        {"amount_units": 150_000_001},
        {"fee_units": 2},
        {"nonce": 2},
        {"sender": TO},
        {"public_key": encode_b64(OTHER.public_bytes)},
    ],
)
def test_the_signature_covers_every_field(change: dict[str, Any]) -> None:
    changed = dataclasses.replace(MADE, **change)
    assert changed.hash != MADE.hash
    assert not is_signed(changed, DOCUMENT["signature"])


@pytest.mark.parametrize("signature", ["", "x", encode_b64(bytes(64)), encode_b64(b"short")])
def test_no_signature(signature: str) -> None:
    assert not is_signed(MADE, signature)
    assert not is_signed(dataclasses.replace(MADE, public_key="x"), DOCUMENT["signature"])


@pytest.mark.parametrize(
    "change",
    [
        {"recipient": "alice"},
        {"recipient": TO.upper()},
        {"recipient": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"},  # right checksum, not the one spelling
        {"recipient": MADE.sender},
        {"sender": TO},
        {"sender": "system:mint"},
        {"public_key": "nonsense"},
        {"public_key": encode_b64(OTHER.public_bytes)},
    ],
)
def test_addresses_that_do_not_fit(change: dict[str, Any]) -> None:
    with pytest.raises(AddressInvalid):
        check_addresses(dataclasses.replace(MADE, **change))


def test_money_may_go_to_an_evm_wallet() -> None:
    check_addresses(dataclasses.replace(MADE, recipient="0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"))
