from __future__ import annotations

import json
from typing import Any

import pytest

from aitbc.core.keyset import USE_LOG, KeySet, PublishedKey
from aitbc.core.signing import PrivateKey, public_to_text, vkey

KEY = PrivateKey.from_seed(b"\x01" * 32)
OTHER = PrivateKey.from_seed(b"\x02" * 32)


def test_a_document_both_ways() -> None:
    keys = KeySet(
        "ait-devnet",
        [PublishedKey(KEY.public_bytes, 1_767_225_600_000, None), PublishedKey(OTHER.public_bytes)],
    )
    document = json.loads(json.dumps(keys.to_json()))
    assert document["keys"][0] == {
        "key_id": KEY.key_id,
        "alg": "Ed25519",
        "public_key": public_to_text(KEY.public_bytes),
        "vkey": vkey("ait-devnet", KEY.public_bytes),
        "valid_from": "2026-01-01T00:00:00.000Z",
        "valid_to": None,
        "use": "receipts",
    }
    read = KeySet.from_json(document)
    assert read.chain_id == "ait-devnet"
    assert len(read) == 2
    assert read.get(KEY.key_id) == keys.get(KEY.key_id)
    assert read.get("0" * 16) is None


def entry(**changes: Any) -> dict[str, Any]:
    return {**PublishedKey(KEY.public_bytes).to_json("c"), **changes}


def test_what_it_need_not_know_is_ignored() -> None:
    document = {
        "chain_id": "c",
        "keys": [
            entry(note="x"),
            {"alg": "ML-DSA-44", "key_id": "z"},
            {"alg": "Ed25519", "public_key": "A" * 43 + "="},
        ],
        "more": 1,
    }
    assert len(KeySet.from_json(document)) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"key_id": OTHER.key_id},
        {"public_key": None},
        {"public_key": "QQ=="},
        {"public_key": public_to_text(OTHER.public_bytes)},
        {"vkey": vkey("c", OTHER.public_bytes)},
        {"vkey": "c+00000000+AA=="},
        {"vkey": 1},
        {"valid_from": 1},
        {"valid_to": "tomorrow"},
        {"use": None},
    ],
)
def test_refuses_a_key_that_contradicts_itself(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        KeySet.from_json({"chain_id": "c", "keys": [entry(**changes)]})


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "x",
        {},
        {"chain_id": "c"},
        {"chain_id": "", "keys": []},
        {"chain_id": "c", "keys": {}},
        {"keys": []},
        {"chain_id": "c", "keys": ["x"]},
    ],
)
def test_refuses_other_documents(document: object) -> None:
    with pytest.raises(ValueError):
        KeySet.from_json(document)


def test_one_key_for_receipts_and_for_the_log() -> None:
    keys = KeySet("c", [PublishedKey(KEY.public_bytes), PublishedKey(KEY.public_bytes, use=USE_LOG)])
    document = json.loads(json.dumps(keys.to_json()))
    assert [(entry["use"], entry["vkey"]) for entry in document["keys"]] == [
        ("receipts", vkey("c", KEY.public_bytes)),
        ("log", vkey("aitbc/c", KEY.public_bytes)),
    ]
    for read in (keys, KeySet.from_json(document)):
        assert len(read) == 2
        receipt_key = read.get(KEY.key_id)
        assert receipt_key is not None
        assert receipt_key.use == "receipts"
        assert [key.public_bytes for key in read.log_keys] == [KEY.public_bytes]


def test_a_key_of_the_log_is_none_for_receipts() -> None:
    keys = KeySet("c", [PublishedKey(KEY.public_bytes, use=USE_LOG)])
    assert keys.get(KEY.key_id) is None
    assert KeySet("c", [PublishedKey(KEY.public_bytes)]).log_keys == ()


def test_a_key_of_the_log_has_the_name_of_its_origin() -> None:
    entry = PublishedKey(KEY.public_bytes, use=USE_LOG).to_json("c")
    assert len(KeySet.from_json({"chain_id": "c", "keys": [entry]}).log_keys) == 1
    for name in ("c", "aitbc/other"):
        changed = {**entry, "vkey": vkey(name, KEY.public_bytes)}
        with pytest.raises(ValueError, match="not named aitbc/c"):
            KeySet.from_json({"chain_id": "c", "keys": [changed]})
