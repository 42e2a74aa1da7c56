"""Who votes for whom: a public register, in which the newest entry of an account is in force.

Delegation goes one step: who votes for others does not hand their votes on. What counts for a proposal is what was in
force at its snapshot.
"""

from typing import Any, NamedTuple

from sqlalchemy import bindparam, exists, func, literal_column, select

from aitbc.coordinator.chain import service as chain
from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.errors import DelegationRefused, ServerBusy
from aitbc.coordinator.governance.models import Delegation
from aitbc.core.log.leaf import DELEGATION, delegation_leaf

MAX_DELEGATORS = 100
"""For so many accounts one votes at most: those that delegated to it first."""
MAX_CHANGES = 10
CHANGES_MS = 86_400_000
"""An account may change its delegation so often in so long."""
TRIES = 100

_table: Any = table_of(Delegation)
_d: Any = _table.c
_newer: Any = _table.alias("newer")


class DelegationRow(NamedTuple):
    """Every column of `delegations`, in the table's order."""

    id: str
    delegator_id: str
    number: int
    delegate_id: str
    at_ms: int


_before: Any = bindparam("before")
_columns = list(_table.columns)
INSERT = insert_into(Delegation, on_conflict_ignore=True)
NEWEST_OF = statement(
    select(*_columns)
    .where(_d.delegator_id == bindparam("account"), _d.at_ms < _before)
    .order_by(_d.number.desc())
    .limit(literal_column("1")),
    DelegationRow,
)
NUMBERED = statement(
    select(*_columns).where(_d.delegator_id == bindparam("account"), _d.number == bindparam("number")),
    DelegationRow,
)
DELEGATORS = statement(
    select(*_columns)
    .where(
        _d.delegate_id == bindparam("account"),
        _d.at_ms < _before,
        ~exists().where(
            _newer.c.delegator_id == _d.delegator_id,
            _newer.c.number > _d.number,
            _newer.c.at_ms < _before,
        ),
    )
    .order_by(_d.at_ms, _d.id)
    .limit(bindparam("count")),
    DelegationRow,
)
COUNT = statement(
    select(func.count().label("delegators")).where(
        _d.delegate_id == bindparam("account"),
        ~exists().where(_newer.c.delegator_id == _d.delegator_id, _newer.c.number > _d.number),
    )
)
ALWAYS = 2**62


def of(tx: Tx, account_id: str, before_ms: int = ALWAYS) -> DelegationRow | None:
    """The account's delegation that was in force before a moment; None where it let nobody vote for it."""
    row: DelegationRow | None = tx.one(NEWEST_OF, account=account_id, before=before_ms)
    return row if row is not None and row.delegate_id else None


def delegators(tx: Tx, account_id: str, before_ms: int = ALWAYS) -> list[DelegationRow]:
    """For whom the account could vote at a moment, who delegated first first."""
    return tx.all(DELEGATORS, account=account_id, before=before_ms, count=MAX_DELEGATORS)


def set_delegate(tx: Tx, delegator_id: str, delegate_id: str) -> DelegationRow:
    """Lets `delegate_id` vote for the account from now on; '' nobody. Gives what is in force, also where it was so.

    Raises DelegationRefused.
    """
    if delegate_id == delegator_id:
        raise DelegationRefused(reason="an account votes for itself without one")
    for _ in range(TRIES):
        last: DelegationRow | None = tx.one(NEWEST_OF, account=delegator_id, before=ALWAYS)
        if last is not None and last.delegate_id == delegate_id:
            return last
        if last is None and not delegate_id:
            raise DelegationRefused(reason="there is none that could be ended")
        number = 1 if last is None else last.number + 1
        if number > MAX_CHANGES:
            old = tx.one(NUMBERED, account=delegator_id, number=number - MAX_CHANGES)
            if old.at_ms > tx.booked_ms - CHANGES_MS:
                raise DelegationRefused(reason=f"it was changed {MAX_CHANGES} times in the last day")
        if delegate_id and int(tx.one(COUNT, account=delegate_id).delegators) >= MAX_DELEGATORS:
            raise DelegationRefused(reason=f"{delegate_id} votes for {MAX_DELEGATORS} others already")
        row = DelegationRow(
            f"delegation:{number}:{delegator_id}", delegator_id, number, delegate_id, tx.booked_ms
        )
        if tx.run(INSERT, **row._asdict()) == 1:
            leaf = delegation_leaf(row.id, row.delegator_id, row.delegate_id, row.at_ms)
            chain.append(tx, DELEGATION, row.id, leaf)
            return row
    raise ServerBusy()
