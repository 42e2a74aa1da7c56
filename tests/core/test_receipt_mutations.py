"""A receipt's file with its proof: no damage passes, nothing raises, and it is quick."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.core.log.checkpoint import Checkpoint, cosign
from aitbc.core.log.merkle import leaf_hash, node_hash
from aitbc.core.log.note import Note, sign_note
from aitbc.core.log.tlog_proof import format_proof
from aitbc.core.receipt import check_leaf, verify_bytes
from tests.core.proofs import (
    CHAIN_ID,
    COORDINATOR,
    COSIGNED_AT_S,
    ORIGIN,
    POLICY,
    WITNESS_KEYS,
    WITNESSES,
    proven,
)
from tests.core.receipt_vectors import KEYS, LOG_KEYS, document_of
from tests.core.test_receipt_proof import FIELDS, GOOD, LEAF, PROOF, held, outcome, with_proof


def mutate(pick: random.Random, data: bytes) -> bytes:
    """One of the ways in which a file is damaged or doctored."""
    at = pick.randrange(len(data))
    way = pick.randrange(8)
    if way <= 2:
        return data[:at] + bytes([pick.randrange(256)]) + data[at + 1 :]
    if way == 3:
        return data[:at] + bytes([data[at] ^ (1 << pick.randrange(8))]) + data[at + 1 :]
    if way == 4:
        return data[:at] + data[at + pick.randint(1, 60) :]
    if way == 5:
        return (
            data[:at]
            + bytes(pick.choices(b'0123456789abcdefABCXYZ+/= \\n",:', k=pick.randint(1, 3)))
            + data[at:]
        )
    other = pick.randrange(len(data))
    if way == 6:  # a stretch of the file in another place
        return data[:at] + data[other : other + pick.randint(1, 50)] + data[at + pick.randint(0, 50) :]
    low, high = sorted((at, other))  # two bytes change places
    return data[:low] + data[high : high + 1] + data[low + 1 : high] + data[low : low + 1] + data[high + 1 :]


def test_none_of_ten_thousand_mutations_of_a_receipt_file_is_accepted() -> None:
    data = orjson.dumps(GOOD)
    assert verify_bytes(data, policy=POLICY).ok
    pick = random.Random(20260102)
    seen = 0
    while seen < 10_000:
        changed = mutate(pick, data)
        # The one change allowed is the line feed that editors and shells put at the end.
        if changed in (data, data + b"\n"):
            continue
        seen += 1
        assert not verify_bytes(changed, policy=POLICY).ok, changed


def test_none_of_two_thousand_mutations_of_a_proof_is_accepted() -> None:
    """In the proof's own text, where no JSON layout stands in the way."""
    pick = random.Random(20260103)
    data = PROOF.encode()
    for _ in range(2000):
        changed = mutate(pick, data)
        if changed != data:
            text = changed.decode("utf-8", "surrogateescape")
            checks = check_leaf(LEAF, text, CHAIN_ID, policy=POLICY)
            assert any(check.ok is False for check in checks), text


def test_without_witnesses_the_published_keys_cover_every_byte_too() -> None:
    data = orjson.dumps(proven(FIELDS, witnesses=()))
    assert verify_bytes(data, LOG_KEYS).ok
    pick = random.Random(20260104)
    for _ in range(1000):
        changed = mutate(pick, data)
        if changed not in (data, data + b"\n"):
            assert not verify_bytes(changed, LOG_KEYS).ok, changed


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=50), st.sampled_from(PROOF.split("\n"))), st.integers(0, len(PROOF)))
def test_checking_a_proof_never_raises(text: str, at: int) -> None:
    for proof in (text, PROOF[:at] + text, PROOF[:at] + text + PROOF[at:]):
        for trust in ({"policy": POLICY}, {"keys": LOG_KEYS}, {}):
            checks = check_leaf(LEAF, proof, CHAIN_ID, **trust)
            assert checks[0].name == "proof"


def best_of(verification: Callable[[], object], rounds: int = 40) -> float:
    best = 1.0
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(5):
            verification()
        best = min(best, (time.perf_counter() - started) / 5)
    return best


def test_a_proof_of_twenty_hashes_takes_well_under_a_millisecond() -> None:
    # On a quiet machine 0.3 and 0.7 ms; the best of many rounds, and twice that, keeps a busy one from failing.
    siblings = [bytes([number]) * 32 for number in range(20)]
    root = leaf_hash(LEAF)
    for sibling in siblings:
        root = node_hash(root, sibling)
    text = Checkpoint(ORIGIN, 2**20, root).to_text()
    lines = (
        sign_note(text, ORIGIN, COORDINATOR),
        cosign(text, WITNESSES[0].name, WITNESS_KEYS[0], COSIGNED_AT_S),
    )
    document = with_proof(format_proof(0, siblings, str(Note(text, lines))))
    policy = dataclasses.replace(POLICY, quorum=1)
    assert outcome(document, policy=policy) == held()
    data = orjson.dumps(document)
    proven_s = best_of(lambda: verify_bytes(data, policy=policy))
    bare = orjson.dumps(document_of(FIELDS))
    bare_s = best_of(lambda: verify_bytes(bare, KEYS))
    assert (proven_s < 0.0014, bare_s < 0.0006) == (True, True), (proven_s, bare_s)
