"""How far the chain was looked at: one row that only one round at a time can move, and the last blocks' hashes."""

from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, select, update

from aitbc.coordinator.bitcoin.source import BlockRef
from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.exchange.models import BitcoinBlock, BitcoinWatch
from aitbc.coordinator.exchange.states import FINAL_DEPTH

_w: Any = table_of(BitcoinWatch).c
_b: Any = table_of(BitcoinBlock).c


class WatchRow(NamedTuple):
    """Every column of `bitcoin_watch`, in the table's order."""

    id: int
    version: int
    genesis: str
    height: int
    hash: str
    scanned_height: int
    scanned_number: int
    whole_ms: int


COLUMNS = list(table_of(BitcoinWatch).columns)
if WatchRow._fields != tuple(column.name for column in COLUMNS):
    raise RuntimeError("WatchRow and the bitcoin_watch table have drifted apart")

INSERT = insert_into(BitcoinWatch, on_conflict_ignore=True)
SELECT = statement(select(*COLUMNS), WatchRow)
MOVE = statement(
    update(BitcoinWatch)
    .where(_w.version == bindparam("before"))
    .values(
        version=_w.version + 1,
        height=bindparam("at"),
        hash=bindparam("block"),
        scanned_height=bindparam("scanned"),
        scanned_number=bindparam("up_to"),
        whole_ms=bindparam("whole"),
    )
)
INSERT_BLOCK = insert_into(BitcoinBlock)
BLOCKS = statement(select(_b.height, _b.hash).order_by(_b.height.desc()))
FORGET_ABOVE = statement(delete(BitcoinBlock).where(_b.height > bindparam("last")))
FORGET_BELOW = statement(delete(BitcoinBlock).where(_b.height < bindparam("first")))


def get(tx: Tx) -> WatchRow | None:
    """None before the chain was looked at for the first time."""
    row: WatchRow | None = tx.one(SELECT)
    return row


def begin(tx: Tx, genesis: str, last: list[BlockRef]) -> bool:
    """From here on the chain is watched: `last` are its last blocks, the tip at the end. False where it is already."""
    tip = last[-1]
    row = WatchRow(1, 0, genesis, tip.height, tip.hash, tip.height, 0, tx.now_ms)
    if tx.run(INSERT, **row._asdict()) != 1:
        return False
    remember(tx, last)
    return True


def move(tx: Tx, row: WatchRow, to: WatchRow) -> bool:
    """False where another round moved it since `row` was read: then this one has nothing to say."""
    return (
        tx.run(
            MOVE,
            before=row.version,
            at=to.height,
            block=to.hash,
            scanned=to.scanned_height,
            up_to=to.scanned_number,
            whole=to.whole_ms,
        )
        == 1
    )


def blocks(tx: Tx) -> list[BlockRef]:
    """The last blocks that are known, the newest first."""
    return [BlockRef(row.height, row.hash) for row in tx.all(BLOCKS)]


def remember(tx: Tx, new: list[BlockRef]) -> None:
    tx.many(INSERT_BLOCK, [{"height": block.height, "hash": block.hash} for block in new])


def forget(tx: Tx, above: int, tip_height: int) -> None:
    """Blocks above a height are no longer in the chain; those too deep to leave it are kept no longer.

    The one at that height is: after a long outage it may be the only one that is known below the tip.
    """
    tx.run(FORGET_ABOVE, last=above)
    tx.run(FORGET_BELOW, first=min(above, tip_height - FINAL_DEPTH))
