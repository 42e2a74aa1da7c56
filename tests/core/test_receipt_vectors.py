"""The committed vectors against an independent reading of docs/formats/receipt.md, and against our own code.

The first half uses no code of `aitbc`: hashlib, the rfc8785 library and Ed25519 as RFC 8032 writes it down.
"""

from __future__ import annotations

import base64
import hashlib
import json
from decimal import Decimal
from typing import Any

import pytest
import rfc8785

from aitbc.core.receipt import KeySet, Policy, verify_bytes
from tests.core import ed25519_reference as ed25519
from tests.core import log_reference as log
from tests.core.receipt_vectors import VECTORS_FILE, build

VECTORS: dict[str, Any] = json.loads(VECTORS_FILE.read_text(encoding="utf-8"))
PROVEN = pytest.mark.parametrize("vector", VECTORS["proven"], ids=lambda vector: vector["name"])
VALID = pytest.mark.parametrize("vector", VECTORS["valid"], ids=lambda vector: vector["name"])


def is_named(vector: dict[str, Any]) -> bool:
    """Whether the vector's receipt names its network."""
    return bool(json.loads(vector["document"])["version"] == "aitbc/receipt/v3")


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@VALID
def test_hashes_are_those_of_the_text(vector: dict[str, Any]) -> None:
    assert vector["prompt_hash"] == sha256(vector["request"])
    assert vector["result_hash"] == sha256(vector["result"])
    for name in ("request", "result_statement", "signed"):
        if vector[name] is not None:
            assert rfc8785.dumps(json.loads(vector[name])).decode() == vector[name]


@VALID
def test_signatures_are_those_of_the_seeds(vector: dict[str, Any]) -> None:
    coordinator = bytes.fromhex(VECTORS["coordinator_seed"])
    sig = base64.b64decode(vector["sig"])
    assert sig == ed25519.sign(coordinator, vector["signed"].encode())
    assert ed25519.verify(ed25519.public_key(coordinator), vector["signed"].encode(), sig)
    public = base64.b64decode(VECTORS["keys"]["keys"][0]["public_key"])
    assert public == ed25519.public_key(coordinator)
    assert VECTORS["keys"]["keys"][0]["key_id"] == hashlib.sha256(public).hexdigest()[:16]
    if vector["miner_sig"] is not None:
        miner = bytes.fromhex(VECTORS["miner_seed"])
        expected = ed25519.sign(miner, vector["result_statement"].encode())
        assert base64.b64decode(vector["miner_sig"]) == expected


@VALID
def test_signed_texts_follow_from_the_documents(vector: dict[str, Any]) -> None:
    for name in ("document", "document_with_result"):
        document = json.loads(vector[name], parse_float=Decimal)
        assert document.pop("id") == document["receipt_id"]
        assert document.pop("proof") is None
        assert document.pop("signature")["sig"] == vector["sig"]
        result = document.pop("result", None)
        assert (result is not None) == (name == "document_with_result")
        for field in ("unit_price", "price", "fee"):
            units = document.pop(field) * 100_000_000
            assert units == int(units)
            document[f"{field}_units"] = str(int(units))
        assert rfc8785.dumps(document).decode() == vector["signed"]
        claimed, miner = document["claimed_tokens"], document["miner_signature"]
        assert (claimed is None) == (miner is None) == (vector["result_statement"] is None)
        if claimed is not None:
            names: tuple[str, ...] = ("chain_id", "job_id", "miner_id", "prompt_hash", "result_hash")
            assert is_named(vector) == ("network_id" in document)
            names += ("network_id",) if is_named(vector) else ()
            statement = {field: document[field] for field in names} | {
                "version": "aitbc/result/v2" if is_named(vector) else "aitbc/result/v1",
                "prompt_tokens": claimed[0],
                "completion_tokens": claimed[1],
            }
            assert rfc8785.dumps(statement).decode() == vector["result_statement"]
        if result is not None:
            hashed = result.get("text")
            if hashed is None:
                floats = json.loads(vector["document_with_result"])["result"]["embeddings"]
                hashed = rfc8785.dumps(floats).decode()
            assert hashed == vector["result"]


@PROVEN
def test_leaves_follow_from_the_documents(vector: dict[str, Any]) -> None:
    document = json.loads(vector["document"])
    valid = next(valid for valid in VECTORS["valid"] if valid["name"] == vector["name"])
    assert valid["document_with_result"] == json.dumps(
        {**document, "proof": None}, separators=(",", ":"), ensure_ascii=False
    )
    leaf = {
        "type": "aitbc/receipt-leaf/v1",
        "body": json.loads(valid["signed"]),
        "signature": document["signature"],
    }
    assert rfc8785.dumps(leaf).decode() == vector["leaf"]


@PROVEN
def test_proofs_lead_from_the_leaf_to_a_signed_and_cosigned_root(vector: dict[str, Any]) -> None:
    proof = log.read_proof(json.loads(vector["document"])["proof"])
    assert (proof.index, proof.size) == (vector["index"], vector["tree_size"])
    leaf_hash = hashlib.sha256(b"\x00" + vector["leaf"].encode()).digest()
    assert log.root_from_path(leaf_hash, proof.index, proof.size, proof.hashes) == proof.root
    assert proof.origin == "aitbc/ait-devnet"
    public = ed25519.public_key(bytes.fromhex(VECTORS["coordinator_seed"]))
    witnesses = [ed25519.public_key(bytes.fromhex(seed)) for seed in VECTORS["witness_seeds"]]
    signed, first, third = proof.note.lines
    assert log.is_signed(proof.note, signed, "aitbc/ait-devnet", public)
    for line, number in ((first, 1), (third, 3)):
        name = f"witness.example/w{number}"
        assert log.cosigned_at(proof.note, line, name, witnesses[number - 1]) is not None


def test_the_policy_and_the_keys_are_those_of_the_seeds() -> None:
    public = ed25519.public_key(bytes.fromhex(VECTORS["coordinator_seed"]))
    encoded, key_id = base64.b64encode(public).decode(), hashlib.sha256(public).hexdigest()[:16]
    witnesses = [ed25519.public_key(bytes.fromhex(seed)) for seed in VECTORS["witness_seeds"]]
    assert VECTORS["policy"] == {
        "version": "aitbc/policy/v1",
        "chain_id": "ait-devnet",
        "log": [log.vkey("aitbc/ait-devnet", 1, public)],
        "witnesses": [log.vkey(f"witness.example/w{n}", 4, key) for n, key in enumerate(witnesses, 1)],
        "quorum": 2,
        "require_proof": True,
        "receipt_keys": [{"key_id": key_id, "public_key": encoded}],
    }
    receipts, of_log = VECTORS["keys"]["keys"]
    typed = b"\xffaitbc/receipt" + public  # receipts are no notes: a type of their own
    named = hashlib.sha256(b"ait-devnet\n" + typed).hexdigest()[:8]
    assert receipts["use"] == "receipts"
    assert receipts["vkey"] == f"ait-devnet+{named}+{base64.b64encode(typed).decode()}"
    assert (of_log["use"], of_log["vkey"]) == ("log", log.vkey("aitbc/ait-devnet", 1, public))
    assert receipts["public_key"] == of_log["public_key"] == encoded


def test_our_code_makes_the_same_vectors() -> None:
    assert build() == VECTORS


@VALID
def test_valid_documents_verify(vector: dict[str, Any]) -> None:
    keys = KeySet.from_json(VECTORS["keys"])
    for name in ("document", "document_with_result"):
        verification = verify_bytes(vector[name].encode(), keys)
        assert verification.ok, verification.failures
        unchecked = {
            "proof": True,
            "result": name == "document",
            "network": not is_named(vector),
            "miner_signature": vector["miner_sig"] is None,
        }
        assert {check.name for check in verification.unchecked} == {
            n for n, is_so in unchecked.items() if is_so
        }


@pytest.mark.parametrize("vector", VECTORS["invalid"], ids=lambda vector: vector["why"])
def test_invalid_documents_fail(vector: dict[str, str]) -> None:
    verification = verify_bytes(vector["document"].encode(), KeySet.from_json(VECTORS["keys"]))
    assert not verification.ok
    assert len(verification.failures) == 1, verification.failures
    assert vector["document"] not in {valid["document_with_result"] for valid in VECTORS["valid"]}


@PROVEN
def test_proven_documents_verify(vector: dict[str, Any]) -> None:
    data = vector["document"].encode()
    verification = verify_bytes(data, policy=Policy.from_json(VECTORS["policy"]))
    assert verification.ok, verification.failures
    assert {check.name for check in verification.unchecked} <= {"miner_signature", "network"}
    pinned = verify_bytes(data, policy=Policy.from_json(VECTORS["policy_of_network"]))
    assert pinned.ok and ("network" in {check.name for check in pinned.unchecked}) == (not is_named(vector))
    assert verify_bytes(data, KeySet.from_json(VECTORS["keys"])).ok


@pytest.mark.parametrize("vector", VECTORS["unproven"], ids=lambda vector: vector["why"])
def test_unproven_documents_fail_in_one_check(vector: dict[str, str]) -> None:
    verification = verify_bytes(vector["document"].encode(), policy=Policy.from_json(VECTORS["policy"]))
    assert [check.name for check in verification.failures] == [vector["check"]]
