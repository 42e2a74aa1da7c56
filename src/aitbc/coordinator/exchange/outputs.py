"""Outputs that pay us, and their credits, in the database."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import bindparam, literal_column, select, update
from sqlalchemy import text as sql

from aitbc.coordinator.bitcoin.source import Seen
from aitbc.coordinator.chain import service as chain
from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import among, table_of
from aitbc.coordinator.exchange.models import FLAGGED, OPEN, BitcoinCredit, BitcoinOutput, Topup
from aitbc.coordinator.exchange.states import Output
from aitbc.coordinator.exchange.topups import listing
from aitbc.core.bitcoin import ENTRY, outpoint
from aitbc.core.log.leaf import BITCOIN_CREDIT, bitcoin_credit_leaf
from aitbc.core.transfer_ids import BITCOIN, TransferId

_o: Any = table_of(BitcoinOutput).c
_c: Any = table_of(BitcoinCredit).c
_t: Any = table_of(Topup).c
MOST_LISTED = 1000
_own = _o.id == bindparam("outpoint")


class OutputRow(NamedTuple):
    """Every column of `bitcoin_outputs`, in the table's order."""

    id: str
    topup_id: str
    script: str
    sat: int
    coinbase: int
    height: int
    hash: str
    lost_height: int
    gone: int
    late: int
    events: int
    rate_units: int
    credited_units: int
    reversed: int
    forgiven: int
    final: int
    seen_at_ms: int

    def fact(self, too_large: bool, looked_for: bool = True) -> Output:
        """As the decisions take it."""
        return Output(
            self.id,
            self.sat,
            self.height,
            self.lost_height,
            bool(self.gone),
            bool(self.late),
            bool(self.coinbase),
            self.events,
            too_large,
            looked_for,
        )


COLUMNS = list(table_of(BitcoinOutput).columns)
if OutputRow._fields != tuple(column.name for column in COLUMNS):
    raise RuntimeError("OutputRow and the bitcoin_outputs table have drifted apart")


class Credit(NamedTuple):
    """Every column of `bitcoin_credits`, in the table's order."""

    id: str
    kind: str
    outpoint: str
    topup_id: str
    account_id: str
    sat: int
    rate_units: int
    units: int
    short_units: int
    block_height: int
    block_hash: str
    created_at_ms: int


CREDIT_COLUMNS = list(table_of(BitcoinCredit).columns)
if Credit._fields != tuple(column.name for column in CREDIT_COLUMNS):
    raise RuntimeError("Credit and the bitcoin_credits table have drifted apart")

INSERT = insert_into(BitcoinOutput)
INSERT_CREDIT = insert_into(BitcoinCredit)
SELECT = statement(select(*COLUMNS).where(_own), OutputRow)
SELECT_MANY = statement(
    lambda dialect: select(*COLUMNS).where(among(dialect, "bitcoin_outputs.id", "outpoints")), OutputRow
)
SELECT_OPEN = statement(select(*COLUMNS).where(sql(OPEN)), OutputRow)
OF_TOPUPS = statement(
    lambda dialect: (
        select(*COLUMNS)
        .where(among(dialect, "bitcoin_outputs.topup_id", "topups"))
        .order_by(_o.seen_at_ms, _o.id)
    ),
    OutputRow,
)
PLACE = statement(
    update(BitcoinOutput)
    .where(_own)
    .values(
        height=bindparam("height"),
        hash=bindparam("hash"),
        coinbase=bindparam("coinbase"),
        lost_height=literal_column("-1"),
        gone=0,
        final=0,
    )
)
UNPLACE = statement(
    update(BitcoinOutput)
    .where(_o.height > bindparam("common"))
    .values(height=literal_column("-1"), hash="", lost_height=bindparam("lost"), final=0)
)
GONE = statement(update(BitcoinOutput).where(_own, _o.height == literal_column("-1")).values(gone=1))
FINISH = statement(update(BitcoinOutput).where(_own).values(final=1))
BOOK = statement(
    update(BitcoinOutput)
    .where(_own, _o.events == bindparam("before"))
    .values(
        events=_o.events + 1,
        rate_units=bindparam("rate"),
        credited_units=bindparam("credited"),
        reversed=bindparam("back"),
        forgiven=0,
    )
)
FORGIVE = statement(update(BitcoinOutput).where(_own, sql(FLAGGED)).values(forgiven=1))
ASSIGN = statement(
    update(BitcoinOutput)
    .where(_own, _o.topup_id == literal_column("''"), _o.gone == literal_column("0"))
    .values(topup_id=bindparam("topup"), late=1, final=0)
)
CREDIT = statement(select(*CREDIT_COLUMNS).where(_c.id == bindparam("credit")), Credit)
FLAGGED_OF = statement(
    select(_o.id, _o.credited_units)
    .join(Topup, _t.id == _o.topup_id)
    .where(_t.account_id == bindparam("account"), sql(FLAGGED))
)
FLAGGED_ALL = statement(
    select(_o.id, _t.account_id, _o.credited_units)
    .join(Topup, _t.id == _o.topup_id)
    .where(sql(FLAGGED))
    .order_by(_o.seen_at_ms, _o.id)
)
NOBODYS = statement(
    select(_o.id, _o.sat, _o.seen_at_ms)
    .where(_o.topup_id == literal_column("''"), _o.gone == literal_column("0"))
    .order_by(_o.seen_at_ms, _o.id)
    .limit(MOST_LISTED)
)


def credit_id(output: str, events: int) -> TransferId:
    """The id of the transfer that is an output's event number `events`: even ones credit, odd ones take back."""
    return BITCOIN.of(output if events == 0 else f"{output}:{events}")


def entry_id(output: str, events: int) -> str:
    """What the same event is called in `bitcoin_credits`: the log has each name once."""
    return f"{ENTRY}{credit_id(output, events)}"


def get(tx: Tx, output: str) -> OutputRow | None:
    row: OutputRow | None = tx.one(SELECT, outpoint=output)
    return row


def many(tx: Tx, outpoints: Iterable[str]) -> dict[str, OutputRow]:
    return {row.id: row for row in tx.all(SELECT_MANY, outpoints=listing(outpoints))}


def still_open(tx: Tx) -> list[OutputRow]:
    """Every output about which something can still change."""
    return tx.all(SELECT_OPEN)


def of_topups(tx: Tx, topup_ids: Iterable[str]) -> list[OutputRow]:
    """All outputs of these top-ups, in the order in which they were seen."""
    return tx.all(OF_TOPUPS, topups=listing(topup_ids))


def add(tx: Tx, seen: Seen, topup_id: str, late: bool) -> None:
    """An output that is seen for the first time."""
    block = seen.block
    row = OutputRow(
        id=outpoint(seen.txid, seen.vout),
        topup_id=topup_id,
        script=seen.script.hex(),
        sat=seen.sat,
        coinbase=int(seen.coinbase),
        height=-1 if block is None else block.height,
        hash="" if block is None else block.hash,
        lost_height=-1,
        gone=0,
        late=int(late),
        events=0,
        rate_units=0,
        credited_units=0,
        reversed=0,
        forgiven=0,
        final=0,
        seen_at_ms=tx.now_ms,
    )
    tx.add(INSERT, tuple(row))


def place(tx: Tx, output: str, seen: Seen) -> None:
    """An output is in this block, or in the mempool."""
    height, hashed = (-1, "") if seen.block is None else (seen.block.height, seen.block.hash)
    tx.run(PLACE, outpoint=output, height=height, hash=hashed, coinbase=int(seen.coinbase))


def unplace_above(tx: Tx, common_height: int) -> int:
    """The blocks above this one are no longer in the chain: what was in them is in none now."""
    return tx.run(UNPLACE, common=common_height, lost=common_height)


def are_gone(tx: Tx, outpoints: Iterable[str]) -> int:
    """Outputs that are in no block were not found in the mempool either."""
    return tx.many(GONE, [{"outpoint": output} for output in outpoints])


def are_final(tx: Tx, outpoints: Iterable[str]) -> int:
    return tx.many(FINISH, [{"outpoint": output} for output in outpoints])


def book(tx: Tx, row: OutputRow, made: Credit, credited_units: int, reversed_: bool) -> bool:
    """Writes a credit or reversal, its leaf, and what stands now. False where another was quicker."""
    moved = tx.run(
        BOOK,
        outpoint=row.id,
        before=row.events,
        rate=made.rate_units,
        credited=credited_units,
        back=int(reversed_),
    )
    if moved != 1:
        return False
    tx.add(INSERT_CREDIT, tuple(made))
    chain.append(tx, BITCOIN_CREDIT, made.id, bitcoin_credit_leaf(*made))
    return True


def forgive(tx: Tx, output: str) -> bool:
    """What a reversal could not take back is let be; False where nothing of this output is owed."""
    return tx.run(FORGIVE, outpoint=output) == 1


def assign(tx: Tx, output: str, topup_id: str) -> bool:
    """Says whose an output is that was nobody's. False where it is somebody's."""
    return tx.run(ASSIGN, outpoint=output, topup=topup_id) == 1


def entry(tx: Tx, output: str, events: int) -> Credit | None:
    """An output's credit or reversal of this number."""
    row: Credit | None = tx.one(CREDIT, credit=entry_id(output, events))
    return row


def owed_by(tx: Tx, account_id: str) -> int:
    """Base units that reversals could not take back from an account."""
    return sum(row.credited_units for row in tx.all(FLAGGED_OF, account=account_id))


def owed(tx: Tx) -> list[Any]:
    """Every output whose credit was taken back, but not in full, and not forgiven: id, account_id, credited_units."""
    return tx.all(FLAGGED_ALL)


def nobodys(tx: Tx) -> list[Any]:
    """The oldest outputs that told no top-up: id, sat, seen_at_ms."""
    return tx.all(NOBODYS)
