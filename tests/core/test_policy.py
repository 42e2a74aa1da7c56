from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.core.log.note import Verifier
from aitbc.core.log.policy import MAX_KEYS, Policy, PolicyInvalid
from aitbc.core.signing import PrivateKey, public_to_text
from tests.core.proofs import LOG, POLICY, WITNESS_KEYS, WITNESSES
from tests.core.receipt_vectors import CHAIN_ID, COORDINATOR, MINER

DOCUMENT = POLICY.to_json()


def test_a_policy_both_ways() -> None:
    assert {
        "version": "aitbc/policy/v1",
        "chain_id": "ait-devnet",
        "log": [LOG.vkey],
        "witnesses": [witness.vkey for witness in WITNESSES],
        "quorum": 2,
        "require_proof": True,
        "receipt_keys": [
            {"key_id": COORDINATOR.key_id, "public_key": public_to_text(COORDINATOR.public_bytes)}
        ],
    } == DOCUMENT
    assert Policy.from_json(DOCUMENT) == POLICY
    assert Policy.from_bytes(json.dumps(DOCUMENT, indent=2).encode()) == POLICY


def test_the_page_shows_a_policy() -> None:
    page = (Path(__file__).parents[2] / "docs" / "formats" / "policy.md").read_text("utf-8")
    shown = Policy.from_bytes(page.partition("```json\n")[2].partition("```")[0].encode())
    network_id = shown.network_id  # sixty-four digits that say nothing here
    assert len(bytes.fromhex(network_id)) == 32
    assert shown == Policy(
        CHAIN_ID, (LOG,), WITNESSES[:1], 1, (COORDINATOR.public_bytes,), network_id=network_id
    )
    table = page.partition("| member |")[2]
    assert all(f"| `{name}` |" in table for name in DOCUMENT)
    assert f"At most {MAX_KEYS} keys" in page


def test_what_may_be_left_out() -> None:
    document = {name: DOCUMENT[name] for name in ("version", "chain_id", "log")}
    policy = Policy.from_json({**document, "witnesses": [], "quorum": 0})
    assert policy == Policy(CHAIN_ID, (LOG,))
    assert policy.require_proof
    assert Policy.from_json(policy.to_json()) == policy
    assert not Policy.from_json({**DOCUMENT, "require_proof": False}).require_proof


def test_its_keys_as_a_key_set() -> None:
    keys = POLICY.key_set()
    assert keys.chain_id == CHAIN_ID
    receipt_key = keys.get(COORDINATOR.key_id)
    assert receipt_key is not None
    assert (receipt_key.public_bytes, receipt_key.use) == (COORDINATOR.public_bytes, "receipts")
    assert [key.public_bytes for key in keys.log_keys] == [COORDINATOR.public_bytes]
    assert len(Policy(CHAIN_ID, (LOG,)).key_set()) == 1


@pytest.mark.parametrize("name", ["version", "chain_id", "log", "witnesses", "quorum"])
def test_the_rest_is_needed(name: str) -> None:
    with pytest.raises(PolicyInvalid, match=f"missing member {name}"):
        Policy.from_json({key: value for key, value in DOCUMENT.items() if key != name})


STRANGER = PrivateKey.from_seed(b"\x09" * 32)
W1 = WITNESSES[0].vkey


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"version": "aitbc/policy/v2"}, "version"),
        ({"note": 1}, "unknown member 'note'"),
        ({"chain_id": ""}, "chain_id"),
        ({"chain_id": 1}, "chain_id"),
        ({"chain_id": "other"}, "not one of other"),
        ({"log": []}, "log has no key"),
        ({"log": LOG.vkey}, "log is not a list"),
        ({"log": [1]}, "not a string"),
        ({"log": ["x"]}, "log: "),
        ({"log": [LOG.vkey + " "]}, "log: "),
        ({"log": [LOG.vkey, LOG.vkey]}, "occurs twice"),
        ({"log": [W1]}, "not an Ed25519 verifier key"),
        ({"log": [Verifier("aitbc/other", MINER.public_bytes).vkey]}, "not one of ait-devnet"),
        ({"log": [Verifier("aitbc/ait-devnet2", MINER.public_bytes).vkey]}, "not one of ait-devnet"),
        ({"log": [LOG.vkey, Verifier("a.example/log", MINER.public_bytes).vkey]}, "different names"),
        ({"witnesses": None}, "witnesses is not a list"),
        ({"witnesses": [LOG.vkey], "quorum": 0}, "cosignature"),
        ({"witnesses": [Verifier("w", MINER.public_bytes).vkey], "quorum": 0}, "cosignature"),
        ({"witnesses": [W1, W1]}, "occurs twice"),
        # One operator under two names, or with two keys under one name, is one witness.
        ({"witnesses": [W1, Verifier("x", WITNESS_KEYS[0].public_bytes, 4).vkey]}, "occurs twice"),
        ({"witnesses": [W1, Verifier(WITNESSES[0].name, STRANGER.public_bytes, 4).vkey]}, "occurs twice"),
        # A log that is its own witness.
        ({"witnesses": [W1, Verifier("x", COORDINATOR.public_bytes, 4).vkey]}, "occurs twice"),
        ({"quorum": -1}, "quorum"),
        ({"quorum": 4}, "quorum"),
        ({"quorum": 1.0}, "quorum"),
        ({"quorum": True}, "quorum"),
        ({"quorum": "1"}, "quorum"),
        ({"quorum": None}, "quorum"),
        ({"quorum": 1, "witnesses": []}, "quorum"),
        ({"require_proof": 1}, "require_proof"),
        ({"require_proof": None}, "require_proof"),
        ({"receipt_keys": {}}, "receipt_keys"),
        ({"receipt_keys": ["x"]}, "receipt key"),
        ({"receipt_keys": [{"key_id": COORDINATOR.key_id}]}, "receipt key"),
        ({"receipt_keys": [{**DOCUMENT["receipt_keys"][0], "note": 1}]}, "receipt key"),
        ({"receipt_keys": [{**DOCUMENT["receipt_keys"][0], "key_id": MINER.key_id}]}, "key_id"),
        ({"receipt_keys": [{**DOCUMENT["receipt_keys"][0], "public_key": "QQ=="}]}, "receipt_keys"),
        ({"receipt_keys": [{**DOCUMENT["receipt_keys"][0], "public_key": 1}]}, "not a string"),
        ({"receipt_keys": DOCUMENT["receipt_keys"] * 2}, "occurs twice"),
    ],
)
def test_what_is_no_policy(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(PolicyInvalid) as refused:
        Policy.from_json({**DOCUMENT, **changes})
    assert why in str(refused.value)


def test_how_many_keys_are_too_many() -> None:
    keys = [PrivateKey.from_seed(number.to_bytes(32, "big")) for number in range(1, MAX_KEYS + 2)]
    witnesses = [Verifier(f"w{n}", key.public_bytes, 4) for n, key in enumerate(keys)]
    assert Policy(CHAIN_ID, (LOG,), tuple(witnesses[:MAX_KEYS]), MAX_KEYS)
    with pytest.raises(PolicyInvalid, match="more than"):
        Policy(CHAIN_ID, (LOG,), tuple(witnesses))


@pytest.mark.parametrize("document", [None, [], "x", 1, {}, {1: 2}])
def test_other_documents_are_refused(document: object) -> None:
    with pytest.raises(PolicyInvalid):
        Policy.from_json(document)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b'{"quorum": NaN}',
        json.dumps(DOCUMENT).encode().replace(b'"quorum": 2', b'"quorum": 3, "quorum": 0'),
        b"[" * 100_000,
    ],
)
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(PolicyInvalid):
        Policy.from_bytes(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([*DOCUMENT, "note"]), JSON)
def test_reading_fails_in_one_way(name: str, value: object) -> None:
    try:
        policy = Policy.from_json({**DOCUMENT, name: value})
    except PolicyInvalid:
        return
    assert Policy.from_json(policy.to_json()) == policy
