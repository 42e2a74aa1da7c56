"""The receipt of a job: its fields, the exact bytes that are signed, and the document a client gets.

Import these names from `aitbc.core.receipt`. docs/formats/receipt.md says the same in prose, with vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from aitbc.core import canonical, jobspec, money, signing
from aitbc.core.signing import PrivateKey

VERSION = "aitbc/receipt/v3"
VERSION_2 = "aitbc/receipt/v2"  # which names the chain, but not which network of that name
VERSION_1 = "aitbc/receipt/v1"  # which does not say how the job is paid either; neither is issued any more
RESULT_VERSION = "aitbc/result/v2"
RESULT_VERSION_1 = "aitbc/result/v1"  # of receipts before version 3
MONEY_FIELDS = ("unit_price", "price", "fee")
_MONEY_IN_ORDER = sorted(MONEY_FIELDS)  # as RFC 8785 has them
_MONEY_SHOWN = {f"{name}_units": name for name in MONEY_FIELDS}


class ReceiptInvalid(ValueError):
    """A document is not a receipt of this version; the message says where."""


@dataclass(frozen=True, slots=True)
class Signature:
    """An Ed25519 signature (64 bytes) and the id of the key that made it."""

    key_id: str
    sig: bytes

    def to_json(self) -> dict[str, str]:
        return {"alg": signing.ALGORITHM, "key_id": self.key_id, "sig": signing.encode_b64(self.sig)}


@dataclass(frozen=True, slots=True)
class MinerSignature:
    """A miner's signature over its result statement, with the key that made it (32 bytes)."""

    public_key: bytes
    sig: bytes

    @property
    def key_id(self) -> str:
        return signing.key_id(self.public_key)

    def to_json(self) -> dict[str, str]:
        return {
            "alg": signing.ALGORITHM,
            "key_id": self.key_id,
            "public_key": signing.public_to_text(self.public_key),
            "sig": signing.encode_b64(self.sig),
        }


class ReceiptFields(NamedTuple):
    """What a receipt states. Money in base units, times in unix seconds, hashes as 64 hex digits.

    `client` and `provider` are the accounts that pay and are paid; `unit_price_units` is for 1000 units;
    `claimed_tokens` are the (prompt, completion) counts in the miner's statement, None where it did not sign.
    `payment` is auto (paid in the transaction that issued the receipt) or manual (released by its payer, or by
    itself at `release_after`, unix seconds; None for auto). "" in a receipt of version 1, which has neither.
    `network_id` is the network's id; "" in a receipt of versions 1 and 2, which name the chain alone.
    """

    chain_id: str
    receipt_id: str
    job_id: str
    job_type: str
    client: str
    provider: str
    miner_id: str
    model: str
    units: int
    unit_type: str
    prompt_tokens: int
    completion_tokens: int
    metering: str
    unit_price_units: int
    price_units: int
    fee_units: int
    started_at: int
    completed_at: int
    prompt_hash: str
    result_hash: str
    miner_signature: MinerSignature | None = None
    claimed_tokens: tuple[int, int] | None = None
    payment: str = ""
    release_after: int | None = None
    network_id: str = ""

    @property
    def version(self) -> str:
        """Which version of the format states these fields."""
        if self.network_id:
            return VERSION
        return VERSION_2 if self.payment else VERSION_1


def _signed_object(fields: ReceiptFields) -> dict[str, Any]:
    claimed, miner = fields.claimed_tokens, fields.miner_signature
    signed: dict[str, Any] = {
        "version": fields.version,
        "chain_id": fields.chain_id,
        "receipt_id": fields.receipt_id,
        "job_id": fields.job_id,
        "job_type": fields.job_type,
        "client": fields.client,
        "provider": fields.provider,
        "miner_id": fields.miner_id,
        "model": fields.model,
        "units": fields.units,
        "unit_type": fields.unit_type,
        "prompt_tokens": fields.prompt_tokens,
        "completion_tokens": fields.completion_tokens,
        "metering": fields.metering,
        "unit_price_units": str(fields.unit_price_units),
        "price_units": str(fields.price_units),
        "fee_units": str(fields.fee_units),
        "started_at": fields.started_at,
        "completed_at": fields.completed_at,
        "prompt_hash": fields.prompt_hash,
        "result_hash": fields.result_hash,
        "claimed_tokens": None if claimed is None else list(claimed),
        "miner_signature": None if miner is None else miner.to_json(),
    }
    if fields.payment:
        signed["payment"] = fields.payment
        signed["release_after"] = fields.release_after
    if fields.network_id:
        signed["network_id"] = fields.network_id
    return signed


def signed_bytes(fields: ReceiptFields) -> bytes:
    """The bytes that the coordinator signs: RFC 8785, money as integer strings of base units."""
    return canonical.encode_plain(_signed_object(fields))


def sign(fields: ReceiptFields, key: PrivateKey) -> Signature:
    """The coordinator's signature."""
    return sign_bytes(signed_bytes(fields), key)


def sign_bytes(body: bytes, key: PrivateKey) -> Signature:
    """The signature of signed bytes that are made already."""
    return Signature(key.key_id, key.sign(body))


def result_statement(
    *,
    chain_id: str,
    job_id: str,
    miner_id: str,
    prompt_hash: str,
    result_hash: str,
    prompt_tokens: int,
    completion_tokens: int,
    network_id: str = "",
) -> bytes:
    """The bytes that the miner signs. The token counts are its claim: its engine's, or 0 and 0 without.

    Without a `network_id` those of version 1, which are good on every network of the chain's name.
    """
    stated: dict[str, Any] = {
        "version": RESULT_VERSION if network_id else RESULT_VERSION_1,
        "chain_id": chain_id,
        "job_id": job_id,
        "miner_id": miner_id,
        "prompt_hash": prompt_hash,
        "result_hash": result_hash,
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
    }
    if network_id:
        stated["network_id"] = network_id
    return canonical.encode_plain(stated)


def old_statement(statement: bytes) -> bytes:
    """What a miner from before version 2 signed in the place of this statement."""
    stated = orjson.loads(statement)
    del stated["network_id"]
    return canonical.encode_plain({**stated, "version": RESULT_VERSION_1})


def statement_of(fields: ReceiptFields) -> bytes:
    """The result statement that the miner signature is over. ValueError: there are no claimed tokens."""
    if fields.claimed_tokens is None:
        raise ValueError("the receipt has no claimed tokens")
    prompt_tokens, completion_tokens = fields.claimed_tokens
    return result_statement(
        chain_id=fields.chain_id,
        job_id=fields.job_id,
        miner_id=fields.miner_id,
        prompt_hash=fields.prompt_hash,
        result_hash=fields.result_hash,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        network_id=fields.network_id,
    )


def to_json(
    fields: ReceiptFields,
    signature: Signature,
    result: Mapping[str, Any] | str | None = None,
    proof: str | None = None,
) -> dict[str, Any]:
    """The document a client gets. Money in AIT.

    `result` (only for the job's owner; left out if None) is the job's canonical result, or its text as
    `jobspec.result_text` gives it. Only what `result_hash` covers is put in: {"text"} or {"embeddings"}.
    """
    return _document(_signed_object(fields), signature, result, proof)


def to_json_of_signed(
    body: bytes | str,
    signature: Signature,
    result: Mapping[str, Any] | str | None = None,
    proof: str | None = None,
) -> dict[str, Any]:
    """`to_json` from the signed bytes, which are taken as they are: for receipts that were stored."""
    return _document(orjson.loads(body), signature, result, proof)


def document_text(
    receipt_id: str,
    body: str,
    signature: tuple[str, str],
    result: str | None = None,
    proof: str | None = None,
) -> bytes:
    """The JSON bytes of `to_json_of_signed`, amounts in plain decimals. For many receipts: nothing is parsed.

    `body` is the signed text of the receipt of this id, `signature` (key id, signature in base64), `result`
    the job's canonical result.
    """
    # Inside a string a quote is escaped, so what is looked for is found nowhere but among the members.
    parts, rest = [], body
    for name in _MONEY_IN_ORDER:
        before, found, rest = rest.partition(f'"{name}_units":"')
        units, quote, rest = rest.partition('"')
        if not found or not quote:
            raise ValueError("these are not the signed bytes of a receipt")
        parts.append(f'{before}"{name}":{money.format_ait(int(units))}')
    key_id, sig = signature
    parts[0] = f'{{"id":"{receipt_id}",{parts[0][1:]}'
    parts.append(
        f'{rest[:-1]},"signature":{{"alg":"{signing.ALGORITHM}","key_id":"{key_id}","sig":"{sig}"}}'
        f',"proof":{orjson.dumps(proof).decode()}'
    )
    if result is not None:
        shown = _shown_result(orjson.loads(body)["job_type"], orjson.loads(result))
        parts.append(f',"result":{orjson.dumps(shown).decode()}')
    return ("".join(parts) + "}").encode()


def _document(
    signed: dict[str, Any],
    signature: Signature,
    result: Mapping[str, Any] | str | None,
    proof: str | None,
) -> dict[str, Any]:
    document = {"id": signed["receipt_id"]}
    for name, value in signed.items():
        shown = _MONEY_SHOWN.get(name)
        if shown is None:
            document[name] = value
        else:
            document[shown] = money.ait_number(int(value))
    document["signature"] = signature.to_json()
    document["proof"] = proof
    if result is not None:
        document["result"] = _shown_result(signed["job_type"], result)
    return document


def _shown_result(job_type: str, result: Mapping[str, Any] | str) -> dict[str, Any]:
    kind = jobspec.job_type_named(job_type)
    if isinstance(result, str):
        return kind.result_from_text(result)
    return {kind.result_field: result[kind.result_field]}
