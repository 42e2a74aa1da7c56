"""Closing the books up to a moment: what a statement says of a time before it is final.

A transfer bears the time at which its transaction began, and is seen once that has committed. Between the two a
statement that ends after its time would leave it out, and the next statement, which begins there, would too. So
before a statement is read, the books are closed up to its end, in a transaction beside which no other writes:
what bears an earlier time has committed by then, and what is written later bears a later one (`Tx.booked_ms`).
"""

from typing import Any

from sqlalchemy import bindparam, func, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.expression import ClauseElement

from aitbc.coordinator.chain.models import Counter
from aitbc.coordinator.database import TURN, Tx, statement
from aitbc.coordinator.database.columns import table_of

NAME = "closed"

_n: Any = table_of(Counter).c
SELECT = statement(select(_n.value).where(_n.name == NAME))


def _write(dialect: str) -> ClauseElement:
    kind: Any = sqlite.insert if dialect == "sqlite" else postgresql.insert
    made = kind(table_of(Counter)).values(name=NAME, value=bindparam("value"), mark="")
    later = made.excluded.value if dialect == "sqlite" else func.greatest(_n.value, made.excluded.value)
    written: ClauseElement = made.on_conflict_do_update(index_elements=["name"], set_={"value": later})
    return written


WRITE = statement(_write)


def closed_ms(tx: Tx) -> int:
    """Up to when the books are closed, ms; 0: never yet."""
    row = tx.one(SELECT)
    return 0 if row is None else int(row.value)


def close(tx: Tx, wanted_ms: int | None, now_ms: int) -> int:
    """Closes the books up to `wanted_ms`, or up to and with `now_ms` where that is earlier or None is wanted.

    Returns up to when they are closed of what was wanted: at most that. Writes only where it must.
    """
    if tx.dialect == "postgresql":
        # Groups hold it alone and other transactions together: behind it none of them is under way.
        tx.query(text(f"SELECT pg_advisory_xact_lock({TURN})"))
    closed = closed_ms(tx)
    end = max(closed, now_ms + 1)
    if wanted_ms is not None:
        end = min(end, wanted_ms)
    if end > closed:
        tx.run(WRITE, value=end)
        tx.books.closed_ms = max(tx.books.closed_ms, end)
    return end
