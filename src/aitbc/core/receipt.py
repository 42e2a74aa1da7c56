"""Receipts: fields, signed bytes, the document a client gets, and its offline verification.

docs/formats/receipt.md gives the exact bytes, with test vectors.
"""

from aitbc.core.keyset import KeySet, PublishedKey
from aitbc.core.receipt_document import (
    RESULT_VERSION,
    VERSION,
    MinerSignature,
    ReceiptFields,
    ReceiptInvalid,
    Signature,
    parse,
    result_statement,
    sign,
    signed_bytes,
    statement_of,
    to_json,
    to_json_of_signed,
)
from aitbc.core.receipt_verification import Check, Verification, verify, verify_bytes

__all__ = [
    "RESULT_VERSION",
    "VERSION",
    "Check",
    "KeySet",
    "MinerSignature",
    "PublishedKey",
    "ReceiptFields",
    "ReceiptInvalid",
    "Signature",
    "Verification",
    "parse",
    "result_statement",
    "sign",
    "signed_bytes",
    "statement_of",
    "to_json",
    "to_json_of_signed",
    "verify",
    "verify_bytes",
]
