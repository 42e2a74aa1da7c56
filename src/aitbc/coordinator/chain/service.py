"""Appending to the log, in the transaction that makes what is appended."""

from aitbc.coordinator.chain.models import Leaf
from aitbc.coordinator.database import Tx, insert_into
from aitbc.core.log.merkle import leaf_hash

INSERT_LEAF = insert_into(Leaf, "kind", "ref_id", "hash", "hash_head")


def append(tx: Tx, kind: int, ref_id: str, data: bytes) -> None:
    """Adds one leaf; it gets its place in the tree when the next block seals it."""
    hashed = leaf_hash(data)
    tx.add(INSERT_LEAF, (kind, ref_id, hashed, head_of(hashed)))


def head_of(hashed: bytes) -> int:
    """The first 8 bytes as a signed 64-bit integer, which both databases can index."""
    return int.from_bytes(hashed[:8], "big", signed=True)
