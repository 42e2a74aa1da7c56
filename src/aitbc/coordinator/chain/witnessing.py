"""Cosignatures on blocks, and which blocks are final."""

from typing import Any, NamedTuple

from sqlalchemy import bindparam, func, select

from aitbc.coordinator.chain import counters
from aitbc.coordinator.chain.counters import Count
from aitbc.coordinator.chain.models import Cosignature
from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import table_of

_c: Any = table_of(Cosignature).c

LATE_BLOCKS = 1024
"""Only the newest block is brought to witnesses: no line comes later than so many blocks after its own."""

INSERT_COSIGNATURE = insert_into(Cosignature, on_conflict_ignore=True)
FINAL = statement(
    select(_c.height)
    .where(_c.height > bindparam("above"))
    .group_by(_c.height)
    .having(func.count() >= bindparam("quorum"))
    .order_by(_c.height.desc())
    .limit(1)
)
NEWEST = statement(select(func.max(_c.height).label("height")))
COUNT = statement(select(func.count().label("count")).where(_c.height == bindparam("height")))
WITNESSES_OF = statement(select(_c.witness).where(_c.height == bindparam("height")))


def record(tx: Tx, height: int, witness: str, line: str) -> bool:
    """Keeps a witness's verified signature line on a block. False where it stood already."""
    return tx.run(INSERT_COSIGNATURE, height=height, witness=witness, line=line, at_ms=tx.now_ms) == 1


def final_height(tx: Tx, quorum: int) -> int | None:
    """The newest block that `quorum` witnesses cosigned; it and all before it are final. None where none is.

    Without witnesses (quorum 0) nothing outside the operator vouches for a block, so none is final.
    """
    return _finality(tx, quorum).height or None if quorum > 0 else None


class Finality(NamedTuple):
    """The newest final block (0 for none) as of the newest cosigned one, and what of that is kept so far."""

    height: int
    looked_to: int
    kept: Count


def _finality(tx: Tx, quorum: int) -> Finality:
    """Looks at what is new since it was last kept, so that a long outage of a witness makes nothing slow."""
    kept = counters.read(tx, counters.FINAL)
    of_quorum, _, looked_to = kept.mark.partition(":")
    same = of_quorum == str(quorum)
    known = kept.value if same else 0
    above = max(known, int(looked_to) - LATE_BLOCKS) if same else 0
    row = tx.one(FINAL, quorum=quorum, above=above)
    newest = tx.one(NEWEST).height
    return Finality(known if row is None else int(row.height), newest or 0, kept)


def draft_finality(tx: Tx, quorum: int) -> Finality | None:
    """What is worth keeping: a newer final block, or a long way looked through; None where nothing is."""
    if quorum <= 0:
        return None
    found = _finality(tx, quorum)
    of_quorum, _, looked_to = found.kept.mark.partition(":")
    same = of_quorum == str(quorum)
    if same and found.height == found.kept.value and found.looked_to - int(looked_to) < LATE_BLOCKS // 2:
        return None
    return found


def keep_finality(tx: Tx, quorum: int, found: Finality) -> bool:
    """Keeps it. False, with nothing written, where another coordinator did meanwhile."""
    mark = f"{quorum}:{found.looked_to}"
    return counters.advance(tx, counters.FINAL, found.kept, found.height - found.kept.value, mark)


def count(tx: Tx, height: int) -> int:
    """How many witnesses cosigned the block."""
    return int(tx.one(COUNT, height=height).count)


def witnesses_of(tx: Tx, height: int) -> set[str]:
    """The names of the witnesses that cosigned the block."""
    return {str(row.witness) for row in tx.all(WITNESSES_OF, height=height)}
