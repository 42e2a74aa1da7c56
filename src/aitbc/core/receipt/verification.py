"""Offline verification of a receipt: what was checked, what could not be, and what is wrong.

Import these names from `aitbc.core.receipt`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aitbc.core import canonical, jobspec, money, signing
from aitbc.core.exactjson import loads_exact
from aitbc.core.log.keyset import USE_RECEIPTS, KeySet
from aitbc.core.log.leaf import receipt_leaf
from aitbc.core.log.policy import Policy
from aitbc.core.receipt.document import (
    ReceiptFields,
    ReceiptInvalid,
    Signature,
    signed_bytes,
    statement_of,
)
from aitbc.core.receipt.proof import VALIDITY_TOLERANCE_MS, Check, check_leaf
from aitbc.core.receipt.reading import parse

SIGNATURE = "signature"
NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Verification:
    """The checks made, in order. `fields` is None where the document could not be read as a receipt."""

    checks: tuple[Check, ...]
    fields: ReceiptFields | None = None

    @property
    def ok(self) -> bool:
        """Nothing is wrong, and the coordinator's signature was checked against a known key.

        With a policy that requires a proof: its keys signed the checkpoint, and its witnesses cosigned.
        """
        return self.acceptable() and any(check.name == SIGNATURE and check.ok for check in self.checks)

    def acceptable(self) -> bool:
        """Nothing that could be checked is wrong. Without keys this does not say who issued the receipt."""
        return all(check.ok is not False for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that found something wrong."""
        return tuple(check for check in self.checks if check.ok is False)

    @property
    def unchecked(self) -> tuple[Check, ...]:
        """What could not be checked."""
        return tuple(check for check in self.checks if check.ok is None)


def verify_bytes(data: bytes, keys: KeySet | None = None, policy: Policy | None = None) -> Verification:
    """Verify a receipt file (JSON, UTF-8). Any changed byte makes it fail, given the keys. Never raises.

    What no key vouches for cannot be held to this: a proof without keys for its log, and the signature lines
    of witnesses that the policy does not name.
    """
    try:
        document = loads_exact(data)
    except ValueError as error:
        return Verification((Check("document", False, str(error)),))
    return verify(document, keys, policy)


def verify(document: object, keys: KeySet | None = None, policy: Policy | None = None) -> Verification:
    """Verify a receipt as a parsed document. Never raises.

    Keys that the policy pins take the place of `keys`. Where there are none for receipts, the coordinator's
    signature cannot be attributed: its check is None, and `ok` is False.
    """
    try:
        fields, signature = parse(document)
    except ReceiptInvalid as error:
        return Verification((Check("document", False, str(error)),))
    assert isinstance(document, dict)  # parse() refuses anything else
    signed = signed_bytes(fields)
    leaf = receipt_leaf(signed.decode(), signature.key_id, signing.encode_b64(signature.sig))
    proof = check_leaf(
        leaf,
        document["proof"],
        fields.chain_id,
        keys=keys,
        policy=policy,
        made_at_ms=fields.completed_at * 1000,
    )
    network = _check_network(fields, keys, policy)
    if policy is not None and policy.receipt_keys:
        keys = policy.key_set()
    checks = (
        Check("document", True, "all fields are present and well-formed"),
        _check_price(fields),
        _check_result(fields, document),
        network,
        _check_miner_signature(fields),
        _check_signature(fields, signed, signature, keys),
        *proof,
    )
    return Verification(checks, fields)


def _check_network(fields: ReceiptFields, keys: KeySet | None, policy: Policy | None) -> Check:
    if not fields.network_id:
        what = f"{fields.version} names the chain {fields.chain_id} alone; which network of that name was not checked"
        return Check(NETWORK, None, what)
    # What a policy pins comes first; a key set that was saved beside one that pins nothing still says which network.
    known = "" if policy is None else policy.network_id
    known = known or ("" if keys is None else keys.network_id)
    if not known:
        return Check(
            NETWORK, None, f"nothing given says which network; the receipt names {fields.network_id}"
        )
    if fields.network_id != known:
        return Check(NETWORK, False, f"it is of the network {fields.network_id}, not {known}")
    return Check(NETWORK, True, f"it is of the network {known}")


def _check_price(fields: ReceiptFields) -> Check:
    name = "price"
    if fields.units != fields.prompt_tokens + fields.completion_tokens:
        return Check(name, False, "units are not prompt plus completion tokens")
    due = money.price_units(fields.units, fields.unit_price_units)
    if fields.price_units != due:
        return Check(name, False, f"the price is not units times unit price ({money.format_ait(due)} AIT)")
    if fields.fee_units > fields.price_units:
        return Check(name, False, "the fee is higher than the price")
    detail = f"{fields.units} {fields.unit_type} at {money.format_ait(fields.unit_price_units)} AIT per 1000"
    return Check(name, True, f"{detail} is {money.format_ait(fields.price_units)} AIT")


def _check_result(fields: ReceiptFields, document: dict[str, Any]) -> Check:
    name = "result"
    if "result" not in document:
        return Check(name, None, "no result in the document; its hash was not recomputed")
    result = document["result"]
    try:
        kind = jobspec.job_type_named(fields.job_type)
        if not isinstance(result, dict) or result.keys() != {kind.result_field}:
            return Check(name, False, f"result is not an object with {kind.result_field}")
        hashed = canonical.sha256_hex(kind.result_bytes(kind.read_result(result)))
    except ValueError as error:
        return Check(name, False, str(error))
    if hashed != fields.result_hash:
        return Check(name, False, "the result does not hash to result_hash")
    return Check(name, True, "the result hashes to result_hash")


def _check_miner_signature(fields: ReceiptFields) -> Check:
    name, miner = "miner_signature", fields.miner_signature
    if miner is None or fields.claimed_tokens is None:
        return Check(name, None, "the miner did not sign its result")
    if fields.metering == "engine" and (
        fields.prompt_tokens > fields.claimed_tokens[0] or fields.completion_tokens > fields.claimed_tokens[1]
    ):
        return Check(name, False, "more tokens are billed than the miner's engine counted")
    if not signing.verify(miner.public_key, statement_of(fields), miner.sig):
        return Check(name, False, f"the signature of key {miner.key_id} does not fit the result")
    return Check(name, True, f"the miner signed the result with key {miner.key_id}")


def _check_signature(
    fields: ReceiptFields, signed: bytes, signature: Signature, keys: KeySet | None
) -> Check:
    if keys is None:
        return Check(SIGNATURE, None, f"no keys given: key {signature.key_id} cannot be attributed")
    if keys.chain_id != fields.chain_id:
        return Check(SIGNATURE, False, f"the keys are of chain {keys.chain_id}, not {fields.chain_id}")
    key = keys.get(signature.key_id)
    if key is None or key.use != USE_RECEIPTS:
        return Check(SIGNATURE, False, f"key {signature.key_id} is not among the keys given for receipts")
    if not signing.verify(key.public_bytes, signed, signature.sig):
        return Check(SIGNATURE, False, f"the signature of key {key.key_id} does not fit the receipt")
    completed_ms = fields.completed_at * 1000
    if key.valid_from_ms is not None and completed_ms < key.valid_from_ms - VALIDITY_TOLERANCE_MS:
        return Check(SIGNATURE, False, f"key {key.key_id} was not valid yet when the job completed")
    if key.valid_to_ms is not None and completed_ms >= key.valid_to_ms + VALIDITY_TOLERANCE_MS:
        return Check(SIGNATURE, False, f"key {key.key_id} was no longer valid when the job completed")
    return Check(SIGNATURE, True, f"{fields.chain_id} signed the receipt with key {key.key_id}")
