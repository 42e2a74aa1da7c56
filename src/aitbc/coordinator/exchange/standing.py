"""What a round at the chain reads of the database before it asks a source anything."""

from typing import NamedTuple

from sqlalchemy import func, literal_column, select
from sqlalchemy import text as sql

from aitbc.coordinator.bitcoin.source import BlockRef
from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.exchange import topups, watch
from aitbc.coordinator.exchange.models import FLAGGED, LOCKED, OPEN, BitcoinOutput, Topup
from aitbc.coordinator.exchange.watch import WatchRow

_o = table_of(BitcoinOutput).c
UNPLACED = statement(select(_o.script, _o.height).where(sql(OPEN), _o.gone == literal_column("0")).distinct())
OPEN_TOPUPS = statement(select(func.count().label("count")).select_from(Topup).where(sql(LOCKED)))
NOBODYS = statement(
    select(func.count().label("count")).where(
        _o.topup_id == literal_column("''"), _o.gone == literal_column("0")
    )
)
OWED = statement(select(func.count().label("count")).select_from(BitcoinOutput).where(sql(FLAGGED)))
PAGE = 10_000


class Levels(NamedTuple):
    """What an operator has to know: `age_ms` since the chain and its mempool were last looked at (0: never)."""

    watch: WatchRow | None
    age_ms: int
    open_topups: int
    nobodys: int
    owed: int


class Standing(NamedTuple):
    """How far the watch is. `watch` None: it has not begun.

    blocks  the last ones, the newest first
    number  how many top-ups there are
    from_height  from where the chain has to be read so that all their addresses were looked for
    scripts some that the caller does not have yet, hex, in the order of their numbers
    """

    watch: WatchRow | None
    blocks: list[BlockRef]
    number: int
    from_height: int
    scripts: list[str]


def read(tx: Tx, have: int) -> Standing:
    """For a caller that has the scripts of the first `have` top-ups."""
    found = watch.get(tx)
    if found is None:
        return Standing(None, [], 0, 0, [])
    number = topups.last_number(tx)
    new = topups.looked_from(tx, found.scanned_number)
    from_height = found.scanned_height if new is None else min(found.scanned_height, new)
    page = topups.scripts_from(tx, have, PAGE)
    return Standing(found, watch.blocks(tx), number, from_height, [row.script for row in page])


def levels(tx: Tx) -> Levels:
    """How the exchange is."""
    found = watch.get(tx)
    return Levels(
        found,
        0 if found is None else max(0, tx.now_ms - found.whole_ms),
        int(tx.one(OPEN_TOPUPS).count),
        int(tx.one(NOBODYS).count),
        int(tx.one(OWED).count),
    )


def to_ask(tx: Tx, most: int, common_height: int) -> dict[str, int]:
    """For a source that is asked for addresses: which, and up to which block each was looked at.

    Needed are those of outputs on their way, and of outputs in blocks above `common_height`, which left the chain.
    """
    moving = [row.script for row in tx.all(UNPLACED) if not 0 <= row.height <= common_height]
    return topups.to_ask(tx, dict.fromkeys(moving), most)
