"""What outsiders ask of the log: its checkpoint, its tiles, proofs. All read from stored rows."""

from typing import Any, NamedTuple

from sqlalchemy import bindparam, func, select

from aitbc.coordinator.chain.models import Block, Cosignature, Leaf
from aitbc.coordinator.chain.sealer import COLUMNS, BlockRow, head, read_tiles
from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.errors import InvalidRequest, NotFound, NotSealed
from aitbc.core.log import tiles
from aitbc.core.log.note import Note, parse_note, parse_signature_line
from aitbc.core.log.tlog_proof import format_proof

_l: Any = table_of(Leaf).c
_b: Any = table_of(Block).c
_c: Any = table_of(Cosignature).c

LOOKED_AT = 16  # newest cosigned blocks that a proof chooses among

LEAF_OF = statement(select(_l.seq, _l.kind, _l.leaf_index, _l.hash).where(_l.ref_id == bindparam("ref")))
BLOCK_AT = statement(select(*COLUMNS).where(_b.height == bindparam("height")), BlockRow)
BLOCK_OF_LEAF = statement(
    select(*COLUMNS).where(_b.tree_size > bindparam("leaf")).order_by(_b.tree_size).limit(1), BlockRow
)
LINES = statement(select(_c.line).where(_c.height == bindparam("height")).order_by(_c.witness))
COSIGNED = statement(
    select(_c.height, func.count().label("count"))
    .group_by(_c.height)
    .order_by(_c.height.desc())
    .limit(LOOKED_AT)
)


def block_at(tx: Tx, height: int) -> BlockRow | None:
    row: BlockRow | None = tx.one(BLOCK_AT, height=height)
    return row


def block_of_leaf(tx: Tx, leaf_index: int) -> BlockRow:
    """The block that sealed the leaf. Raises NotFound."""
    row: BlockRow | None = tx.one(BLOCK_OF_LEAF, leaf=leaf_index)
    if row is None:
        raise NotFound()
    return row


def checkpoint_of(tx: Tx, block: BlockRow) -> str:
    """The block's checkpoint with every cosignature that it has, as one signed note."""
    note = parse_note(block.checkpoint)
    lines = [parse_signature_line(row.line.rstrip("\n")) for row in tx.all(LINES, height=block.height)]
    return str(Note(note.text, (*note.signatures, *lines)))


def latest_checkpoint(tx: Tx) -> str | None:
    """The newest checkpoint; None while the log is empty, which no block says."""
    last = head(tx)
    return checkpoint_of(tx, last) if last is not None and last.checkpoint else None


def best_block_for(tx: Tx, leaf_index: int) -> BlockRow:
    """The block whose checkpoint proves this leaf: the one that most witnesses vouch for, else its own.

    Looked for among the newest cosigned ones: later blocks contain the leaf as well.
    """
    own = block_of_leaf(tx, leaf_index)
    vouched = [row for row in tx.all(COSIGNED) if row.height >= own.height]
    if not vouched:
        return own
    best = max(vouched, key=lambda row: (row.count, -row.height))
    return block_at(tx, int(best.height)) or own


class Place(NamedTuple):
    """Where the log has a transfer or receipt: leaf hash (hex), index and block; None until it is sealed."""

    hash: str
    leaf_index: int | None
    height: int | None


def place_of(tx: Tx, ref_id: str) -> Place | None:
    """Where a transfer or receipt is in the log; None for an id that is neither."""
    row = tx.one(LEAF_OF, ref=ref_id)
    if row is None:
        return None
    if row.leaf_index is None:
        return Place(bytes(row.hash).hex(), None, None)
    index = int(row.leaf_index)
    return Place(bytes(row.hash).hex(), index, block_of_leaf(tx, index).height)


def proof_of(tx: Tx, ref_id: str, retry_after_s: float) -> str:
    """The tlog-proof of a transfer or receipt. Raises NotFound, NotSealed (with when to ask again)."""
    row = tx.one(LEAF_OF, ref=ref_id)
    if row is None:
        raise NotFound()
    if row.leaf_index is None:
        raise NotSealed(retry_after_s=max(1, round(retry_after_s)))
    return _proof(tx, int(row.leaf_index))


def proof_if_sealed(tx: Tx, ref_id: str) -> str | None:
    """The tlog-proof of a transfer or receipt; None until a block seals it."""
    row = tx.one(LEAF_OF, ref=ref_id)
    return None if row is None or row.leaf_index is None else _proof(tx, int(row.leaf_index))


def _proof(tx: Tx, leaf_index: int) -> str:
    block = best_block_for(tx, leaf_index)
    hashes = tiles.inclusion_proof(leaf_index, block.tree_size, lambda wanted: read_tiles(tx, wanted))
    return format_proof(leaf_index, hashes, checkpoint_of(tx, block))


def consistency(tx: Tx, old_size: int, new_size: int) -> list[bytes]:
    """The RFC 6962 consistency proof between two sizes. Raises InvalidRequest for sizes that never were."""
    last = head(tx)
    stored = 0 if last is None else last.tree_size
    if not 0 <= old_size <= new_size <= stored:
        raise InvalidRequest(
            f"Sizes go from 0 to {stored}, the older first.", old=old_size, new=new_size, tree_size=stored
        )
    return tiles.consistency_proof(old_size, new_size, lambda wanted: read_tiles(tx, wanted))


def tile(tx: Tx, level: int, index: int, width: int) -> bytes:
    """The bytes of a hash tile (32 for each hash). Raises NotFound where no checkpoint has such a tile."""
    last = head(tx)
    size = 0 if last is None else last.tree_size
    if tiles.width_in(size, level, index) < width:
        raise NotFound()
    stored = read_tiles(tx, [(level, index)]).get((level, index), b"")
    data = stored[: width * 32]
    if len(data) != width * 32:
        raise NotFound()
    return data
