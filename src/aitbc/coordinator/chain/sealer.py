"""Sealing: leaves that wait get their places in the tree, and a signed block says so.

`draft` reads and computes, `seal` writes what it found. Between the two nothing is locked: a height exists
once, so when another coordinator sealed first the insert fails and the draft is thrown away. Nothing is
published that is not committed, so no two signed checkpoints that anyone can see disagree.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import bindparam, literal_column, select, update
from sqlalchemy import text as sql

from aitbc.coordinator.chain import network
from aitbc.coordinator.chain.models import UNSEALED, Block, Leaf, Tile
from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.errors import ForkRefused
from aitbc.core.canonical import encode
from aitbc.core.log import tiles
from aitbc.core.log.block import VERSION_2, BlockHeader, counted, stored_counts
from aitbc.core.log.checkpoint import Checkpoint
from aitbc.core.log.leaf import KINDS
from aitbc.core.log.note import Note, sign_note
from aitbc.core.signing import PrivateKey

_l: Any = table_of(Leaf).c
_b: Any = table_of(Block).c
_t: Any = table_of(Tile).c

SEAL_LEAVES = 2048  # the most leaves of one block; more go into the next, at once


class BlockRow(NamedTuple):
    """Every column of `blocks`, in the table's order."""

    height: int
    hash: str
    previous_hash: str
    time_ms: int
    first_leaf: int
    tree_size: int
    root: str
    transactions: int
    receipts: int
    total_transactions: int
    total_receipts: int
    proposer: str
    signature: str
    checkpoint: str
    contents: str = ""

    def header(self, chain_id: str) -> BlockHeader:
        """What the block's hash covers."""
        return BlockHeader(
            chain_id=chain_id,
            height=self.height,
            previous_hash=self.previous_hash,
            time_ms=self.time_ms,
            first_leaf=self.first_leaf,
            tree_size=self.tree_size,
            root=self.root,
            proposer=self.proposer,
            **stored_counts(self.transactions, self.receipts, self.contents),
        )


class BlockZero(NamedTuple):
    """What tells networks apart: the genesis block's hash, and that of the founding, which it follows."""

    hash: str
    previous_hash: str


COLUMNS = list(table_of(Block).columns)
if BlockRow._fields != tuple(column.name for column in COLUMNS):
    raise RuntimeError("BlockRow and the blocks table have drifted apart")

HEAD = statement(select(*COLUMNS).order_by(_b.height.desc()).limit(1), BlockRow)
GENESIS = statement(select(_b.hash, _b.previous_hash).where(_b.height == literal_column("0")), BlockZero)
WAITING = statement(
    select(_l.seq, _l.kind, _l.hash).where(sql(UNSEALED)).order_by(_l.seq).limit(bindparam("count"))
)
WAITING_RUN = statement(
    select(_l.seq, _l.kind, _l.hash)
    .where(sql(UNSEALED), _l.seq >= bindparam("first"), _l.seq <= bindparam("last"))
    .order_by(_l.seq)
)
SELECT_TILE = statement(select(_t.hashes).where(_t.level == bindparam("level"), _t.idx == bindparam("idx")))
INSERT_BLOCK_ONCE = insert_into(Block, on_conflict_ignore=True)
PLACE_RUN = statement(
    update(Leaf)
    .where(sql(UNSEALED), _l.seq >= bindparam("first"), _l.seq <= bindparam("last"))
    .values(leaf_index=_l.seq + bindparam("shift"))
)
INSERT_TILE = insert_into(Tile)
GROW_TILE = statement(
    update(Tile)
    .where(_t.level == bindparam("at_level"), _t.idx == bindparam("at_idx"))
    .values(hashes=bindparam("data"))
)


class Run(NamedTuple):
    """Leaves first..last (by seq, no gaps) whose place in the tree is seq + shift."""

    first: int
    last: int
    shift: int


class Draft(NamedTuple):
    """A block that could be sealed: its row, the leaves' places, the tiles that change, and which of them grew."""

    block: BlockRow
    runs: list[Run]
    tiles: dict[tiles.Tile, bytes]
    grown: frozenset[tiles.Tile]

    @property
    def full(self) -> bool:
        """Whether more leaves wait than one block takes."""
        return self.block.tree_size - self.block.first_leaf == SEAL_LEAVES


def write_genesis(tx: Tx, header: BlockHeader) -> None:
    """Writes block 0 where there is none. `chain.founding` decides what it is."""
    tx.run(
        INSERT_BLOCK_ONCE,
        **BlockRow(
            height=0,
            hash=header.hash,
            previous_hash=header.previous_hash,
            time_ms=header.time_ms,
            first_leaf=0,
            tree_size=0,
            root=header.root,
            transactions=0,
            receipts=0,
            total_transactions=0,
            total_receipts=0,
            proposer="",
            signature="",
            checkpoint="",
            contents="",
        )._asdict(),
    )


def block_zero(tx: Tx) -> BlockZero | None:
    """The genesis block, also of a database that is yet to be upgraded: what is asked for, blocks have always had."""
    row: BlockZero | None = tx.one(GENESIS)
    return row


def head(tx: Tx) -> BlockRow | None:
    """The newest block."""
    row: BlockRow | None = tx.one(HEAD)
    return row


def read_tiles(tx: Tx, wanted: Any) -> dict[tiles.Tile, bytes]:
    """The stored bytes of these tiles; those that do not exist are left out."""
    found: dict[tiles.Tile, bytes] = {}
    for level, idx in wanted:
        row = tx.one(SELECT_TILE, level=level, idx=idx)
        if row is not None:
            found[level, idx] = bytes(row.hashes)
    return found


def draft(tx: Tx, chain_id: str, key: PrivateKey, runs: Iterable[Run] | None = None) -> Draft | None:
    """The next block over the leaves that wait (or over those of them in `runs`); None where none do.

    Costs O(new + log n).
    """
    last = head(tx)
    if runs is None:
        waiting = tx.all(WAITING, count=SEAL_LEAVES)
    else:
        waiting = [row for run in runs for row in tx.all(WAITING_RUN, first=run.first, last=run.last)]
    if last is None or not waiting:
        return None
    size = last.tree_size + len(waiting)
    edge = read_tiles(tx, tiles.right_edge(last.tree_size))
    changed = tiles.grow(last.tree_size, [bytes(row.hash) for row in waiting], edge)
    merged = {**edge, **changed}
    root = tiles.root(size, lambda wanted: {tile: merged[tile] for tile in wanted})
    contents = Counter(KINDS[row.kind].name for row in waiting)
    header = BlockHeader(
        chain_id=chain_id,
        height=last.height + 1,
        previous_hash=last.hash,
        # A clock that was set back must not make a block older than the one before it.
        time_ms=max(tx.now_ms, last.time_ms),
        first_leaf=last.tree_size,
        tree_size=size,
        root=root.hex(),
        proposer=key.key_id,
        version=VERSION_2,
        **counted(contents),
    )
    block = BlockRow(
        height=header.height,
        hash=header.hash,
        previous_hash=header.previous_hash,
        time_ms=header.time_ms,
        first_leaf=header.first_leaf,
        tree_size=header.tree_size,
        root=header.root,
        transactions=header.transactions,
        receipts=header.receipts,
        total_transactions=last.total_transactions + header.transactions,
        total_receipts=last.total_receipts + header.receipts,
        proposer=header.proposer,
        signature=header.sign(key),
        checkpoint=signed_checkpoint(network.of(tx).origin, size, root, key),
        contents=encode(header.contents).decode(),
    )
    return Draft(block, _runs([int(row.seq) for row in waiting], last.tree_size), changed, frozenset(edge))


def seal(tx: Tx, made: Draft) -> bool:
    """Writes the draft. False, with nothing written, where the chain has moved on since it was made."""
    last = head(tx)
    if last is None or last.height != made.block.height - 1 or last.hash != made.block.previous_hash:
        return False
    if tx.run(INSERT_BLOCK_ONCE, **made.block._asdict()) != 1:
        return False  # another coordinator committed this height meanwhile
    placed = sum(tx.run(PLACE_RUN, **run._asdict()) for run in made.runs)
    if placed != made.block.tree_size - made.block.first_leaf:
        raise ForkRefused(height=made.block.height)
    fresh = [tile for tile in made.tiles if tile not in made.grown]
    tx.many(INSERT_TILE, [{"level": t[0], "idx": t[1], "hashes": made.tiles[t]} for t in fresh])
    tx.many(
        GROW_TILE,
        [{"at_level": t[0], "at_idx": t[1], "data": made.tiles[t]} for t in made.tiles if t in made.grown],
    )
    return True


def _runs(seqs: list[int], first_place: int) -> list[Run]:
    """Groups ascending seqs into runs without gaps; nearly always one."""
    runs: list[Run] = []
    begin = 0
    for at in range(1, len(seqs) + 1):
        if at == len(seqs) or seqs[at] != seqs[at - 1] + 1:
            runs.append(Run(seqs[begin], seqs[at - 1], first_place + begin - seqs[begin]))
            begin = at
    return runs


def signed_checkpoint(origin: str, size: int, root: bytes, key: PrivateKey) -> str:
    """The log's signed note over a tree head."""
    text = Checkpoint(origin, size, root).to_text()
    return str(Note(text, (sign_note(text, origin, key),)))
