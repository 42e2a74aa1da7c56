from __future__ import annotations

import dataclasses
import json
from importlib import resources
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.core.log.block import (
    MAX_KINDS,
    VERSION,
    VERSION_2,
    BlockHeader,
    BlockInvalid,
    genesis,
    origin_of,
    stored_counts,
)
from aitbc.core.signing import PrivateKey, decode_b64, encode_b64

KEY = PrivateKey.from_seed(bytes(32))
GENESIS = genesis("ait-devnet")
BLOCK = BlockHeader(
    chain_id="ait-devnet",
    height=1,
    previous_hash=GENESIS.hash,
    time_ms=1_767_323_045_678,
    first_leaf=0,
    tree_size=3,
    root="ab" * 32,
    transactions=2,
    receipts=1,
    proposer=KEY.key_id,
)
BLOCK_2 = dataclasses.replace(BLOCK, version=VERSION_2, tree_size=10, others=(("bookings", 3), ("votes", 4)))
NEXT = dataclasses.replace(
    BLOCK, height=2, previous_hash=BLOCK.hash, first_leaf=3, tree_size=5, transactions=2, receipts=0
)


def test_the_devnet_has_the_committed_genesis() -> None:
    document = json.loads(
        resources.files("aitbc.coordinator.chain").joinpath("genesis.json").read_text("utf-8")
    )
    assert document == {"header": GENESIS.to_json(), "hash": GENESIS.hash}
    assert BlockHeader.from_json(document["header"]) == GENESIS
    assert GENESIS.last_leaf == -1
    # Pinned: another hash would be another chain.
    assert GENESIS.hash == "08be046ebbb20a0720cecc75bab648518806ec3fcd7314dd79bec18413a38a5d"


def test_every_chain_has_its_own_genesis_and_origin() -> None:
    assert genesis("other").hash != GENESIS.hash
    assert origin_of("ait-devnet") == "aitbc/ait-devnet"


def test_the_hash_and_the_signature_cover_the_canonical_header() -> None:
    assert BLOCK.encode() == rfc8785.dumps(BLOCK.to_json())
    signature = BLOCK.sign(KEY)
    assert decode_b64(signature) == KEY.sign(BLOCK.encode())
    assert BLOCK.is_signed(KEY.public_bytes, signature)
    assert not NEXT.is_signed(KEY.public_bytes, signature)
    assert not BLOCK.is_signed(PrivateKey.from_seed(b"\x01" * 32).public_bytes, signature)
    for wrong in ("", "x", "é", encode_b64(bytes(64)), signature + "\n", signature[:-1]):
        assert not BLOCK.is_signed(KEY.public_bytes, wrong)


@pytest.mark.parametrize("block", [BLOCK, BLOCK_2], ids=["v1", "v2"])
@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(BlockHeader)])
def test_the_hash_covers_every_field(block: BlockHeader, field: str) -> None:
    value: Any = getattr(block, field)
    other = value + (1 if isinstance(value, int) else (("gifts", 1),) if isinstance(value, tuple) else "x")
    if field == "others" and block.version == VERSION:
        with pytest.raises(BlockInvalid):
            dataclasses.replace(block, others=other)
        return
    assert dataclasses.replace(block, **{field: other}).hash != block.hash


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 2**53 - 1),
    st.integers(0, 253_402_300_799_999),
    st.integers(0, 2**50),
    st.integers(0, 2**20),
    st.integers(0, 2**20),
    st.sampled_from(["", KEY.key_id]),
)
def test_headers_read_back(
    height: int, time_ms: int, first: int, transactions: int, receipts: int, proposer: str
) -> None:
    header = BlockHeader(
        "c",
        height,
        "0" * 64,
        time_ms,
        first,
        first + transactions + receipts,
        "f" * 64,
        transactions,
        receipts,
        proposer,
    )
    assert BlockHeader.from_json(json.loads(header.encode())) == header


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "aitbc/block/v2"},
        {"version": "aitbc/block/v3"},
        {"version": None},
        {"contents": {"transfers": 2, "receipts": 1}},
        {"chain_id": None},
        {"height": -1},
        {"height": True},
        {"height": 1.0},
        {"height": 2**53},
        {"height": "1"},
        {"previous_hash": "0" * 63},
        {"previous_hash": "A" * 64},
        {"root": None},
        {"root": "0" * 64 + "\n"},
        {"time": "2026-01-02T03:04:05Z"},
        {"time": "2026-01-02T03:04:05.678+00:00"},
        {"time": 1},
        {"time": None},
        {"first_leaf": 1},
        {"last_leaf": 3},
        {"last_leaf": 2.0},
        {"last_leaf": None},
        {"tree_size": 4},
        {"transactions": 1},
        {"receipts": 2},
        {"proposer": "x"},
        {"proposer": None},
        {"note": 1},
    ],
)
def test_what_is_no_header(changes: dict[str, Any]) -> None:
    with pytest.raises(BlockInvalid):
        BlockHeader.from_json({**BLOCK.to_json(), **changes})


@pytest.mark.parametrize("document", [None, [], "x", {}, 1])
def test_what_is_no_document(document: object) -> None:
    with pytest.raises(BlockInvalid):
        BlockHeader.from_json(document)


def test_blocks_follow_one_another() -> None:
    assert BLOCK.fault_after(GENESIS) is None
    assert NEXT.fault_after(BLOCK) is None


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"chain_id": "other"}, "chain_id"),
        ({"height": 3}, "height"),
        ({"height": 1}, "height"),
        ({"previous_hash": GENESIS.hash}, "previous_hash"),
        ({"first_leaf": 2}, "first_leaf"),
        ({"first_leaf": 4}, "first_leaf"),
        ({"tree_size": 3, "transactions": 0}, "no leaves"),
        ({"tree_size": 2}, "no leaves"),
        ({"transactions": 1}, "add up"),
        ({"time_ms": BLOCK.time_ms - 1}, "time"),
    ],
)
def test_a_block_that_does_not_follow(changes: dict[str, Any], fault: str) -> None:
    assert fault in (dataclasses.replace(NEXT, **changes).fault_after(BLOCK) or "")


def test_a_block_counts_kinds_that_nobody_here_knows() -> None:
    """What such leaves are, others know; that they add up, and that the hash covers them, everybody checks."""
    document = BLOCK_2.to_json()
    assert document["contents"] == {"bookings": 3, "receipts": 1, "transfers": 2, "votes": 4}
    assert (document["transactions"], document["receipts"]) == (2, 1)
    assert BlockHeader.from_json(document) == BLOCK_2
    assert BLOCK_2.encode() == rfc8785.dumps(document)
    assert BLOCK_2.fault_after(GENESIS) is None
    assert "add up" in (dataclasses.replace(BLOCK_2, others=(("votes", 4),)).fault_after(GENESIS) or "")


@pytest.mark.parametrize(
    "contents",
    [
        None,
        [],
        {},
        {"transfers": 2, "receipts": 1, "gifts": 0, "votes": 7},
        {"transfers": 1, "receipts": 2, "votes": 7},
        {"receipts": 1, "votes": 9},
        {"transfers": 2, "receipts": 1},
        {"transfers": 2, "receipts": 1, "votes": 8},
        {"transfers": 2, "receipts": 1, "bookings": 6, "votes": True},
        {"transfers": 2, "receipts": 1, "bookings": 6, "votes": 1.0},
        {"transfers": 2, "receipts": 1, "bookings": 6, "votes": "1"},
        {"transfers": 2, "receipts": 1, "bookings": 8, "votes": -1},
        {"transfers": 2, "receipts": 1, "Votes": 7},
        {"transfers": 2, "receipts": 1, "": 7},
        {"transfers": 2, "receipts": 1, "v" * 33: 7},
        {"transfers": 2, "receipts": 1, "votes\n": 7},
        {"transfers": 2, "receipts": 1, **{f"kind_{number}": 1 for number in range(MAX_KINDS)}},
    ],
)
def test_what_are_no_contents(contents: object) -> None:
    with pytest.raises(BlockInvalid):
        BlockHeader.from_json({**BLOCK_2.to_json(), "contents": contents})


def test_once_of_version_2_never_of_version_1_again() -> None:
    second = dataclasses.replace(NEXT, previous_hash=BLOCK.hash, version=VERSION_2)
    assert second.fault_after(BLOCK) is None
    third = dataclasses.replace(
        second, height=3, previous_hash=second.hash, first_leaf=5, tree_size=7, version=VERSION
    )
    assert "version" in (third.fault_after(second) or "")
    assert dataclasses.replace(third, version=VERSION_2).fault_after(second) is None


def test_a_stored_block_counts_what_its_contents_say() -> None:
    assert stored_counts(2, 1, "") == {"transactions": 2, "receipts": 1}
    found = stored_counts(2, 0, '{"transfers":2,"votes":1}')
    assert found == {"transactions": 2, "receipts": 0, "others": (("votes", 1),), "version": VERSION_2}
    for counts in ((1, 0), (2, 1)):
        with pytest.raises(BlockInvalid):
            stored_counts(*counts, '{"transfers":2,"votes":1}')
