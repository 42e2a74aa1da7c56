from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from aitbc.core.log.keyset import USE_LOG, KeySet, PublishedKey
from aitbc.core.log.note import Verifier
from aitbc.core.signing import PrivateKey, decode_b64, public_to_text, receipt_vkey, vkey

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
        "vkey": receipt_vkey("ait-devnet", KEY.public_bytes),
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
        {"vkey": receipt_vkey("c", OTHER.public_bytes)},
        {"vkey": receipt_vkey("c", KEY.public_bytes)[:-1]},
        {"vkey": receipt_vkey("c", KEY.public_bytes), "use": "log"},
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
        ("receipts", receipt_vkey("c", KEY.public_bytes)),
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


def test_a_verifier_key_says_what_its_key_signs() -> None:
    """Receipts are no notes: no verifier of notes takes their key for one of its own."""
    text = PublishedKey(KEY.public_bytes).to_json("c")["vkey"]
    name, key_id, typed = text.split("+", 2)
    assert (name, decode_b64(typed)) == ("c", b"\xff" + b"aitbc/receipt" + KEY.public_bytes)
    assert key_id == hashlib.sha256(b"c\n" + decode_b64(typed)).hexdigest()[:8]
    with pytest.raises(ValueError, match="not an Ed25519 verifier key"):
        Verifier.parse(text)
    assert Verifier.parse(PublishedKey(KEY.public_bytes, use=USE_LOG).to_json("c")["vkey"]).name == "aitbc/c"


def test_keys_saved_before_are_still_read() -> None:
    """Their verifier keys were all of the type of notes, their log's origin followed from the chain."""
    entries = [
        {**PublishedKey(KEY.public_bytes).to_json("c"), "vkey": vkey("c", KEY.public_bytes)},
        PublishedKey(KEY.public_bytes, use=USE_LOG).to_json("c"),
    ]
    read = KeySet.from_json({"chain_id": "c", "keys": entries})
    assert (len(read), read.origin, read.network_id) == (2, "aitbc/c", "")


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": "aitbc/other/0011"},
        {"origin": "a b"},
        {"origin": 1},
        {"origin": "b.example/log"},
        {"network_id": "AB" * 32},
        {"network_id": 1},
    ],
)
def test_a_key_set_is_of_one_log(changes: dict[str, Any]) -> None:
    keys = [PublishedKey(KEY.public_bytes, use=USE_LOG)]
    document = KeySet("c", keys, "a.example/log", "ab" * 32).to_json()
    read = KeySet.from_json(json.loads(json.dumps(document)))
    assert (read.origin, read.network_id, len(read.log_keys)) == ("a.example/log", "ab" * 32, 1)
    with pytest.raises(ValueError):
        KeySet.from_json({**document, **changes})
