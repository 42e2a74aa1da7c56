"""One receipt of the log: its bytes, its signatures, its price."""

from __future__ import annotations

from dataclasses import dataclass

from aitbc.audit.findings import Wrong
from aitbc.core import signing
from aitbc.core.keyset import KeySet
from aitbc.core.receipt import ReceiptFields, Signature, signed_bytes, to_json_of_signed, verify

UPGRADE_S = 7 * 86_400
"""How long coordinators of the version before may go on beside those that issue receipts of version 2."""


@dataclass
class ReceiptCheck:
    """Holds receipts to one chain's keys, in the order of the log.

    Counts those whose miner did not sign, and those of version 1, which do not say how they are paid. Once the
    log has receipts of version 2, that is no way any more to leave it unsaid.
    """

    keys: KeySet
    unsigned_by_miner: int = 0
    of_version_1: int = 0
    _version_2_since: int | None = None  # unix seconds

    def check(self, receipt_id: str, body: str, key_id: str, signature: str) -> ReceiptFields:
        """The fields of a receipt, given its signed text and the coordinator's signature. Raises Wrong."""
        try:
            made = Signature(key_id, signing.decode_b64(signature))
            verification = verify(to_json_of_signed(body, made), self.keys)
        except (KeyError, TypeError, ValueError) as error:
            raise Wrong("receipt", receipt_id, f"it cannot be read: {error}") from None
        fields = verification.fields
        if fields is None or verification.failures:
            failed = verification.failures[0]
            raise Wrong("receipt", receipt_id, f"{failed.name.replace('_', ' ')}: {failed.detail}")
        if signed_bytes(fields) != body.encode():
            raise Wrong("receipt", receipt_id, "its text is not canonical")
        if fields.receipt_id != receipt_id:
            raise Wrong("receipt", receipt_id, f"its text is receipt {fields.receipt_id}'s")
        if fields.miner_signature is None:
            self.unsigned_by_miner += 1
        self._check_version(fields)
        return fields

    def _check_version(self, fields: ReceiptFields) -> None:
        since = self._version_2_since
        if not fields.payment:
            self.of_version_1 += 1
            if since is not None and fields.completed_at > since + UPGRADE_S:
                what = (
                    "it is of version 1, which does not say how it is paid, and this log has left that behind"
                )
                raise Wrong("receipt", fields.receipt_id, what)
        elif since is None or fields.completed_at < since:
            self._version_2_since = fields.completed_at
