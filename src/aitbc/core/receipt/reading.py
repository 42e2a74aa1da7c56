"""Reading a receipt document: every member is there, of its kind and within its bounds, and nothing else is.

Import `parse` from `aitbc.core.receipt`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from aitbc.core import jobspec, money, signing
from aitbc.core.ids import is_id
from aitbc.core.metering import SOURCES
from aitbc.core.receipt.document import (
    MONEY_FIELDS,
    VERSION,
    VERSION_1,
    VERSION_2,
    MinerSignature,
    ReceiptFields,
    ReceiptInvalid,
    Signature,
)

PAYMENTS = ("auto", "manual", "booking")
MAX_TEXT_CHARS = 256
MAX_COUNT = 2**53 - 1

_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_KEY_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)
_TEXT = re.compile(rf"[^\x00-\x1f\x7f\ud800-\udfff]{{1,{MAX_TEXT_CHARS}}}")

_TEXT_FIELDS = ("chain_id", "receipt_id", "job_id", "job_type", "client", "provider", "miner_id", "model")
_ID_FIELDS = ("receipt_id", "job_id")
_COUNT_FIELDS = ("units", "prompt_tokens", "completion_tokens", "started_at", "completed_at")
_HASH_FIELDS = ("prompt_hash", "result_hash")
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
FIELD_NAMES = frozenset((*_TEXT_FIELDS, *_COUNT_FIELDS, *_HASH_FIELDS, *MONEY_FIELDS, *_OTHER_FIELDS))
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
    for name in MONEY_FIELDS:
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
        raise ReceiptInvalid(f"payment is none of {', '.join(PAYMENTS)}")
    if (after is None) != (payment != "manual"):
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
    if not isinstance(value, int | float | Decimal):
        raise ReceiptInvalid(f"{name} is not a number")
    try:
        return money.parse_ait(value)
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
