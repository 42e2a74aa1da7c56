from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.core import money, receipt, signing
from aitbc.core.canonical import encode, loads_strict
from aitbc.core.jobspec import result_text
from aitbc.core.receipt import KeySet, PublishedKey, ReceiptInvalid, parse, verify, verify_bytes
from tests.core.receipt_vectors import (
    CHAIN_ID,
    COORDINATOR,
    JOBS,
    KEYS,
    MINER,
    NETWORK_ID,
    NETWORK_KEYS,
    NETWORK_POLICY,
    OTHER_NETWORK_ID,
    auto_job,
    chat_job,
    document_of,
    embedding_job,
    manual_job,
    named_job,
    prompt_job,
)

Document = dict[str, Any]
FIELDS, RESULT, _ = manual_job()
GOOD = document_of(FIELDS, RESULT)


def failed(document: object, keys: KeySet | None = KEYS) -> dict[str, str]:
    return {check.name: check.detail for check in verify(document, keys).failures}


def signed_with(**changes: Any) -> Document:
    """A document whose fields are changed before the coordinator signs it."""
    return document_of(FIELDS._replace(**changes), RESULT)


@pytest.mark.parametrize("name", JOBS)
def test_a_document_reads_back_to_its_fields(name: str) -> None:
    fields, result, _ = JOBS[name]()
    signature = receipt.sign(fields, COORDINATOR)
    document = receipt.to_json(fields, signature, result)
    assert parse(document) == (fields, signature)
    assert document["id"] == fields.receipt_id
    stored = receipt.signed_bytes(fields)
    for body in (stored, stored.decode()):
        again = receipt.to_json_of_signed(body, signature, result)
        assert again == document
        assert verify_bytes(orjson.dumps(again), KEYS).ok
    for decimals in (False, True):
        assert parse(loads_strict(json.dumps(document).encode(), decimals=decimals)) == (fields, signature)


TRICKY = st.sampled_from(
    ['"fee_units":"5"', '\\","price_units":"7","x":"', '"receipt_id":"z"', "plain", '\\\\"']
)


@given(
    price=st.integers(0, money.EXACT_NUMBER_UNITS - 1),
    fee=st.integers(0, 10_000),
    model=TRICKY | st.text('abc"\\é:,', min_size=1, max_size=20),
    client=TRICKY,
    proof=st.none() | st.text(max_size=20),
    given_result=st.booleans(),
)
def test_the_text_of_a_stored_receipt_is_its_document(
    price: int, fee: int, model: str, client: str, proof: str | None, given_result: bool
) -> None:
    """Whatever stands in its strings."""
    for make in JOBS.values():
        fields, result, _ = make()
        fields = fields._replace(price_units=price, fee_units=fee, model=model, client=client)
        made = receipt.sign(fields, COORDINATOR)
        shown = result if given_result else None
        text = receipt.document_text(
            fields.receipt_id,
            receipt.signed_bytes(fields).decode(),
            (made.key_id, signing.encode_b64(made.sig)),
            None if shown is None else encode(shown).decode(),
            proof,
        )
        assert orjson.loads(text) == receipt.to_json(fields, made, shown, proof)
        assert f'"fee":{money.format_ait(fee)},'.encode() in text


def test_what_is_no_receipt_has_no_text() -> None:
    with pytest.raises(ValueError, match="not the signed bytes"):
        receipt.document_text("r", "{}", ("k", "s"))


def test_the_result_may_be_given_as_stored_text() -> None:
    for fields, result, _ in (manual_job(), embedding_job()):
        signature = receipt.sign(fields, COORDINATOR)
        text = result_text(fields.job_type, result)
        assert receipt.to_json(fields, signature, text) == receipt.to_json(fields, signature, result)


def test_says_what_it_checked_and_what_it_could_not() -> None:
    verification = verify(GOOD, KEYS)
    assert verification.ok
    assert [(check.name, check.ok) for check in verification.checks] == [
        ("document", True),
        ("price", True),
        ("result", True),
        ("network", None),
        ("miner_signature", True),
        ("signature", True),
        ("proof", None),
    ]
    assert verification.fields == FIELDS


def test_without_keys_the_issuer_is_unknown() -> None:
    verification = verify(GOOD)
    assert not verification.ok
    assert verification.acceptable()
    assert {check.name for check in verification.unchecked} == {"network", "signature", "proof"}
    other = {**GOOD, "result": {"text": "Another answer."}}
    assert not verify(other).acceptable()


def mutations(data: bytes, values: Callable[[int], set[int]]) -> list[bytes]:
    return [
        data[:position] + bytes([value]) + data[position + 1 :]
        for position, byte in enumerate(data)
        for value in sorted(values(byte) - {byte})
    ]


def near(byte: int) -> set[int]:
    return {byte ^ 1, byte ^ 0x20, ord("0"), ord(" "), ord('"'), ord("\\"), 0xFF}


def few(byte: int) -> set[int]:
    return {byte ^ 0x20} if chr(byte).isalpha() else {ord(" "), ord("\t"), byte ^ 1}


def test_every_changed_byte_fails() -> None:
    data = orjson.dumps(GOOD)
    assert verify_bytes(data, KEYS).ok
    for changed in mutations(data, near):
        assert not verify_bytes(changed, KEYS).ok, changed


@pytest.mark.parametrize(
    "write",
    [
        lambda document: json.dumps(document).encode(),
        lambda document: json.dumps(document, indent=2).encode() + b"\n",
        lambda document: json.dumps(document, separators=(",", ":")).encode() + b"\n",
    ],
    ids=["spaced", "indented", "compact escaped"],
)
def test_every_changed_byte_fails_in_other_layouts(write: Callable[[Document], bytes]) -> None:
    data = write(GOOD)
    assert verify_bytes(data, KEYS).ok
    for changed in mutations(data, few):
        assert not verify_bytes(changed, KEYS).ok, changed


@pytest.mark.parametrize("job", [chat_job, embedding_job])
@pytest.mark.parametrize(
    "write", [orjson.dumps, lambda document: json.dumps(document, separators=(",", ":")).encode()]
)
def test_every_changed_byte_of_a_number_fails(job: Any, write: Callable[[Document], bytes]) -> None:
    fields, result, _ = job()
    data = write(document_of(fields, result))
    assert verify_bytes(data, KEYS).ok
    # Every byte value, wherever a number stands outside a string.
    inside, numbers = False, set()
    for position, byte in enumerate(data):
        if byte == ord('"') and data[position - 1] != ord("\\"):
            inside = not inside
        if not inside and chr(byte) in "0123456789.e-+":
            numbers.add(position)
    assert len(numbers) > 40
    for position in numbers:
        for value in b'0123456789.eE+- \t\n,:"[]{}\x00':
            if value != data[position]:
                changed = data[:position] + bytes([value]) + data[position + 1 :]
                assert not verify_bytes(changed, KEYS).ok, changed


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_removal_insertion_or_swap_passes(data: st.DataObject) -> None:
    text = orjson.dumps(GOOD)
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start, min(len(text), start + 5)))
    changed = text[:start] + data.draw(st.binary(max_size=4)) + text[end:]
    # The one addition allowed is the line feed that editors and shells put at the end.
    assert verify_bytes(changed, KEYS).ok == (changed in (text, text + b"\n"))


@pytest.mark.parametrize("name", sorted(set(GOOD) - {"result"}))
def test_every_field_is_needed(name: str) -> None:
    document = {key: value for key, value in GOOD.items() if key != name}
    assert failed(document) == {"document": f"missing field {name}"}


@pytest.mark.parametrize("name", sorted(GOOD))
def test_any_other_value_of_a_field_fails(name: str) -> None:
    others = [None, True, 0, -1, 1.5, "x", "", [], {}, [1], {"a": 1}, "\ud800", float("nan"), 10**400]
    for value in others:
        if (name, value) != ("proof", None):
            assert not verify({**GOOD, name: value}, KEYS).ok, value


@pytest.mark.parametrize("document", [None, [], "x", 1, {}, {1: 2}, [GOOD]])
def test_other_documents_are_no_receipts(document: object) -> None:
    assert list(failed(document)) == ["document"]


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"price_units": FIELDS.price_units + 1}, "price"),
        ({"price_units": FIELDS.price_units - 1}, "price"),
        ({"unit_price_units": FIELDS.unit_price_units + 100}, "price"),
        ({"fee_units": FIELDS.price_units + 1}, "price"),
        ({"units": FIELDS.units + 1}, "price"),
        ({"chain_id": "ait-othernet"}, "signature"),
        ({"result_hash": "0" * 64}, "result"),
        ({"miner_id": "mallory-1"}, "miner_signature"),
        ({"job_id": "019b7c1e-5a46-7000-8000-0000000000ff"}, "miner_signature"),
        ({"job_id": "x"}, "document"),
        ({"job_id": "019B7C1E-5A46-7000-8000-000000000001"}, "document"),
        ({"job_id": "019b7c1e-5a46-4000-8000-000000000001"}, "document"),
        ({"receipt_id": "019b7c1e5d2e70008000000000000001"}, "document"),
        ({"claimed_tokens": (9, 13)}, "miner_signature"),
        ({"claimed_tokens": (8, 12)}, "miner_signature"),
        ({"claimed_tokens": None}, "document"),
        ({"miner_signature": None}, "document"),
        ({"metering": "guess"}, "document"),
        ({"unit_type": "seconds"}, "document"),
        ({"client": ""}, "document"),
        ({"client": "a\nb"}, "document"),
        ({"client": "x" * 257}, "document"),
        ({"started_at": -1}, "document"),
        ({"prompt_hash": "A" * 64}, "document"),
    ],
)
def test_a_coordinator_that_signs_nonsense_is_caught(changes: Document, check: str) -> None:
    assert check in failed(signed_with(**changes))


def test_the_miners_signature_must_be_the_miners() -> None:
    assert FIELDS.miner_signature is not None
    other = signing.PrivateKey.from_seed(bytes(32))
    swapped = receipt.MinerSignature(other.public_bytes, FIELDS.miner_signature.sig)
    assert list(failed(signed_with(miner_signature=swapped))) == ["miner_signature"]
    document = json.loads(json.dumps(GOOD))
    document["miner_signature"]["key_id"] = other.key_id
    assert "key_id" in failed(document)["document"]


def test_a_result_in_the_document_must_be_the_one_hashed() -> None:
    for result in (
        {"text": "x"},
        {},
        {"text": RESULT["text"], "finish_reason": "stop"},
        {"embeddings": [[1]]},
        "x",
    ):
        assert list(failed({**GOOD, "result": result})) == ["result"]


def test_a_result_of_an_unknown_type_cannot_be_held_to_its_hash() -> None:
    """Nor is it a receipt: docs/formats/receipt.md names the types that there are."""
    fields = FIELDS._replace(job_type="unheard-of")
    assert failed(document_of(fields)) == {"document": "job_type is none of llm_inference, embedding"}
    assert list(failed({**document_of(fields), "result": {"text": "x"}})) == ["document"]


@pytest.mark.parametrize(
    "units", [1, 9_999, 123_456_789, money.EXACT_NUMBER_UNITS - 1, money.EXACT_NUMBER_UNITS]
)
def test_amounts_up_to_the_cap_verify_in_both_spellings(units: int) -> None:
    """Up to what is issued (`flows.escrow.check_exact`, unit prices in `api`), each amount has a number of its own."""
    fields = FIELDS._replace(
        prompt_tokens=500, completion_tokens=500, claimed_tokens=None, miner_signature=None, units=1000,
        unit_price_units=units, price_units=units, fee_units=units - 1,
    )  # fmt: skip
    signature = receipt.sign(fields, COORDINATOR)
    text = orjson.dumps(receipt.to_json(fields, signature))
    plain = receipt.document_text(
        fields.receipt_id,
        receipt.signed_bytes(fields).decode(),
        (signature.key_id, signing.encode_b64(signature.sig)),
    )
    for data in (text, plain):
        verification = verify_bytes(data, KEYS)
        assert verification.ok, verification.failures
        assert verification.fields == fields


def test_what_is_no_proof_fails() -> None:
    for proof in ("", "c2sp.org/tlog-proof@v1\n", {}, 0, False):
        assert list(failed({**GOOD, "proof": proof})) == ["proof"]


def test_only_published_keys_of_this_chain_count() -> None:
    assert "not among the keys" in failed(GOOD, KeySet("ait-devnet", []))["signature"]
    assert (
        "not among the keys"
        in failed(GOOD, KeySet("ait-devnet", [PublishedKey(MINER.public_bytes)]))["signature"]
    )
    assert (
        "of chain other"
        in failed(GOOD, KeySet("other", [PublishedKey(COORDINATOR.public_bytes)]))["signature"]
    )
    other_use = PublishedKey(COORDINATOR.public_bytes, use="checkpoints")
    assert "not among the keys" in failed(GOOD, KeySet("ait-devnet", [other_use]))["signature"]
    forged = receipt.to_json(FIELDS, receipt.Signature(COORDINATOR.key_id, bytes(64)), RESULT)
    assert "does not fit" in failed(forged)["signature"]


def test_a_keys_validity_is_held_to_within_a_day() -> None:
    completed_ms = FIELDS.completed_at * 1000
    day_ms = 86_400_000

    def ok(valid_from_ms: int | None, valid_to_ms: int | None) -> bool:
        key = PublishedKey(COORDINATOR.public_bytes, valid_from_ms, valid_to_ms)
        return verify(GOOD, KeySet("ait-devnet", [key])).ok

    assert ok(None, None)
    assert ok(completed_ms + day_ms, completed_ms + day_ms)
    assert not ok(completed_ms + day_ms + 1, None)
    assert ok(None, completed_ms - day_ms + 1)
    assert not ok(None, completed_ms - day_ms)


def test_money_in_a_parsed_document_may_be_a_decimal_but_no_text() -> None:
    assert verify({**GOOD, "price": Decimal("0.00021")}, KEYS).ok
    assert failed({**GOOD, "price": "0.00021"}) == {"document": "price is not a number"}
    assert "8 decimals" in failed({**GOOD, "price": 0.000210001})["document"]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**40),
    st.integers(0, 2**40),
    st.integers(0, 10**9),
    st.integers(0, 10_000),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20),
)
def test_any_honest_receipt_verifies(
    prompt: int, completion: int, unit_price: int, bps: int, name: str
) -> None:
    price = money.price_units(prompt + completion, unit_price)
    if price >= money.EXACT_NUMBER_UNITS:
        return
    fields = FIELDS._replace(
        client=name,
        prompt_tokens=prompt,
        completion_tokens=completion,
        units=prompt + completion,
        unit_price_units=unit_price,
        price_units=price,
        fee_units=money.fee_units(price, bps),
        miner_signature=None,
        claimed_tokens=None,
    )
    data = orjson.dumps(document_of(fields))
    verification = verify_bytes(data, KEYS)
    assert verification.ok, verification.failures
    assert verification.fields == fields


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60), st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
    )
)
def test_verification_never_raises(data: bytes) -> None:
    assert not verify_bytes(data, KEYS).ok
    assert not verify_bytes(data).acceptable()


def test_reading_refuses_with_one_error() -> None:
    with pytest.raises(ReceiptInvalid, match="unknown field 'note'"):
        parse({**GOOD, "note": 1})
    assert issubclass(ReceiptInvalid, ValueError)


def test_a_verification_takes_well_under_a_millisecond() -> None:
    # The benchmark has the figure; this bound only catches a lapse, on a busy machine too.
    data = orjson.dumps(GOOD)
    started = time.process_time()
    for _ in range(200):
        verify_bytes(data, KEYS)
    assert (time.process_time() - started) / 200 < 0.001


def network_check(keys: Any = None, policy: Any = None, job: Any = named_job) -> bool | None:
    """What is found out about the network of a receipt; everything else about it is right."""
    fields, result, _ = job()
    found = verify(document_of(fields, result), keys, policy)
    assert [check.name for check in found.failures] in ([], ["network"])
    return next(check.ok for check in found.checks if check.name == "network")


def test_a_receipt_is_held_to_the_network_that_is_trusted() -> None:
    other_keys = receipt.KeySet(CHAIN_ID, KEYS, network_id=OTHER_NETWORK_ID)
    other_policy = dataclasses.replace(NETWORK_POLICY, network_id=OTHER_NETWORK_ID, require_proof=False)
    policy = dataclasses.replace(NETWORK_POLICY, require_proof=False)
    unnamed = dataclasses.replace(policy, network_id="")
    assert (
        network_check(NETWORK_KEYS) and network_check(policy=policy) and network_check(NETWORK_KEYS, unnamed)
    )
    assert network_check(other_keys) is network_check(policy=other_policy) is False
    assert network_check(other_keys, policy) is True, "what a policy pins comes first"
    assert network_check(NETWORK_KEYS, other_policy) is False
    assert network_check(KEYS) is network_check() is network_check(policy=unnamed) is None
    for job in (auto_job, prompt_job):  # of versions 1 and 2, which cannot say it
        assert network_check(NETWORK_KEYS, job=job) is network_check(policy=policy, job=job) is None


def test_a_policy_names_a_network_or_none() -> None:
    document = NETWORK_POLICY.to_json()
    assert receipt.Policy.from_json(document) == NETWORK_POLICY
    for wrong in ("", "ab", NETWORK_ID.upper(), None, 5):
        with pytest.raises(receipt.PolicyInvalid, match="network_id"):
            receipt.Policy.from_json({**document, "network_id": wrong})
