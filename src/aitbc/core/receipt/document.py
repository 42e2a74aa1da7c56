"""The receipt of a job: its fields, the exact bytes that are signed, and the document a client gets.

Import these names from `aitbc.core.receipt`. docs/formats/receipt.md says the same in prose, with vectors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from aitbc.core import canonical, jobspec, money, signing
from aitbc.core.ids import is_id
from aitbc.core.metering import SOURCES
from aitbc.core.signing import PrivateKey

VERSION = "aitbc/receipt/v3"
VERSION_2 = "aitbc/receipt/v2"  # which names the chain, but not which network of that name
VERSION_1 = "aitbc/receipt/v1"  # which does not say how the job is paid either; neither is issued any more
PAYMENTS = ("auto", "manual")
RESULT_VERSION = "aitbc/result/v2"
RESULT_VERSION_1 = "aitbc/result/v1"  # of receipts before version 3
MAX_TEXT_CHARS = 256
MAX_COUNT = 2**53 - 1

_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_KEY_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)
_TEXT = re.compile(rf"[^\x00-\x1f\x7f\ud800-\udfff]{{1,{MAX_TEXT_CHARS}}}")


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


_TEXT_FIELDS = ("chain_id", "receipt_id", "job_id", "job_type", "client", "provider", "miner_id", "model")
_ID_FIELDS = ("receipt_id", "job_id")
_COUNT_FIELDS = ("units", "prompt_tokens", "completion_tokens", "started_at", "completed_at")
_HASH_FIELDS = ("prompt_hash", "result_hash")
_MONEY_FIELDS = ("unit_price", "price", "fee")
_MONEY_IN_ORDER = sorted(_MONEY_FIELDS)  # as RFC 8785 has them
_OTHER_FIELDS = (
    "id",
    "version",
    "unit_type",
    "metering",
    "claimed_tokens",
    "miner_signature",
    "signature",
    "proof",
)
_MONEY_SHOWN = {f"{name}_units": name for name in _MONEY_FIELDS}
FIELD_NAMES = frozenset((*_TEXT_FIELDS, *_COUNT_FIELDS, *_HASH_FIELDS, *_MONEY_FIELDS, *_OTHER_FIELDS))
OPTIONAL_NAMES = frozenset({"result"})
PAYMENT_NAMES = frozenset({"payment", "release_after"})  # since version 2
NETWORK_NAMES = frozenset({"network_id"})  # since version 3
_NAMES = {
    VERSION: FIELD_NAMES | PAYMENT_NAMES | NETWORK_NAMES,
    VERSION_2: FIELD_NAMES | PAYMENT_NAMES,
    VERSION_1: FIELD_NAMES,
}


def parse(document: object) -> tuple[ReceiptFields, Signature]:
    """The fields and the coordinator's signature of a receipt document; nothing is verified yet.

    Money may be int, float or Decimal. `result` and `proof` are only known by name here. ReceiptInvalid: an
    unknown or missing field, a wrong type, base64 or hex in another spelling, id other than receipt_id.
    """
    if not isinstance(document, dict):
        raise ReceiptInvalid("a receipt is a JSON object")
    names, version = document.keys(), document.get("version")
    required = _NAMES.get(version, FIELD_NAMES) if isinstance(version, str) else FIELD_NAMES
    if missing := required - names:
        raise ReceiptInvalid(f"missing field {min(missing)}")
    if unknown := names - required - OPTIONAL_NAMES:
        raise ReceiptInvalid(f"unknown field {str(min(unknown, key=str))[:64]!r}")
    if not isinstance(version, str) or version not in _NAMES:
        raise ReceiptInvalid(f"version is none of {', '.join(_NAMES)}")
    values: dict[str, Any] = {name: _text(document, name) for name in _TEXT_FIELDS}
    for name in _ID_FIELDS:
        if not is_id(values[name]):
            raise ReceiptInvalid(f"{name} is not a UUID of version 7 in lower case")
    if values["job_type"] not in jobspec.JOB_TYPES:
        raise ReceiptInvalid(f"job_type is none of {', '.join(jobspec.JOB_TYPES)}")
    if document["id"] != values["receipt_id"]:
        raise ReceiptInvalid("id is not receipt_id")
    for name in _COUNT_FIELDS:
        values[name] = _count(document[name], name)
    for name in _HASH_FIELDS:
        values[name] = _matching(document[name], _HASH, name, "64 lower-case hex digits")
    for name in _MONEY_FIELDS:
        values[f"{name}_units"] = _money(document[name], name)
    if document["unit_type"] != jobspec.UNIT_TOKENS:
        raise ReceiptInvalid("unit_type is not tokens")
    if document["metering"] not in tuple(SOURCES):
        raise ReceiptInvalid("metering is neither engine nor estimate")
    fields = ReceiptFields(
        **values,
        unit_type=jobspec.UNIT_TOKENS,
        metering=document["metering"],
        miner_signature=_miner_signature(document["miner_signature"]),
        claimed_tokens=_claimed(document["claimed_tokens"]),
        **_payment(document),
        **_network(document),
    )
    if (fields.miner_signature is None) != (fields.claimed_tokens is None):
        raise ReceiptInvalid("claimed_tokens goes with miner_signature")
    key_id, sig = _signature_object(document["signature"], "signature", ("alg", "key_id", "sig"))
    return fields, Signature(key_id, sig)


def _payment(document: dict[str, Any]) -> dict[str, Any]:
    """The two members that version 2 has more; nothing in version 1."""
    if document["version"] == VERSION_1:
        return {}
    payment, after = document["payment"], document["release_after"]
    if payment not in PAYMENTS:
        raise ReceiptInvalid("payment is neither auto nor manual")
    if (after is None) != (payment == "auto"):
        raise ReceiptInvalid("release_after is a time where the payment is manual, else null")
    return {"payment": payment, "release_after": None if after is None else _count(after, "release_after")}


def _network(document: dict[str, Any]) -> dict[str, Any]:
    """The member that version 3 has more."""
    if document["version"] != VERSION:
        return {}
    return {"network_id": _matching(document["network_id"], _HASH, "network_id", "64 lower-case hex digits")}


def _text(document: dict[str, Any], name: str) -> str:
    value = document[name]
    if not isinstance(value, str) or _TEXT.fullmatch(value) is None:
        raise ReceiptInvalid(
            f"{name} is not a text of 1 to {MAX_TEXT_CHARS} characters without control characters"
        )
    return value


def _count(value: object, name: str) -> int:
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise ReceiptInvalid(f"{name} is not an integer from 0 to 2**53-1")
    return value


def _money(value: object, name: str) -> int:
    if isinstance(value, str):
        raise ReceiptInvalid(f"{name} is not a number")
    try:
        return money.parse_ait(value)  # type: ignore[arg-type]  # it checks the type itself
    except ValueError as error:
        raise ReceiptInvalid(f"{name}: {error}") from None


def _matching(value: object, pattern: re.Pattern[str], name: str, form: str) -> str:
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise ReceiptInvalid(f"{name} is not {form}")
    return value


def _claimed(value: object) -> tuple[int, int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise ReceiptInvalid("claimed_tokens is neither null nor [prompt, completion]")
    return _count(value[0], "claimed_tokens"), _count(value[1], "claimed_tokens")


def _signature_object(value: object, name: str, members: tuple[str, ...]) -> tuple[str, bytes]:
    if not isinstance(value, dict) or value.keys() != set(members):
        raise ReceiptInvalid(f"{name} is not an object with {', '.join(members)}")
    if value["alg"] != signing.ALGORITHM:
        raise ReceiptInvalid(f"{name}.alg is not {signing.ALGORITHM}")
    key_id = _matching(value["key_id"], _KEY_ID, f"{name}.key_id", "16 lower-case hex digits")
    return key_id, _base64(value["sig"], f"{name}.sig", signing.SIGNATURE_BYTES)


def _miner_signature(value: Any) -> MinerSignature | None:
    if value is None:
        return None
    members = ("alg", "key_id", "public_key", "sig")
    key_id, sig = _signature_object(value, "miner_signature", members)
    public_key = _base64(value["public_key"], "miner_signature.public_key", signing.PUBLIC_BYTES)
    miner = MinerSignature(public_key, sig)
    if miner.key_id != key_id:
        raise ReceiptInvalid("miner_signature.key_id is not that of its public_key")
    return miner


def _base64(value: object, name: str, size: int) -> bytes:
    try:
        data = signing.decode_b64(value) if isinstance(value, str) else b""
    except ValueError as error:
        raise ReceiptInvalid(f"{name}: {error}") from None
    if len(data) != size:
        raise ReceiptInvalid(f"{name} is not {size} bytes in base64")
    return data
