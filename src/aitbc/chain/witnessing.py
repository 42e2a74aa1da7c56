"""Cosignatures on blocks, and which blocks are final."""

from typing import Any

from sqlalchemy import bindparam, func, select

from aitbc.chain.models import Cosignature
from aitbc.database import Tx, insert_into, statement

_c: Any = Cosignature.__table__.c  # type: ignore[attr-defined]

INSERT_COSIGNATURE = insert_into(Cosignature, on_conflict_ignore=True)
FINAL = statement(
    select(_c.height)
    .group_by(_c.height)
    .having(func.count() >= bindparam("quorum"))
    .order_by(_c.height.desc())
    .limit(1)
)
COUNT = statement(select(func.count().label("count")).where(_c.height == bindparam("height")))
WITNESSES_OF = statement(select(_c.witness).where(_c.height == bindparam("height")))


def record(tx: Tx, height: int, witness: str, line: str) -> bool:
    """Keeps a witness's verified signature line on a block. False where it stood already."""
    made = tx.run(INSERT_COSIGNATURE, height=height, witness=witness, line=line, at_ms=tx.now_ms) == 1
    if made:
        tx.signal(("cosigned", height))
    return made


def final_height(tx: Tx, quorum: int) -> int | None:
    """The newest block that `quorum` witnesses cosigned; it and all before it are final. None where none is.

    Without witnesses (quorum 0) nothing outside the operator vouches for a block, so none is final.
    """
    if quorum <= 0:
        return None
    row = tx.one(FINAL, quorum=quorum)
    return None if row is None else int(row.height)


def count(tx: Tx, height: int) -> int:
    """How many witnesses cosigned the block."""
    return int(tx.one(COUNT, height=height).count)


def witnesses_of(tx: Tx, height: int) -> set[str]:
    """The names of the witnesses that cosigned the block."""
    return {str(row.witness) for row in tx.all(WITNESSES_OF, height=height)}
