"""A receipt's proof: every check can hold, fail on its own, and say that it could not be made."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import orjson
import pytest

from aitbc.core import receipt
from aitbc.core.log.checkpoint import cosign
from aitbc.core.log.keyset import USE_LOG, KeySet, PublishedKey
from aitbc.core.log.leaf import transfer_leaf
from aitbc.core.log.note import NoteSignature, Verifier, sign_note
from aitbc.core.log.tlog_proof import format_proof
from aitbc.core.receipt import check_leaf, verify, verify_bytes
from tests.core.proofs import (
    COSIGNED_AT_S,
    LOG,
    ORIGIN,
    POLICY,
    WITNESS_KEYS,
    WITNESSES,
    checkpoint_of,
    leaf_of,
    prove,
    proven,
    tree_with,
)
from tests.core.receipt_vectors import (
    CHAIN_ID,
    COORDINATOR,
    JOBS,
    KEYS,
    LOG_KEYS,
    MINER,
    document_of,
    manual_job,
)

INDEX, SIZE = 21, 29
FIELDS, RESULT, _ = manual_job()
SIGNATURE = receipt.sign(FIELDS, COORDINATOR)
LEAF = leaf_of(FIELDS, SIGNATURE)
TREE = tree_with(LEAF, INDEX, SIZE)
GOOD = proven(FIELDS, RESULT)
PROOF: str = GOOD["proof"]
COMPLETED_MS = FIELDS.completed_at * 1000


def with_proof(proof: object) -> dict[str, Any]:
    return {**GOOD, "proof": proof}


def outcome(document: object, **trust: Any) -> dict[str, bool | None]:
    """What each check of the proof says; none of the others may fail."""
    verification = verify(document, **trust)
    return {
        check.name: check.ok
        for check in verification.checks
        if check.name in ("proof", "inclusion", "checkpoint", "witnesses") or check.ok is False
    }


def failed(document: object, **trust: Any) -> dict[str, str]:
    return {check.name: check.detail for check in verify(document, **trust).failures}


def held(**changes: bool | None) -> dict[str, bool | None]:
    return {"proof": True, "inclusion": True, "checkpoint": True, "witnesses": True, **changes}


def cosigned_by(*witnesses: int, more: tuple[NoteSignature, ...] = ()) -> dict[str, Any]:
    return with_proof(prove(TREE, INDEX, checkpoint_of(TREE, witnesses=witnesses, more=more)))


@pytest.mark.parametrize("name", JOBS)
def test_a_proven_receipt_verifies_from_one_file_and_a_policy(name: str) -> None:
    fields, result, _ = JOBS[name]()
    for document in (proven(fields), proven(fields, result)):
        verification = verify_bytes(orjson.dumps(document), policy=POLICY)
        assert verification.ok, verification.failures
        assert outcome(document, policy=POLICY) == held()
        indented = json.dumps(document, indent=2).encode()
        assert verify_bytes(indented, policy=POLICY).ok


@pytest.mark.parametrize(
    ("index", "size"), [(0, 1), (0, 2), (1, 2), (0, 300), (255, 256), (256, 257), (299, 300)]
)
def test_any_place_in_any_tree(index: int, size: int) -> None:
    document = proven(FIELDS, index=index, size=size)
    assert verify(document, policy=POLICY).ok
    assert f"leaf {index} " in verify(document, policy=POLICY).checks[-3].detail


def test_the_keys_published_with_the_receipts_serve_where_there_is_no_policy() -> None:
    verification = verify(GOOD, LOG_KEYS)
    assert verification.ok
    assert outcome(GOOD, keys=LOG_KEYS) == held(witnesses=None)
    assert {check.name for check in verification.unchecked} == {"network", "witnesses"}


def test_what_cannot_be_checked_is_said() -> None:
    assert outcome(GOOD, keys=KEYS) == held(checkpoint=None, witnesses=None)
    assert verify(GOOD, KEYS).ok, "the receipt itself is signed"
    assert outcome(GOOD) == held(checkpoint=None, witnesses=None)
    assert not verify(GOOD).ok
    assert verify(GOOD).acceptable()
    for check in verify(GOOD).unchecked:
        assert check.detail


def test_a_receipt_without_a_proof_is_not_enough_for_a_policy_that_requires_one() -> None:
    document = document_of(FIELDS, RESULT)
    assert outcome(document, policy=POLICY) == {"proof": False}
    assert not verify(document, policy=POLICY).ok
    lenient = dataclasses.replace(POLICY, require_proof=False)
    assert outcome(document, policy=lenient) == {"proof": None}
    assert verify(document, policy=lenient).ok
    # Lenient about its absence, not about what it says.
    assert not verify(with_proof(PROOF.replace("index 21", "index 20")), policy=lenient).ok


def test_receipt_keys_of_the_policy_take_the_place_of_the_key_set() -> None:
    strangers = KeySet(CHAIN_ID, [PublishedKey(MINER.public_bytes)])
    assert verify(GOOD, strangers, POLICY).ok
    unpinned = dataclasses.replace(POLICY, receipt_keys=())
    assert list(failed(GOOD, keys=strangers, policy=unpinned)) == ["signature"]
    assert verify(GOOD, KEYS, unpinned).ok
    assert not verify(GOOD, policy=unpinned).ok, "who signed the receipt is not known"
    others = dataclasses.replace(POLICY, receipt_keys=(MINER.public_bytes,))
    assert list(failed(GOOD, keys=KEYS, policy=others)) == ["signature"]


def without_line(text: str, number: int) -> str:
    lines = text.split("\n")
    return "\n".join(lines[:number] + lines[number + 1 :])


@pytest.mark.parametrize(
    "proof",
    [
        "",
        "c2sp.org/tlog-proof@v1\n",
        {},
        0,
        False,
        [PROOF],
        "x" + PROOF,
        PROOF[:-1],
        PROOF[:500],
        PROOF + "\n",
        PROOF.replace("index 21", "index 021"),
        PROOF.replace("index 21", "extra AAAA\nindex 21"),
        PROOF.replace("\n\n", "\n"),
        PROOF.replace("\n", "\r\n"),
        PROOF.replace("\n29\n", "\n029\n"),
        PROOF.replace("index 21", "\ud800"),
    ],
)
def test_what_is_no_proof(proof: object) -> None:
    assert outcome(with_proof(proof), policy=POLICY) == {"proof": False}


@pytest.mark.parametrize(
    "document",
    [
        with_proof(PROOF.replace("index 21", "index 20")),
        with_proof(PROOF.replace("index 21", "index 0")),
        with_proof(PROOF.replace("index 21", "index 29")),
        with_proof(PROOF.replace("index 21", f"index {2**63 - 1}")),
        *[with_proof(without_line(PROOF, number)) for number in range(2, 7)],
        with_proof(prove(TREE, INDEX - 1, checkpoint_of(TREE, witnesses=(0, 1)))),
        with_proof(format_proof(INDEX, [], str(checkpoint_of(TREE, witnesses=(0, 1))))),
    ],
)
def test_inclusion_fails_on_its_own(document: dict[str, Any]) -> None:
    """Another leaf's proof, a proof cut short, a leaf beyond the tree: all under a genuine checkpoint."""
    assert outcome(document, policy=POLICY) == held(inclusion=False)


def test_a_genuine_checkpoint_of_a_tree_without_the_leaf_proves_nothing() -> None:
    other = tree_with(b"another leaf", INDEX, SIZE)
    document = with_proof(
        format_proof(INDEX, TREE.path(INDEX, SIZE), str(checkpoint_of(other, witnesses=(0, 1))))
    )
    assert outcome(document, policy=POLICY) == held(inclusion=False)


def test_the_leaf_covers_the_coordinators_signature() -> None:
    """Two signatures of one receipt are two leaves: the log says which of them was given out."""
    bare = transfer_leaf("t", "pay", "a", "b", 1, None, "", 2)
    assert [check.ok for check in check_leaf(bare, PROOF, CHAIN_ID, policy=POLICY)] == [
        True,
        False,
        True,
        True,
    ]
    resigned = receipt.Signature(SIGNATURE.key_id, bytes(64))
    document = receipt.to_json(FIELDS, resigned, RESULT, PROOF)
    assert set(failed(document, policy=POLICY)) == {"signature", "inclusion"}


@pytest.mark.parametrize(
    ("checkpoint", "why"),
    [
        (checkpoint_of(TREE, witnesses=(0, 1), origin="aitbc/other"), "another log"),
        (checkpoint_of(TREE, witnesses=(0, 1), origin="example.com/log"), "another log"),
        (checkpoint_of(TREE, witnesses=(0, 1), key=MINER), "no known key"),
        (checkpoint_of(TREE, witnesses=(0, 1), key=None), "no known key"),
    ],
)
def test_the_checkpoint_fails_on_its_own(checkpoint: Any, why: str) -> None:
    document = with_proof(prove(TREE, INDEX, checkpoint))
    assert outcome(document, policy=POLICY) == held(checkpoint=False)
    assert why in failed(document, policy=POLICY)["checkpoint"]
    assert outcome(document, keys=LOG_KEYS) == held(checkpoint=False, witnesses=None)


def test_a_wrong_signature_of_the_log() -> None:
    note = checkpoint_of(TREE, witnesses=(0, 1), key=None)
    other = sign_note("another text\n", ORIGIN, COORDINATOR)
    genuine = sign_note(note.text, ORIGIN, COORDINATOR)
    for lines in ((other,), (genuine, other)):
        checkpoint = dataclasses.replace(note, signatures=(*lines, *note.signatures))
        document = with_proof(prove(TREE, INDEX, checkpoint))
        assert outcome(document, policy=POLICY) == held(checkpoint=False)


def test_a_key_under_another_name_is_not_the_logs() -> None:
    text = checkpoint_of(TREE).text
    signed_as = NoteSignature(
        ORIGIN, Verifier("other", LOG.public_bytes).key_id, COORDINATOR.sign(text.encode())
    )
    checkpoint = checkpoint_of(TREE, witnesses=(0, 1), key=None, more=(signed_as,))
    assert outcome(with_proof(prove(TREE, INDEX, checkpoint)), policy=POLICY) == held(checkpoint=False)


def test_any_of_several_log_keys_will_do() -> None:
    rotated = dataclasses.replace(POLICY, log=(Verifier(ORIGIN, MINER.public_bytes), LOG))
    assert outcome(GOOD, policy=rotated) == held()
    only_new = dataclasses.replace(POLICY, log=(Verifier(ORIGIN, MINER.public_bytes),))
    assert outcome(GOOD, policy=only_new) == held(checkpoint=False)


def test_a_log_key_that_had_expired_when_the_job_completed_signed_nothing_about_it() -> None:
    day_ms = 86_400_000

    def checkpoint_ok(valid_to_ms: int | None) -> bool | None:
        key = PublishedKey(COORDINATOR.public_bytes, None, valid_to_ms, USE_LOG)
        keys = KeySet(CHAIN_ID, [PublishedKey(COORDINATOR.public_bytes), key])
        return outcome(GOOD, keys=keys)["checkpoint"]

    assert checkpoint_ok(None)
    assert checkpoint_ok(COMPLETED_MS - day_ms + 1)
    assert checkpoint_ok(COMPLETED_MS - day_ms) is False


def test_a_policy_or_keys_of_another_chain() -> None:
    origin = "aitbc/other"
    policy = dataclasses.replace(POLICY, chain_id="other", log=(Verifier(origin, LOG.public_bytes),))
    assert outcome(GOOD, policy=policy) == held(checkpoint=False, signature=False)
    keys = KeySet("other", [PublishedKey(COORDINATOR.public_bytes, use=USE_LOG)])
    assert outcome(GOOD, keys=keys) == held(checkpoint=False, witnesses=None, signature=False)


def test_the_quorum_counts_distinct_configured_witnesses() -> None:
    assert outcome(cosigned_by(0, 1), policy=POLICY) == held()
    assert outcome(cosigned_by(0, 1, 2), policy=POLICY) == held()
    for few in ((), (1,), (1, 1, 1)):
        assert outcome(cosigned_by(*few), policy=POLICY) == held(witnesses=False)
    strict = dataclasses.replace(POLICY, quorum=3)
    assert outcome(cosigned_by(0, 2), policy=strict) == held(witnesses=False)
    for quorum in (0, 1):
        assert outcome(cosigned_by(2), policy=dataclasses.replace(POLICY, quorum=quorum)) == held()
    none = dataclasses.replace(POLICY, quorum=0, witnesses=())
    assert outcome(cosigned_by(), policy=none) == held()
    assert "no witnesses" in verify(cosigned_by(), policy=none).checks[-1].detail


def test_unknown_witnesses_are_passed_over() -> None:
    text = checkpoint_of(TREE).text
    unknown = cosign(text, "unknown.example", MINER, COSIGNED_AT_S)
    broken = NoteSignature("broken.example", b"abcd", b"no signature at all")
    assert outcome(cosigned_by(0, 1, more=(unknown, broken)), policy=POLICY) == held()
    assert outcome(cosigned_by(0, more=(unknown,)), policy=POLICY) == held(witnesses=False)
    # A known name with an unknown key, and a known key under an unknown name, are both unknown.
    impostor = cosign(text, WITNESSES[1].name, MINER, COSIGNED_AT_S)
    renamed = cosign(text, "renamed.example", WITNESS_KEYS[1], COSIGNED_AT_S)
    assert outcome(cosigned_by(0, more=(impostor, renamed)), policy=POLICY) == held(witnesses=False)


def test_a_known_witness_whose_cosignature_is_wrong_spoils_the_proof() -> None:
    good = cosign(checkpoint_of(TREE).text, WITNESSES[2].name, WITNESS_KEYS[2], COSIGNED_AT_S)
    for signature in (good.signature[:-1] + b"\x00", bytes(8) + good.signature[8:], good.signature[:8], b"x"):
        wrong = dataclasses.replace(good, signature=signature)
        document = cosigned_by(0, 1, more=(wrong,))
        assert outcome(document, policy=POLICY) == held(witnesses=False)
        assert WITNESSES[2].name in failed(document, policy=POLICY)["witnesses"]


def test_cosignatures_of_an_older_checkpoint_do_not_count() -> None:
    older = tree_with(LEAF, INDEX, SIZE - 1)
    stale = checkpoint_of(older, witnesses=(0, 1)).signatures[1:]
    assert outcome(cosigned_by(more=stale), policy=POLICY) == held(witnesses=False)
    assert outcome(cosigned_by(0, 1, 2, more=stale), policy=POLICY) == held(witnesses=False)


def test_a_plain_signature_of_a_witness_is_no_cosignature() -> None:
    text = checkpoint_of(TREE).text
    plain = tuple(
        sign_note(text, witness.name, key) for witness, key in zip(WITNESSES, WITNESS_KEYS, strict=True)
    )
    assert outcome(cosigned_by(more=plain), policy=POLICY) == held(witnesses=False)


def test_a_fork_is_two_checkpoints_and_witnesses_sign_one() -> None:
    """The log signs both; only the history that the witnesses saw satisfies the policy."""
    fields = FIELDS._replace(client="mallory", miner_signature=None, claimed_tokens=None)
    forged = proven(fields, RESULT, witnesses=())
    assert outcome(forged, policy=POLICY) == held(witnesses=False)
    assert outcome(forged, keys=LOG_KEYS) == held(witnesses=None)
