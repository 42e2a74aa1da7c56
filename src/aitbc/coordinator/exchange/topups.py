"""Top-ups in the database: made, found, moved from state to state by guarded updates."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import bindparam, case, func, literal_column, or_, select, update
from sqlalchemy import text as sql

from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import among, table_of
from aitbc.coordinator.exchange.models import LOCKED, RESERVED, BitcoinKey, Topup
from aitbc.coordinator.exchange.states import TRANSITIONS

NUMBERS = ""
"""The row of `bitcoin_keys` that numbers top-ups."""
BLOCKS_AGAIN = 6
"""That are asked for once more by address: a server, or one of several, may have the tip before what is in it."""
RESERVED_MS = 90 * 86_400_000
"""So long after its lock a top-up's amount on the common address is still its own."""

_t: Any = table_of(Topup).c
_k: Any = table_of(BitcoinKey).c


class TopupRow(NamedTuple):
    """Every column of `topups`, in the table's order."""

    id: str
    number: int
    account_id: str
    state: str
    exception: str
    ait_units: int
    sat: int
    rate_units: int
    address: str
    script: str
    told_by_sat: int | None
    key_id: str
    key_index: int
    lock_over: int
    expires_at_ms: int
    looked_height: int
    asked_ms: int
    created_at_ms: int
    updated_at_ms: int


COLUMNS = list(table_of(Topup).columns)
if TopupRow._fields != tuple(column.name for column in COLUMNS):
    raise RuntimeError("TopupRow and the topups table have drifted apart")

INSERT = insert_into(Topup, on_conflict_ignore=True)
SELECT = statement(select(*COLUMNS).where(_t.id == bindparam("topup")), TopupRow)
SELECT_MANY = statement(
    lambda dialect: select(*COLUMNS).where(among(dialect, "topups.id", "topups")), TopupRow
)
OF_OWN_SCRIPTS = statement(
    lambda dialect: select(*COLUMNS).where(
        among(dialect, "topups.script", "scripts"), _t.told_by_sat == literal_column("0")
    ),
    TopupRow,
)
OF_AMOUNT = statement(
    select(*COLUMNS).where(_t.script == bindparam("script"), _t.told_by_sat == bindparam("sat")), TopupRow
)
INSERT_KEY = insert_into(BitcoinKey, on_conflict_ignore=True)
NEXT = statement(
    update(BitcoinKey)
    .where(_k.id == bindparam("key"))
    .values(next_index=_k.next_index + 1)
    .returning((_k.next_index - 1).label("index"))
)
KEYS = statement(select(_k.id, _k.next_index).where(_k.id != NUMBERS).order_by(_k.id))
LAST_NUMBER = statement(select(_k.next_index).where(_k.id == NUMBERS))
WAITING = statement(
    select(func.count(case((_t.state == "pending", 1))).label("open"), func.count().label("unpaid")).where(
        _t.account_id == bindparam("account"),
        _t.created_at_ms > bindparam("since"),
        or_(_t.state == literal_column("'pending'"), _t.state == literal_column("'expired'")),
    )
)
TAKEN = statement(
    select(_t.told_by_sat).where(
        _t.script == bindparam("script"),
        _t.told_by_sat >= bindparam("least"),
        _t.told_by_sat <= bindparam("most"),
    )
)
MOVE = statement(
    update(Topup)
    .where(_t.id == bindparam("topup"), _t.state == bindparam("before"))
    .values(state=bindparam("after"), exception=bindparam("exception"), updated_at_ms=bindparam("now"))
)
_expired = case(
    ((_t.state == literal_column("'pending'")) & (_t.exception == literal_column("'none'")), "expired"),
    else_=_t.state,
)
_ends = {"lock_over": 1, "state": _expired, "updated_at_ms": bindparam("now")}
END_LOCKS = statement(update(Topup).where(sql(LOCKED), _t.expires_at_ms <= bindparam("until")).values(_ends))
END_LOCKS_OF = statement(
    lambda dialect: (
        update(Topup)
        .where(
            sql(LOCKED), _t.expires_at_ms <= bindparam("until"), among(dialect, "topups.script", "scripts")
        )
        .values(_ends)
    )
)
FREE_AMOUNTS = statement(
    update(Topup)
    .where(sql(RESERVED), _t.lock_over == 1, _t.expires_at_ms <= bindparam("until"))
    .values(told_by_sat=None)
)
ASKED = statement(
    lambda dialect: (
        update(Topup)
        .where(among(dialect, "topups.script", "scripts"))
        .values(
            looked_height=case(
                (_t.looked_height > bindparam("at"), _t.looked_height), else_=bindparam("height")
            ),
            asked_ms=bindparam("now"),
        )
    )
)
LOOK_AGAIN = statement(
    update(Topup).where(_t.looked_height > bindparam("common")).values(looked_height=bindparam("height"))
)
SCRIPTS_FROM = statement(
    select(_t.number, _t.script)
    .where(_t.number >= bindparam("number"))
    .order_by(_t.number)
    .limit(bindparam("count"))
)
LOOKED_FROM = statement(
    select(func.min(_t.looked_height).label("height")).where(_t.number >= bindparam("number"))
)
ASKABLE = select(_t.script, func.min(_t.looked_height).label("height")).group_by(_t.script)
LOCKED_SCRIPTS = statement(
    ASKABLE.where(sql(LOCKED)).order_by(func.min(_t.asked_ms), _t.script).limit(bindparam("count"))
)
SCRIPTS_IN_TURN = statement(
    ASKABLE.where(_t.number.in_(select(_t.number).order_by(_t.asked_ms, _t.number).limit(bindparam("count"))))
)
SCRIPTS_NAMED = statement(
    lambda dialect: (
        ASKABLE.where(among(dialect, "topups.script", "scripts"))
        .order_by(func.min(_t.asked_ms), _t.script)
        .limit(bindparam("count"))
    )
)


def take_index(tx: Tx, key_id: str) -> int:
    """The next index of a key, or number of a top-up, never given twice; others wait until this one is decided."""
    row = tx.one(NEXT, key=key_id)
    if row is None:
        tx.run(INSERT_KEY, id=key_id, next_index=0)
        row = tx.one(NEXT, key=key_id)
    return int(row.index)


def next_indexes(tx: Tx) -> dict[str, int]:
    """By extended key: the index that its next address will have."""
    return {row.id: row.next_index for row in tx.all(KEYS)}


def last_number(tx: Tx) -> int:
    """How many top-ups were made: each has a number below."""
    row = tx.one(LAST_NUMBER)
    return 0 if row is None else int(row.next_index)


def add(tx: Tx, row: TopupRow) -> bool:
    """False where its amount on the common address is another's."""
    return tx.run(INSERT, **row._asdict()) == 1


def get(tx: Tx, topup_id: str) -> TopupRow | None:
    row: TopupRow | None = tx.one(SELECT, topup=topup_id)
    return row


def many(tx: Tx, topup_ids: Iterable[str]) -> dict[str, TopupRow]:
    return {row.id: row for row in tx.all(SELECT_MANY, topups=listing(topup_ids))}


def with_scripts(tx: Tx, scripts: Iterable[str]) -> dict[str, TopupRow]:
    """By script: the top-up that has the address for itself."""
    return {row.script: row for row in tx.all(OF_OWN_SCRIPTS, scripts=listing(scripts))}


def told_by(tx: Tx, script: str, sat: int) -> TopupRow | None:
    """The top-up on the common address that is paid by this very amount."""
    row: TopupRow | None = tx.one(OF_AMOUNT, script=script, sat=sat)
    return row


def waiting(tx: Tx, account_id: str, since_ms: int) -> tuple[int, int]:
    """Of an account since a time: top-ups that wait for money, and all to which none came."""
    row = tx.one(WAITING, account=account_id, since=since_ms)
    return int(row.open), int(row.unpaid)


def free_amount(tx: Tx, script: str, least: int, most: int) -> int | None:
    """The least amount that no top-up on this script is told by; None where all are taken."""
    taken = {row.told_by_sat for row in tx.all(TAKEN, script=script, least=least, most=most)}
    return next((sat for sat in range(least, most + 1) if sat not in taken), None)


def move(tx: Tx, row: TopupRow, state: str, exception: str) -> bool:
    """False where it is no longer as `row` has it. Only as TRANSITIONS has it, or within a state."""
    if state != row.state and state not in TRANSITIONS[row.state]:
        raise RuntimeError(f"a top-up does not go from {row.state} to {state}")
    return tx.run(MOVE, topup=row.id, before=row.state, after=state, exception=exception, now=tx.now_ms) == 1


def end_locks(tx: Tx, until_ms: int, scripts: Sequence[str] | None) -> int:
    """A look that began at `until_ms` has seen these addresses (None: all): locks that ended before are over."""
    if scripts is None:
        return tx.run(END_LOCKS, until=until_ms, now=tx.now_ms)
    return tx.run(END_LOCKS_OF, until=until_ms, scripts=listing(scripts), now=tx.now_ms)


def free_amounts(tx: Tx) -> int:
    """Amounts on the common address that nobody is likely to pay any more can be another's."""
    return tx.run(FREE_AMOUNTS, until=tx.now_ms - RESERVED_MS)


def looked_at(tx: Tx, scripts: Sequence[str], height: int) -> None:
    """These addresses were asked for by themselves, up to this block; the last ones will be asked for again.

    Never from before a top-up was made: what was paid to a common address by then is nobody's.
    """
    again = height - BLOCKS_AGAIN
    tx.run(ASKED, scripts=listing(scripts), height=again, at=again, now=tx.now_ms)


def look_again(tx: Tx, above: int) -> int:
    """Blocks above this one left the chain: what is in others in their place was not looked at for any address."""
    return tx.run(LOOK_AGAIN, common=above, height=above)


def listing(values: Iterable[str]) -> str:
    """A list as statements with `among` take it."""
    return orjson.dumps(list(values)).decode()


def scripts_from(tx: Tx, number: int, count: int) -> list[Any]:
    """(number, script) of top-ups with this number or a later one, by number."""
    return tx.all(SCRIPTS_FROM, number=number, count=count)


def looked_from(tx: Tx, number: int) -> int | None:
    """Up to where the addresses of all top-ups from this number on were looked at; None where there is none."""
    row = tx.one(LOOKED_FROM, number=number)
    return None if row.height is None else int(row.height)


def to_ask(tx: Tx, needed: Iterable[str], most: int) -> dict[str, int]:
    """Which scripts to ask for by themselves, and up to which block each was looked at.

    Those not asked for longest first: a third of `most` for what is `needed`, a third for what still waits, and
    what is left for all: whoever pays many addresses keeps no other from being asked for.
    """
    found = {
        row.script: int(row.height)
        for row in tx.all(SCRIPTS_NAMED, scripts=listing(needed), count=max(1, most // 3))
    }
    for query, room in ((LOCKED_SCRIPTS, most - most // 3), (SCRIPTS_IN_TURN, most)):
        for row in tx.all(query, count=most):
            if len(found) < room:
                found.setdefault(row.script, int(row.height))
    return found
