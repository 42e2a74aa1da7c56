"""One transaction of the chain by its hash: a leaf's, or that of a transfer which a wallet signed."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import bindparam, select

from aitbc.coordinator.chain import proofs
from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.errors import TransactionNotFound
from aitbc.coordinator.flows.shared import hashes
from aitbc.coordinator.flows.shared.hashes import Named
from aitbc.coordinator.ledger.models import Transfer
from aitbc.coordinator.receipts import service as receipts
from aitbc.core.canonical import loads_strict
from aitbc.core.log.leaf import RECEIPT, TRANSFER

_t: Any = table_of(Transfer).c

TRANSFER_OF = statement(
    select(_t.kind, _t.debit_id, _t.credit_id, _t.amount_units, _t.ref, _t.created_at_ms).where(
        _t.id == bindparam("transfer")
    )
)


class Found(NamedTuple):
    """A transfer (`kind` is its kind) or a receipt (`kind` None: who paid whom what for a job).

    `leaf_hash` in hex; `leaf_index` and `block_height` are None until it is sealed; `signed` is the document
    that a wallet signed.
    """

    leaf_hash: str
    id: str
    kind: str | None
    debit_id: str
    credit_id: str
    amount_units: int
    ref: str
    at_ms: int
    leaf_index: int | None
    block_height: int | None
    signed: dict[str, Any] | None


def find(tx: Tx, hashed: str) -> Found:
    """Looks for a hash (64 hex digits). Raises TransactionNotFound; leaves are found once they are sealed."""
    named = hashes.named_by(tx, hashed)
    if named is None:
        raise TransactionNotFound(hash=hashed)
    return _found(tx, named)


def _found(tx: Tx, named: Named) -> Found:
    height = None if named.leaf_index is None else proofs.block_of_leaf(tx, named.leaf_index).height
    leaf_hash, signed = named.leaf_hash.hex(), named.signed
    if named.kind == TRANSFER:
        row = tx.one(TRANSFER_OF, transfer=named.ref_id)
        return Found(
            leaf_hash,
            named.ref_id,
            row.kind,
            row.debit_id,
            row.credit_id,
            int(row.amount_units),
            row.ref,
            int(row.created_at_ms),
            named.leaf_index,
            height,
            None if signed is None else {**loads_strict(signed.body.encode()), "signature": signed.signature},
        )
    receipt = receipts.get(tx, named.ref_id) if named.kind == RECEIPT else None
    if receipt is None:
        raise TransactionNotFound(hash=leaf_hash)
    return Found(
        leaf_hash,
        named.ref_id,
        None,
        receipt.client_id,
        receipt.provider_id,
        receipt.price_units,
        receipt.job_id,
        receipt.created_at_ms,
        named.leaf_index,
        height,
        None,
    )
