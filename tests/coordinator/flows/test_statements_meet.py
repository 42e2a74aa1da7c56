"""Statements that are read while money moves: they meet, and their pages add up. Threads, groups, two processes."""

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from sqlalchemy import text

from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.flows.acts.onboarding import issue_key
from aitbc.coordinator.flows.views import statement
from aitbc.coordinator.ledger import closing
from aitbc.coordinator.ledger import service as ledger
from aitbc.core.clock import ManualClock, SteadyClock, SystemClock
from aitbc.core.transfer_ids import GRANT, GRANTED, new_transfer_id
from tests.support.server import ServerProcess
from tests.support.transfers import signed_of

ROUNDS = 25
HTTP_ROUNDS = 8


class Skewed(SystemClock):
    """A machine whose clock is a little wrong."""

    def __init__(self, by_ms: int) -> None:
        self.by_ms = by_ms

    def now_ms(self) -> int:
        return super().now_ms() + self.by_ms


def pay(tx: Tx, pause_s: float) -> None:
    """A transfer whose transaction takes a while between its time and its commit."""
    ledger.transfer(tx, new_transfer_id(tx.now_ms), "alice", "bob", 1, ref=signed_of())
    time.sleep(pause_s)


def open_accounts(tx: Tx) -> None:
    ledger.open_system_accounts(tx)
    for name in ("alice", "bob"):
        ledger.open_account(tx, name)
    ledger.mint(tx, GRANT.of("alice"), "alice", 10**9, GRANTED)


@contextmanager
def moving(url: str) -> Iterator[None]:
    """Money moves in four ways at once, on machines whose clocks differ."""
    going = True

    def alone(by_ms: int) -> None:
        database = Database.open(url, Skewed(by_ms))
        while going:
            database.write_sync(pay, 0.003)
            time.sleep(0.01)  # SQLite's lock is not handed over in turn
        database.close()

    async def grouped(by_ms: int) -> None:
        database = Database.open(url, Skewed(by_ms))
        await database.start()
        while going:
            await asyncio.gather(*(database.write(pay, 0.001) for _ in range(4)))
            await asyncio.sleep(0.01)
        await database.stop()

    threads = [threading.Thread(target=alone, args=(by_ms,)) for by_ms in (0, 120)]
    threads += [
        threading.Thread(target=lambda by_ms=by_ms: asyncio.run(grouped(by_ms))) for by_ms in (0, -120)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        going = False
        for thread in threads:
            thread.join(60)


def statement_of(database: Database, account: str, start: int) -> tuple[statement.Totals, int, list[int]]:
    """A whole statement from `start` on: its totals, its end, and the amounts of all pages."""
    end = database.write_sync(statement.settle, start, None, database.clock.now_ms())
    cursor: str | None = None
    pages: list[statement.StatementPage] = []
    while not pages or cursor is not None:
        pages.append(database.read_sync(statement.read, account, start, end, 7, cursor))
        cursor = pages[-1].next_cursor
    totals = pages[0].totals
    assert totals is not None
    return totals, end, [row.amount_units for page in pages for row in page.rows]


def test_they_meet_and_add_up(database_url: str) -> None:
    database = Database.open(database_url)
    database.write_sync(open_accounts)
    with moving(database_url):
        for account in ("alice", "bob"):
            start, closed_with, moved = 0, 0, 0
            for _ in range(ROUNDS):
                totals, end, amounts = statement_of(database, account, start)
                assert totals.opening_units == closed_with
                assert totals.closing_units - totals.opening_units == sum(amounts)
                assert totals.movements == len(amounts)
                start, closed_with, moved = end, totals.closing_units, moved + len(amounts)
            _, _, amounts = statement_of(database, account, 0)
            assert len(amounts) >= moved
    time.sleep(0.2)  # what a clock that is ahead has booked lies in the past now
    totals, _, amounts = statement_of(database, "alice", 0)
    units = database.read_sync(ledger.balance, "alice").balance_units
    assert (totals.closing_units, sum(amounts)) == (units, units)
    database.close()


def test_what_was_closed_stays_closed(database_url: str) -> None:
    """A coordinator whose clock is behind books no earlier than what a statement ended with."""
    ahead, behind = (Database.open(database_url, ManualClock(by_ms)) for by_ms in (2_000_000, 1_000_000))
    behind.write_sync(open_accounts)
    end = ahead.write_sync(statement.settle, 0, None, ahead.clock.now_ms())
    assert end == 2_000_001
    before = ahead.read_sync(statement.read, "alice", 0, end, 100, None)

    async def one() -> None:
        await behind.start()
        await behind.write(pay, 0)

    behind.write_sync(pay, 0)
    asyncio.run(one())
    assert ahead.read_sync(statement.read, "alice", 0, end, 100, None) == before
    later = ahead.read_sync(statement.read, "alice", end, end + 1, 100, None)
    assert [row.time_ms for row in later.rows] == [end, end]
    assert before.totals is not None
    assert later.totals is not None
    assert later.totals.opening_units == before.totals.closing_units
    assert ahead.read_sync(closing.closed_ms) == end
    assert ahead.write_sync(statement.settle, 0, 5, 0) == 5
    assert ahead.write_sync(statement.settle, 0, None, 0) == end
    ahead.close()
    behind.close()


def test_what_is_yet_to_come_is_not_closed(db: Database, clock: ManualClock) -> None:
    now = clock.now_ms()
    db.write_sync(open_accounts)
    db.write_sync(
        lambda tx: tx.change(text("INSERT INTO counters VALUES ('accounts', 7, ''), ('jobs', 8, '')"))
    )
    assert db.read_sync(closing.closed_ms) == 0
    assert db.write_sync(statement.settle, 0, now + 10**9, now) == now + 1
    assert db.write_sync(statement.settle, now + 5, now + 9, now) == now + 5
    assert db.read_sync(closing.closed_ms) == now + 1
    assert not db.read_sync(statement.settled, now + 2)
    assert not db.read_sync(statement.settled, None)
    assert db.read_sync(statement.settled, now + 1)


def test_who_closes_books_later(db: Database, clock: ManualClock) -> None:
    """What a transaction writes after it closed the books is no part of what it closed."""
    now = clock.now_ms()
    db.write_sync(open_accounts)

    def close_and_pay(tx: Tx) -> int:
        end = statement.settle(tx, 0, None, now + 5)
        pay(tx, 0)
        return end

    end = db.write_sync(close_and_pay)
    assert end == now + 6
    assert not db.read_sync(statement.read, "bob", 0, end, 100, None).rows
    assert [row.time_ms for row in db.read_sync(statement.read, "bob", end, end + 1, 100, None).rows] == [end]


def test_a_jump_of_the_clock_closes_no_future() -> None:
    clock = ManualClock()
    steady = SteadyClock(clock)
    start = clock.now_ms()
    clock.jump(345_600)
    assert steady.now_ms() == start
    clock.advance(30)
    assert steady.now_ms() == start + 30_000
    clock.jump(-345_600)
    assert steady.now_ms() == clock.now_ms()
    clock.jump(345_600)
    assert steady.now_ms() == start + 30_000
    clock.advance(61)
    assert steady.now_ms() == clock.now_ms(), "it has kept to it"
    clock.jump(-3600)
    assert steady.now_ms() == clock.now_ms(), "a step back is believed at once"


def test_over_http_beside_jobs(start_server: Callable[..., ServerProcess], database_url: str) -> None:
    """As users see it; on PostgreSQL what is read at one coordinator moves at another."""
    count = 2 if database_url.startswith("postgresql") else 1
    servers = [start_server({"SECRET_KEY": "a secret of these tests"}) for _ in range(count)]
    database = Database.open(database_url)
    client = database.write_sync(issue_key, role="client", account_id="alice", grant_units=10**12).key
    miner = database.write_sync(issue_key, role="miner", account_id="bob", grant_units=0).key
    database.close()

    def call(server: ServerProcess, path: str, key: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"X-Api-Key": key, "Content-Type": "application/json"}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(f"{server.url}{path}", data, headers), timeout=30
            ) as answer:
                return json.loads(answer.read(), parse_float=Decimal)
        except urllib.error.HTTPError as error:
            return json.loads(error.read())

    call(
        servers[0],
        "/v1/miner/register",
        miner,
        {"miner_id": "m", "capabilities": ["llama3.2"], "concurrency": 50},
    )
    going = True

    def work() -> None:
        while going:
            call(servers[0], "/v1/jobs", client, {"prompt": "x"})
            for job in call(servers[0], "/v1/miner/jobs?miner_id=m&max=9", miner)["jobs"]:
                result = {"miner_id": "m", "job_id": job["job_id"], "result": "y"}
                call(servers[0], "/v1/miner/result", miner, result)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        closed_with, start, seen = Decimal(0), "", 0
        for _ in range(HTTP_ROUNDS):
            path = f"/v1/statements?limit=3{start}"
            time.sleep(0.1)
            first = page = call(servers[-1], path, client)
            rows = list(page["rows"])
            while page["next_cursor"]:
                page = call(servers[-1], f"{path}&cursor={page['next_cursor']}", client)
                rows += page["rows"]
            assert first["opening_balance"] == closed_with
            moved = sum((Decimal(row["amount"]) for row in rows), Decimal(0))
            assert moved == Decimal(first["closing_balance"]) - Decimal(first["opening_balance"])
            closed_with, start, seen = first["closing_balance"], f"&from={first['to']}", seen + len(rows)
        assert seen > 2, "nothing moved"
    finally:
        going = False
        for thread in threads:
            thread.join(60)
