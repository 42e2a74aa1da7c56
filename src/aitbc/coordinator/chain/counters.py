"""Numbers that are kept rather than counted again, and what accounts did in the log.

Both follow the database from behind: a round reads what is new since the last one (`read` and what a flow
makes of it) and writes it with `advance`, which only one of several coordinators can do from the same value.
"""

from typing import Any, NamedTuple

from sqlalchemy import bindparam, literal_column, select, update
from sqlalchemy import text as sql
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.expression import ClauseElement

from aitbc.coordinator.chain.models import UNMARKED, AccountActivity, Counter
from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import table_of

ACCOUNTS = "accounts"
ACTIVITY = "activity"
FINAL = "final"
JOBS = "jobs"
RAN = "market"
"""The time (ms) in which coordinators ran, as the market's clock counts it."""
SYSTEM_PREFIX = "system:"

_n: Any = table_of(Counter).c
_a: Any = table_of(AccountActivity).c


class Count(NamedTuple):
    """A counter as it stands: its value, and the mark up to which it has counted."""

    value: int
    mark: str


class Activity(NamedTuple):
    """An account in the log: how many sealed transfers name it, the first and the last one's leaf."""

    account_id: str
    transfers: int
    first_leaf: int
    last_leaf: int


NONE = Count(0, "")
COLUMNS = [_a[name] for name in Activity._fields]
SELECT_COUNTER = statement(select(_n.value, _n.mark).where(_n.name == bindparam("name")), Count)
START_COUNTER = insert_into(Counter, on_conflict_ignore=True)
ADVANCE = statement(
    update(Counter)
    .where(_n.name == bindparam("counter"), _n.value == bindparam("before"), _n.mark == bindparam("old_mark"))
    .values(value=_n.value + bindparam("added", type_=_n.value.type), mark=bindparam("new_mark"))
)
ADD = statement(
    update(Counter)
    .where(_n.name == bindparam("counter"))
    .values(value=_n.value + bindparam("added", type_=_n.value.type))
)
SELECT_ACTIVITY = statement(select(*COLUMNS).where(_a.account_id == bindparam("account")), Activity)

SELECT_UNMARKED = statement(select(*COLUMNS).where(sql(UNMARKED)).limit(bindparam("count")), Activity)
SET_MARKED = statement(
    update(AccountActivity)
    .where(_a.account_id == bindparam("account"), _a.marked < bindparam("seen"))
    .values(marked=bindparam("seen"))
)


def _upsert(dialect: str) -> ClauseElement:
    kind: Any = sqlite.insert if dialect == "sqlite" else postgresql.insert
    made = kind(table_of(AccountActivity)).values(
        {**{name: bindparam(name) for name in Activity._fields}, "marked": literal_column("0")}
    )
    grown: ClauseElement = made.on_conflict_do_update(
        index_elements=["account_id"],
        set_={"transfers": _a.transfers + made.excluded.transfers, "last_leaf": made.excluded.last_leaf},
    )
    return grown


GROW = statement(_upsert)


def read(tx: Tx, name: str) -> Count:
    """The counter; `NONE` before its first round."""
    row: Count | None = tx.one(SELECT_COUNTER, name=name)
    return NONE if row is None else row


def advance(tx: Tx, name: str, before: Count, added: int, mark: str = "") -> bool:
    """Adds to a counter that still stands as it was read. False, with nothing changed, where it has moved."""
    if before == NONE:
        tx.run(START_COUNTER, name=name, value=0, mark="")
    moved = tx.run(
        ADVANCE, counter=name, before=before.value, old_mark=before.mark, added=added, new_mark=mark
    )
    return moved == 1


def add(tx: Tx, name: str, added: int) -> None:
    """Adds to a counter."""
    if added and tx.run(ADD, counter=name, added=added) != 1:
        tx.run(START_COUNTER, name=name, value=0, mark="")
        tx.run(ADD, counter=name, added=added)


def activity_of(tx: Tx, account_id: str) -> Activity | None:
    """What the account did in the log; None where no sealed transfer names it."""
    row: Activity | None = tx.one(SELECT_ACTIVITY, account=account_id)
    return row


def unmarked(tx: Tx, count: int) -> list[Activity]:
    """Accounts with MARK_EVERY transfers or more since their balance was marked."""
    return tx.all(SELECT_UNMARKED, count=count)


def set_marked(tx: Tx, account_id: str, transfers: int) -> None:
    """The account's balance was marked when it had so many transfers."""
    tx.run(SET_MARKED, account=account_id, seen=transfers)


def grow_activity(tx: Tx, seen: list[Activity]) -> None:
    """Adds newly sealed transfers, one entry for each account; their leaves come after all taken in before."""
    tx.many(GROW, [one._asdict() for one in seen])
