"""One transaction of the chain by its hash: a leaf's, or that of a transfer which a wallet signed."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import bindparam, select

from aitbc.coordinator.chain import proofs, search
from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.errors import TransactionNotFound
from aitbc.coordinator.ledger.models import Transfer
from aitbc.coordinator.receipts import service as receipts
from aitbc.coordinator.users import service as users
from aitbc.core.canonical import loads_strict
from aitbc.core.log.leaf import RECEIPT, TRANSFER

_t: Any = table_of(Transfer).c
HASH_HEX_CHARS = 64

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
    try:
        data = bytes.fromhex(hashed) if len(hashed) == HASH_HEX_CHARS else b""
    except ValueError:
        data = b""
    if len(data) != HASH_HEX_CHARS // 2:
        raise TransactionNotFound(hash=hashed)
    signed = users.find_signed(tx, data.hex())
    if signed is not None:
        row = tx.one(proofs.LEAF_OF, ref=signed.transfer_id)
        document = {**loads_strict(signed.body.encode()), "signature": signed.signature}
        return _found(tx, row.kind, signed.transfer_id, bytes(row.hash), row.leaf_index, document)
    leaf = search.by_hash(tx, data)
    if leaf is None:
        raise TransactionNotFound(hash=hashed)
    return _found(tx, *leaf, None)


def _found(
    tx: Tx, kind: int, ref_id: str, hashed: bytes, index: int | None, document: dict[str, Any] | None
) -> Found:
    height = None if index is None else proofs.block_of_leaf(tx, index).height
    named = (hashed.hex(), ref_id)
    if kind == TRANSFER:
        row = tx.one(TRANSFER_OF, transfer=ref_id)
        return Found(
            *named,
            row.kind,
            row.debit_id,
            row.credit_id,
            int(row.amount_units),
            row.ref,
            int(row.created_at_ms),
            index,
            height,
            document,
        )
    receipt = receipts.get(tx, ref_id) if kind == RECEIPT else None
    if receipt is None:
        raise TransactionNotFound(hash=named[0])
    return Found(
        *named,
        None,
        receipt.client_id,
        receipt.provider_id,
        receipt.price_units,
        receipt.job_id,
        receipt.created_at_ms,
        index,
        height,
        None,
    )
