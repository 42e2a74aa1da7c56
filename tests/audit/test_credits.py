"""Credits of Bitcoin outputs in a log, as who has nothing but the log recomputes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from aitbc.audit.entries import Entries
from aitbc.audit.findings import Report, Wrong
from aitbc.audit.receipts import ReceiptCheck
from aitbc.core.log.keyset import KeySet
from aitbc.core.log.leaf import bitcoin_credit_leaf, transfer_leaf
from tests.core.block_vectors import _credits
from tests.support.flows import CHAIN, NETWORK_ID, ORIGIN

CREDITS: list[dict[str, Any]] = [vector["credit"] for vector in _credits()]
MINT = "system:mint"


def moved(credit: Mapping[str, Any], other: Mapping[str, Any] = {}) -> bytes:
    """The transfer of a credit or reversal."""
    there = credit["kind"] == "credit"
    line = {
        "transfer_id": credit["entry_id"].removeprefix("entry:"),
        "kind": "mint" if there else "transfer",
        "debit": MINT if there else credit["account"],
        "credit": credit["account"] if there else MINT,
        "amount_units": credit["units"],
        "hold_id": None,
        "ref": f"topup:{credit['topup_id']}",
        "created_at_ms": credit["created_at_ms"],
    }
    return transfer_leaf(**{**line, **other})


def read(*leaves: bytes) -> Report:
    report = Report()
    entries = Entries(ReceiptCheck(KeySet(CHAIN, [], ORIGIN, NETWORK_ID)), report)
    for index, leaf in enumerate(leaves):
        entries.take(index, leaf)
    entries.bitcoin.close()
    return report


def whole(change: Mapping[int, Mapping[str, Any]] = {}) -> list[bytes]:
    """The log of all of them, with some members of some changed, in their transfers as well."""
    made = [{**credit, **change.get(number, {})} for number, credit in enumerate(CREDITS)]
    return [leaf for credit in made for leaf in (moved(credit), bitcoin_credit_leaf(**credit))]


def test_an_output_that_comes_goes_and_comes_again_adds_up() -> None:
    assert read(*whole()).counts == {"transfers": 3, "bitcoin_credits": 3}


@pytest.mark.parametrize(
    "change",
    [
        {0: {"units": 5_000_000_001}},
        {0: {"sat": 50_001}},
        {0: {"rate_units": 1}},
        {0: {"kind": "reversal"}},
        {0: {"short_units": 1}},
        {0: {"entry_id": CREDITS[1]["entry_id"]}},
        {1: {"units": 2_000_000_001}},
        {1: {"short_units": 0}},
        {1: {"kind": "credit"}},
        {1: {"account": "bob"}},
        {1: {"block_hash": "00" * 32}},
        {2: {"units": 5_000_000_000}},
        {2: {"rate_units": 20_000_000_000_000}},
        {2: {"topup_id": "019b7c1e-5a46-7000-8000-000000000002"}},
    ],
    ids=str,
)
def test_what_does_not_follow_from_the_output_is_found(change: dict[int, dict[str, Any]]) -> None:
    with pytest.raises(Wrong):
        read(*whole(change))


@pytest.mark.parametrize(
    "other",
    [{"amount_units": 1}, {"credit": "bob"}, {"debit": "bob"}, {"ref": "topup:"}, {"created_at_ms": 1}],
    ids=str,
)
def test_each_credit_has_its_one_transfer(other: dict[str, Any]) -> None:
    credit = CREDITS[0]
    leaf = bitcoin_credit_leaf(**credit)
    for leaves in (
        [leaf],
        [moved(credit)],
        [moved(credit), moved(credit), leaf],
        [moved(credit, other), leaf],
    ):
        with pytest.raises(Wrong):
            read(*leaves)
