"""Fills a database with payments with Bitcoin that are on their way, and looks at the chain once more."""

from __future__ import annotations

import time

from aitbc.coordinator.bitcoin.source import BlockRef, Look, Seen
from aitbc.coordinator.config import Settings
from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.exchange import standing, topups, watch
from aitbc.coordinator.exchange.looking import Plan, check
from aitbc.coordinator.exchange.terms import Terms
from aitbc.coordinator.exchange.topups import TopupRow
from aitbc.coordinator.flows.acts import bitcoin
from aitbc.coordinator.ledger import service as ledger
from benchmarks.databases import Prepared

ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
ACCOUNTS = 1_000
LARGE_SAT = 50_000_000
"""Needs six confirmations: nothing is credited while a round is measured."""


def pass_ms(prepared: Prepared, payments: int, rounds: int) -> tuple[list[float], float]:
    """What a round takes with so many payments, half in the mempool and half in a block, when a block has come, in ms;
    then how many credits are written in a second.
    """
    settings = Settings(
        database_url="sqlite:///unused.db", bitcoin_address=ADDRESS, bitcoin_rpc_url="http://unused"
    )
    terms = Terms.of(settings)
    database = Database.open(prepared.url)
    try:
        database.write_sync(_fill, payments)
        seen = _seen(payments, _block(101))
        _look(database, terms, [_block(101)], seen)  # all of them are new
        took = []
        for number in range(rounds):
            began = time.perf_counter()
            _look(database, terms, [_block(102 + number)], [one for one in seen if one.block is None])
            took.append((time.perf_counter() - began) * 1000)
        began, credited = time.perf_counter(), 0
        recorded = _look(database, terms, [_block(200 + number) for number in range(8)], [], whole=False)
        credited += recorded.credits
        while recorded.more:
            recorded = _look(database, terms, [], [], whole=False)
            credited += recorded.credits
        return took, credited / (time.perf_counter() - began)
    finally:
        database.close()


def _fill(tx: Tx, payments: int) -> None:
    for number in range(ACCOUNTS):
        ledger.open_account(tx, f"payer-{number}")
    watch.begin(tx, "0" * 64, [_block(100)])
    for number in range(payments):
        topups.take_index(tx, topups.NUMBERS)
        row = TopupRow(
            id=f"019b7c1e-5a46-7000-8000-{number:012d}",
            number=number,
            account_id=f"payer-{number % ACCOUNTS}",
            state="pending",
            exception="none",
            ait_units=1,
            sat=LARGE_SAT,
            rate_units=100_000,
            address=ADDRESS,
            script=_script(number).hex(),
            told_by_sat=0,
            key_id="bench",
            key_index=number,
            lock_over=0,
            expires_at_ms=tx.now_ms + 3_600_000,
            looked_height=100,
            asked_ms=0,
            created_at_ms=tx.now_ms,
            updated_at_ms=tx.now_ms,
        )
        if not topups.add(tx, row):
            raise RuntimeError("a payment was there already")


def _look(
    database: Database, terms: Terms, blocks: list[BlockRef], seen: list[Seen], *, whole: bool = True
) -> bitcoin.Recorded:
    found = database.read_sync(standing.read, 1 << 60)
    if found.watch is None:
        raise RuntimeError("the watch has not begun")
    common = found.blocks[0]
    plan = Plan(found.watch, common, common, found.number, None, int(time.time() * 1000))
    look = Look(blocks[-1] if blocks else common, whole, tuple(blocks), tuple(seen))
    check(plan, look, None)
    recorded = database.write_sync(bitcoin.record, terms, plan, look)
    if not recorded.moved:
        raise RuntimeError("somebody else moved the watch")
    return recorded


def _seen(payments: int, block: BlockRef) -> list[Seen]:
    return [
        Seen(f"{number:064x}", 0, _script(number), LARGE_SAT, block if number % 2 else None)
        for number in range(payments)
    ]


def _script(number: int) -> bytes:
    return b"\x00\x14" + number.to_bytes(20, "big")


def _block(height: int) -> BlockRef:
    return BlockRef(height, f"{height:064x}")
