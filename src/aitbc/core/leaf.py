"""The bytes of the log's leaves. docs/formats/block.md gives them with vectors.

Written on the hot path, so put together by hand; a property test holds them to RFC 8785.
"""

from __future__ import annotations

import json

TRANSFER = 0
RECEIPT = 1


def transfer_leaf(
    transfer_id: str,
    kind: str,
    debit: str,
    credit: str,
    amount_units: int,
    hold_id: str | None,
    ref: str,
    created_at_ms: int,
) -> bytes:
    """RFC 8785 of {amount_units, created_at_ms, credit, debit, hold_id, id, kind, ref, type}.

    The chain is named by the log's origin, under which every checkpoint is signed. `ref` may be any text; the others are names and ids of printable ASCII without quotes or backslashes.
    """
    hold = "null" if hold_id is None else f'"{hold_id}"'
    shown = json.dumps(ref, ensure_ascii=False)
    return (
        f'{{"amount_units":"{amount_units}","created_at_ms":{created_at_ms},'
        f'"credit":"{credit}","debit":"{debit}","hold_id":{hold},"id":"{transfer_id}","kind":"{kind}",'
        f'"ref":{shown},"type":"aitbc/transfer/v1"}}'
    ).encode()


def receipt_leaf(signed_text: str, key_id: str, signature: str) -> bytes:
    """RFC 8785 of {body, signature, type}: `signed_text` is the receipt's canonical text as it was signed."""
    return (
        f'{{"body":{signed_text},"signature":{{"alg":"Ed25519","key_id":"{key_id}","sig":"{signature}"}},'
        '"type":"aitbc/receipt-leaf/v1"}'
    ).encode()
