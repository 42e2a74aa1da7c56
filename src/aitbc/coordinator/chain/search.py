"""Finding sealed leaves by their hash, or by how it begins."""

from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.sql.expression import ClauseElement

from aitbc.coordinator.chain.models import SHELF, SHELF_BITS
from aitbc.coordinator.chain.sealer import head
from aitbc.coordinator.chain.service import head_of
from aitbc.coordinator.database import Tx, statement
from aitbc.core.log.merkle import HASH_BYTES

MIN_PREFIX_CHARS = 4


class FoundLeaf(NamedTuple):
    """A sealed leaf: its kind (`core.log.leaf`), what it is of, its hash and place."""

    kind: int
    ref_id: str
    hash: bytes
    leaf_index: int


def _on_every_shelf(dialect: str) -> ClauseElement:
    """One look into the index for each shelf; the order of the joins is fixed, so no planner can scan."""
    wanted = (
        f"(l.{SHELF}) = s.n AND l.leaf_index IS NOT NULL AND l.hash_head >= :low AND l.hash_head <= :high"
    )
    columns = "l.kind, l.ref_id, l.hash, l.leaf_index"
    if dialect == "sqlite":
        return text(
            "WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < :last) "
            f"SELECT {columns} FROM s CROSS JOIN leaves l ON {wanted} LIMIT :most"
        )
    return text(
        f"SELECT f.* FROM generate_series(0, :last) AS s(n) CROSS JOIN LATERAL "
        f"(SELECT {columns} FROM leaves l WHERE {wanted} LIMIT :most) f LIMIT :most"
    )


BETWEEN = statement(_on_every_shelf, FoundLeaf)


def by_hash(tx: Tx, hashed: bytes) -> FoundLeaf | None:
    """The sealed leaf with this hash (32 bytes)."""
    at = head_of(hashed)
    found = [leaf for leaf in _between(tx, at, at, 16) if leaf.hash == hashed]
    return found[0] if found else None


def by_prefix(tx: Tx, prefix: str, limit: int) -> list[FoundLeaf]:
    """Sealed leaves whose hash begins with these hex digits, oldest first.

    ValueError: no hex digits, fewer than MIN_PREFIX_CHARS or more than a hash has.
    """
    chars = 2 * HASH_BYTES
    if not MIN_PREFIX_CHARS <= len(prefix) <= chars:
        raise ValueError(f"a hash's prefix has {MIN_PREFIX_CHARS} to {chars} hex digits")
    if not prefix.isalnum():
        raise ValueError("not hex digits")
    low, high = (head_of(bytes.fromhex(prefix.ljust(chars, fill))) for fill in "0f")
    text_prefix = prefix.lower()
    # Hashes that differ only beyond their first 8 bytes do not occur by chance.
    found = [leaf for leaf in _between(tx, low, high, limit) if leaf.hash.hex().startswith(text_prefix)]
    return sorted(found, key=lambda leaf: leaf.leaf_index)


def _between(tx: Tx, low: int, high: int, most: int) -> list[FoundLeaf]:
    last = head(tx)
    if last is None:
        return []
    rows = tx.all(BETWEEN, low=low, high=high, last=last.tree_size >> SHELF_BITS, most=most)
    return [FoundLeaf(int(row.kind), row.ref_id, bytes(row.hash), int(row.leaf_index)) for row in rows]
