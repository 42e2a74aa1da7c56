"""Receipts: fields, signed bytes, the document a client gets, and its offline verification.

docs/formats/receipt.md gives the exact bytes, with test vectors.
"""

from aitbc.core.log.keyset import KeySet, PublishedKey
from aitbc.core.log.policy import Policy, PolicyInvalid
from aitbc.core.receipt.document import (
    RESULT_VERSION,
    VERSION,
    VERSION_1,
    VERSION_2,
    MinerSignature,
    ReceiptFields,
    ReceiptInvalid,
    Signature,
    document_text,
    old_statement,
    result_statement,
    sign,
    sign_bytes,
    signed_bytes,
    statement_of,
    to_json,
    to_json_of_signed,
)
from aitbc.core.receipt.proof import Check, check_leaf
from aitbc.core.receipt.reading import parse
from aitbc.core.receipt.verification import Verification, verify, verify_bytes

__all__ = [
    "RESULT_VERSION",
    "VERSION",
    "VERSION_1",
    "VERSION_2",
    "Check",
    "KeySet",
    "MinerSignature",
    "Policy",
    "PolicyInvalid",
    "PublishedKey",
    "ReceiptFields",
    "ReceiptInvalid",
    "Signature",
    "Verification",
    "check_leaf",
    "document_text",
    "old_statement",
    "parse",
    "result_statement",
    "sign",
    "sign_bytes",
    "signed_bytes",
    "statement_of",
    "to_json",
    "to_json_of_signed",
    "verify",
    "verify_bytes",
]
