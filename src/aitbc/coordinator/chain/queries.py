"""Reads over the chain for those who look at it: pages of blocks, and what a hash or its beginning names."""

from typing import Any, NamedTuple

from sqlalchemy import bindparam, func, select

from aitbc.coordinator.chain.models import Block, Cosignature, Leaf
from aitbc.coordinator.chain.sealer import COLUMNS, BlockRow
from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of

_l: Any = table_of(Leaf).c
_b: Any = table_of(Block).c
_c: Any = table_of(Cosignature).c

MIN_PREFIX = 8  # hex digits of a hash that a search needs
MAX_HEIGHT = (1 << 63) - 1
HASH_DIGITS = 64


class Span(NamedTuple):
    """Which leaves a block sealed (first_leaf .. tree_size - 1), and when."""

    height: int
    first_leaf: int
    tree_size: int
    time_ms: int


class LeafRow(NamedTuple):
    """A leaf: its kind (`core.log.leaf`), of which id, its hash, its place where it has one."""

    kind: int
    ref_id: str
    hash: bytes
    leaf_index: int | None


PAGE = statement(
    select(*COLUMNS)
    .where(_b.height < bindparam("before"))
    .order_by(_b.height.desc())
    .limit(bindparam("limit"))
    .offset(bindparam("offset")),
    BlockRow,
)
BY_PREFIX = statement(
    select(*COLUMNS)
    .where(_b.hash >= bindparam("low"), _b.hash <= bindparam("high"))
    .order_by(_b.hash)
    .limit(bindparam("limit")),
    BlockRow,
)
SPAN_OF_LEAF = statement(
    select(*(_b[name] for name in Span._fields))
    .where(_b.tree_size > bindparam("leaf"))
    .order_by(_b.tree_size)
    .limit(1),
    Span,
)
COSIGNED = statement(
    select(_c.height, func.count().label("count"))
    .where(_c.height >= bindparam("low"), _c.height <= bindparam("high"))
    .group_by(_c.height)
)
LEAF_BY_REF = statement(
    select(*(_l[name] for name in LeafRow._fields)).where(_l.ref_id == bindparam("ref")), LeafRow
)


def blocks(tx: Tx, before_height: int | None, limit: int, offset: int = 0) -> list[BlockRow]:
    """Blocks below a height, newest first."""
    return tx.all(
        PAGE, before=MAX_HEIGHT if before_height is None else before_height, limit=limit, offset=offset
    )


def cosignature_counts(tx: Tx, low: int, high: int) -> dict[int, int]:
    """How many witnesses cosigned each block of these heights; those with none are left out."""
    return {int(row.height): int(row.count) for row in tx.all(COSIGNED, low=low, high=high)}


def blocks_by_hash(tx: Tx, prefix: str, limit: int) -> list[BlockRow]:
    """Blocks whose hash (lower-case hex) begins so."""
    low, high = prefix.ljust(HASH_DIGITS, "0"), prefix.ljust(HASH_DIGITS, "f")
    return tx.all(BY_PREFIX, low=low, high=high, limit=limit)


def leaf_of(tx: Tx, ref_id: str) -> LeafRow | None:
    """The leaf of a transfer or receipt; None for an id that is neither."""
    row: LeafRow | None = tx.one(LEAF_BY_REF, ref=ref_id)
    return row


class Spans:
    """Looks up the blocks of leaves, each block once while its leaves come one after the other."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self._last: Span | None = None

    def of(self, leaf_index: int | None) -> Span | None:
        """The block that sealed the leaf; None for one that is not sealed."""
        if leaf_index is None:
            return None
        last = self._last
        if last is None or not last.first_leaf <= leaf_index < last.tree_size:
            self._last = last = self._tx.one(SPAN_OF_LEAF, leaf=leaf_index)
        return last
