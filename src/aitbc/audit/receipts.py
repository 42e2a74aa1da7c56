"""One receipt of the log: its bytes, its signatures, its price."""

from __future__ import annotations

from dataclasses import dataclass, field

from aitbc.audit.findings import Wrong
from aitbc.core import signing
from aitbc.core.log.keyset import KeySet
from aitbc.core.receipt import (
    VERSION,
    VERSION_1,
    VERSION_2,
    ReceiptFields,
    Signature,
    signed_bytes,
    to_json_of_signed,
    verify,
)

UPGRADE_S = 7 * 86_400
"""How long coordinators of the version before may go on beside those that issue receipts of a newer one."""

_PAID, _NETWORK = "how it is paid", "of which network it is"
_LACKS: dict[str, dict[str, str]] = {
    VERSION_1: {VERSION_2: _PAID, VERSION: _PAID},
    VERSION_2: {VERSION: _NETWORK},
    VERSION: {},
}
"""What a receipt of one version leaves unsaid, by the newer version that says it."""


@dataclass
class ReceiptCheck:
    """Holds receipts to one chain's keys, in the order of the log.

    Counts those whose miner did not sign, those of version 1, which do not say how they are paid, and those that do
    not say of which network they are (`unnamed`). Once the log has receipts of a newer version, an older one is no
    way any more to leave that unsaid. `network_id`: what the log's genesis block says, where that is known.
    """

    keys: KeySet
    network_id: str = ""
    unsigned_by_miner: int = 0
    of_version_1: int = 0
    unnamed: int = 0
    _since: dict[str, int] = field(default_factory=dict)  # unix seconds of the first receipt of each version

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
        """Raises Wrong where a version comes back that the log has left behind."""
        if self.network_id and fields.network_id not in ("", self.network_id):
            raise Wrong("receipt", fields.receipt_id, f"it is of the network {fields.network_id}")
        self.of_version_1 += not fields.payment
        self.unnamed += not fields.network_id
        for newer, lacks in _LACKS[fields.version].items():
            since = self._since.get(newer)
            if since is not None and fields.completed_at > since + UPGRADE_S:
                what = f"it is of version {fields.version[-1]}, which does not say {lacks}"
                raise Wrong("receipt", fields.receipt_id, f"{what}, and this log has left that behind")
        known = self._since.get(fields.version)
        if known is None or fields.completed_at < known:
            self._since[fields.version] = fields.completed_at
