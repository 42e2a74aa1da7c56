"""Statements against the ledger: random histories, every page size, both databases."""

import random
from typing import Any

import pytest
from sqlalchemy import text

from aitbc.audit.derived import check_marks
from aitbc.audit.findings import Report, Unwatched
from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.chain import sealer
from aitbc.coordinator.chain.models import MARK_EVERY
from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.errors import InvalidRequest
from aitbc.coordinator.flows.acts import job_lifecycle, payment
from aitbc.coordinator.flows.views import activity, explorer, statement
from aitbc.coordinator.flows.views.statement import Movement, StatementPage
from aitbc.coordinator.jobs.rows import JobRow
from aitbc.coordinator.ledger import closing, marks
from aitbc.coordinator.ledger import service as ledger
from aitbc.core.clock import ManualClock
from aitbc.core.transfer_ids import GRANT, MINTED, TransferId, new_transfer_id
from tests.support.flows import CHAIN, KEY, MODEL, Market, check_books, found, spec_of
from tests.support.transfers import booking_of, declare, id_of, outpoint_of, signed_of

FOREVER = 2**47
PRICE = 1_000_000  # per 1000 tokens


def submit(market: Market, client: Principal, *, manual: bool = False) -> JobRow:
    spec = spec_of(cap=2 * PRICE)._replace(manual_payment=manual)
    return market.db.write_sync(job_lifecycle.submit, market.ctx, client, spec)


def pages(db: Database, account: str, start: int, end: int | None, limit: int) -> list[StatementPage]:
    found: list[StatementPage] = []
    if end is None:
        end = db.write_sync(statement.settle, start, None, db.clock.now_ms())
    cursor: str | None = None
    while not found or cursor is not None:
        found.append(db.read_sync(statement.read, account, start, end, limit, cursor))
        cursor = found[-1].next_cursor
    return found


def moved(tx: Tx, account: str, start: int, end: int) -> list[tuple[str, int]]:
    """(transfer, signed amount) of the account in [start, end), straight from the table."""
    rows = tx.query(
        text("SELECT id, kind, debit_id, credit_id, amount_units, created_at_ms FROM transfers ORDER BY id")
    )
    found = []
    for row in rows:
        if row.kind in ("hold", "void") or not start <= row.created_at_ms < end:
            continue
        found += [(row.id, -row.amount_units)] if row.debit_id == account else []
        found += [(row.id, row.amount_units)] if row.credit_id == account else []
    return found


NAMED = (booking_of, outpoint_of, id_of)  # before and behind UUIDs of their time, as text


@pytest.fixture(autouse=True)
def more_kinds_of_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch)


def live(market: Market, clock: ManualClock, seed: int, every: int = 0) -> list[str]:
    """A history of jobs, payments, grants and transfers; the accounts in it."""
    chance = random.Random(seed)
    clients = [market.client(name) for name in ("alice", "zoe")]
    prices = {MODEL: PRICE}
    miners = [market.miner("m1", models=prices), market.miner("m2", account="alice", models=prices)]
    for step in range(18):
        clock.advance(chance.choice((0, 0.5, 3600, 90_000)))
        if every and step % 5 == 4:
            mark_all(market, every)  # what follows in this millisecond is booked in the next
        client, miner = chance.choice(clients), chance.choice(miners)
        kind = chance.choice(("auto", "auto", "manual", "transfer", "cancel", "named"))
        if kind in ("auto", "manual"):
            job = submit(market, client, manual=kind == "manual")
            if kind == "manual":
                view = market.db.write_sync(payment.open_escrow, client, job.id)
            if market.take(miner):
                market.complete(miner, job.id, usage=(chance.randrange(3), chance.randrange(9)))
                if kind == "manual" and chance.random() < 0.5:
                    market.db.write_sync(payment.release, client, view.id)
                elif kind == "manual" and market.job(job.id).price_units:
                    market.db.write_sync(payment.refund, miner.principal, view.id, None)
        elif kind == "cancel":
            market.cancel(client, submit(market, client).id)
        else:
            name = chance.choice(NAMED)(str(step)) if kind == "named" else None
            market.db.write_sync(transfer_one, name, client.account_id, chance.choice(("zoe", "alice")))
    check_books(market.db)
    return ["alice", "zoe", "owner-m1", "system:treasury", "system:mint"]


def transfer_one(tx: Tx, name: TransferId | None, debit: str, credit: str) -> None:
    ledger.transfer(tx, name or new_transfer_id(tx.now_ms), debit, credit, 1000, ref=signed_of())


def mark_all(market: Market, every: int) -> int:
    """Marks every account's balance as the loop does, for each so many transfers; how many marks there are."""
    now_ms = market.clock.now_ms()
    market.db.write_sync(closing.close, None, now_ms)
    closed = market.db.read_sync(closing.closed_ms)
    for account in market.db.read_sync(ledger.accounts, "", 100):
        made = market.db.read_sync(marks.of_account, account.account_id, closed, 1000, every)
        market.db.write_sync(marks.write, marks.Draft(made, [], more=False))
    return len(market.db.read_sync(lambda tx: tx.query(text("SELECT at_ms FROM balance_marks"))))


@pytest.mark.parametrize("every", [0, 1, 3])
@pytest.mark.parametrize("seed", [1, 2])
def test_statements_equal_the_ledger(market: Market, clock: ManualClock, seed: int, every: int) -> None:
    """Also with a mark at each transfer or at each fourth, written while the history is lived (0: without marks)."""
    begun = clock.now_ms()
    accounts = live(market, clock, seed, every)
    over = clock.now_ms()
    if every:
        clock.advance(0.001)
        assert mark_all(market, every) > 5
        market.db.read_sync(check_marks, Report(), Unwatched())
    middle = random.Random(seed).randrange(begun, over)
    spans = [
        (0, FOREVER),
        (begun + 1, over),
        (middle, FOREVER),
        (0, middle),
        (begun, begun),
        (over + 1, over + 2),
    ]
    for account in accounts:
        for start, end in spans:
            wanted = sorted(market.db.read_sync(moved, account, start, end))
            opening = sum(units for _, units in market.db.read_sync(moved, account, 0, start))
            whole: list[Movement] | None = None
            for limit in (1, 3, 1000):
                found = pages(market.db, account, start, end, limit)
                rows = [row for page in found for row in page.rows]
                assert sorted((row.transfer_id, row.amount_units) for row in rows) == wanted
                assert all(len(page.rows) <= limit for page in found)
                totals = found[0].totals
                assert totals is not None
                assert (totals.opening_units, totals.movements) == (opening, len(wanted))
                assert totals.closing_units - opening == sum(units for _, units in wanted)
                assert totals.in_units == sum(units for _, units in wanted if units > 0)
                assert all(page.totals is None for page in found[1:])
                assert whole is None or rows == whole
                whole = rows
        last = pages(market.db, account, 0, None, 1000)[0]
        assert last.totals is not None
        assert last.totals.closing_units == market.balance(account).balance_units


def test_a_jobs_figures_stand_once(market: Market, clock: ManualClock) -> None:
    alice, miner = market.client("alice"), market.miner("m1", models={MODEL: PRICE})
    job = submit(market, alice, manual=True)
    view = market.db.write_sync(payment.open_escrow, alice, job.id)
    market.take(miner)
    receipt = market.complete(miner, job.id, usage=(2, 5))
    market.db.write_sync(payment.refund, miner.principal, view.id, 1)

    def rows(account: str) -> list[Movement]:
        return pages(market.db, account, 0, None, 10)[0].rows

    grant, paid, fee = rows("alice")
    assert (grant.kind, grant.role, grant.counterparty) == ("mint", "account", "system:mint")
    assert (paid.kind, paid.role, fee.kind, fee.role) == ("post", "client", "fee", "client")
    assert (paid.job_id, paid.receipt_id, paid.units, paid.unit_price_units) == (job.id, receipt.id, 7, PRICE)
    assert (paid.price_units, paid.refunded_units) == (receipt.price_units, 1)
    assert paid.amount_units + fee.amount_units == -(receipt.price_units - 1)
    assert fee.price_units is fee.units is None
    assert fee.job_id == job.id
    (earned,) = rows("owner-m1")
    assert (earned.role, earned.amount_units, earned.job_id) == ("miner", -paid.amount_units, job.id)
    assert earned.fee_units == -fee.amount_units


@pytest.mark.parametrize("databases", ["sqlite"], indirect=True)
def test_bad_cursors_and_times(market: Market) -> None:
    market.client("alice")
    good = id_of("good")
    bad: list[Any] = [
        "x",
        "1.2." + good,
        "1.0." + good + ":",
        f"999999999999999.0.{good}",
        "1.0.00000000-0000-0000-0000-000000000000",
        f"1.0.{good}\n",
    ]
    for cursor in bad:
        with pytest.raises(InvalidRequest):
            market.db.read_sync(statement.read, "alice", 0, 1, 10, cursor)
    with pytest.raises(InvalidRequest):
        market.db.read_sync(statement.read, "alice", 2, 1, 10, None)


MIXED = (
    *(
        outpoint_of("z"),
        None,
        booking_of("y"),
        GRANT.of("x"),
        None,
        id_of("w"),
        booking_of("v"),
        MINTED.of("A"),
    ),
    *(outpoint_of("u", 9), None, outpoint_of("u", 10), id_of("t"), MINTED.of("_".rjust(9, "0"))),
)


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
@pytest.mark.parametrize("names", [MIXED, MIXED[::-1]], ids=["one way", "the other"])
def test_what_an_id_looks_like_orders_nothing(
    market: Market, names: tuple[TransferId | None, ...], limit: int
) -> None:
    """Ids of all kinds in one millisecond, in one call and in several: each page goes on where the last ended, in the
    order of the log; also where both sides are one account's."""
    for name in ("alice", "zoe"):
        market.client(name)
    market.db.write_sync(lambda tx: [transfer_one(tx, name, "alice", "zoe") for name in names[:6]])
    for number, name in enumerate(names[6:]):
        market.db.write_sync(transfer_one, name, "alice", "zoe" if number % 3 else "alice")
    query = text(
        "SELECT t.id, t.debit_id, t.credit_id, t.created_at_ms, l.seq FROM transfers t JOIN leaves l ON l.ref_id = t.id"
        " ORDER BY t.created_at_ms, l.seq"
    )
    booked = market.db.read_sync(lambda tx: tx.query(query))
    assert len({row.created_at_ms for row in booked}) == 1
    for account in ("alice", "zoe"):
        rows = [row for page in pages(market.db, account, 0, FOREVER, limit) for row in page.rows]
        assert [row.transfer_id for row in rows] == [
            row.id for row in booked for side in (row.debit_id, row.credit_id) if side == account
        ]
        shown: list[str] = []
        cursor: str | None = None
        while not shown or cursor is not None:
            page = market.db.read_sync(explorer.transactions_of_address, account, cursor, limit, 0)
            shown += [one.row.id for one in page.items]
            cursor = page.cursor
        assert shown == [row.id for row in reversed(booked) if account in (row.debit_id, row.credit_id)]


def _many(tx: Tx, count: int) -> None:
    for _ in range(count):
        ledger.transfer(tx, new_transfer_id(tx.now_ms), "alice", "zoe", 1, ref=signed_of())


def seal_and_count(market: Market) -> None:
    """Seals what waits and takes it into what accounts did, as the loops do."""
    market.db.write_sync(found)
    while (block := market.db.read_sync(sealer.draft, CHAIN, KEY)) is not None:
        assert market.db.write_sync(sealer.seal, block)
    while (seen := market.db.read_sync(activity.draft_activity)) is not None:
        assert market.db.write_sync(activity.write_activity, seen)


def test_the_loop_marks_what_has_grown(market: Market, clock: ManualClock) -> None:
    """So that what a statement adds up does not grow: also where many transfers are of one millisecond."""
    for name in ("alice", "zoe"):
        market.client(name)
    for _ in range(4):
        market.db.write_sync(_many, MARK_EVERY)
        clock.advance(60)
    market.db.write_sync(_many, 3 * MARK_EVERY)
    clock.advance(60)
    market.db.write_sync(_many, 1)
    seal_and_count(market)
    assert market.db.read_sync(marks.due)
    market.db.write_sync(closing.close, None, clock.now_ms())
    made = market.db.read_sync(marks.draft)
    assert not made.more
    for _ in range(2):  # another coordinator's draft of the same
        market.db.write_sync(marks.write, made)
    assert not market.db.read_sync(marks.due)
    for account in ("alice", "zoe"):
        of_it = [mark for mark in made.marks if mark.account_id == account]
        assert 4 <= len(of_it) <= 6
        since = of_it[-1].at_ms
        left = market.db.read_sync(moved, account, since, FOREVER)
        assert len(left) <= MARK_EVERY + 1
        whole = market.db.read_sync(moved, account, 0, FOREVER)
        sums = market.db.read_sync(marks.before, account, FOREVER)
        assert sums.in_units - sums.out_units == sum(units for _, units in whole)
        assert sums.movements == len(whole)
    market.db.read_sync(check_marks, Report(), Unwatched())


def test_a_mark_is_never_of_a_time_that_is_open(market: Market, clock: ManualClock) -> None:
    for name in ("alice", "zoe"):
        market.client(name)
    for _ in range(6):
        clock.advance(60)
        market.db.write_sync(_many, 10)
    closed = market.db.write_sync(closing.close, clock.now_ms() - 130_000, clock.now_ms())
    made = market.db.read_sync(marks.of_account, "alice", closed, 100, 5)
    assert made
    assert max(mark.at_ms for mark in made) <= closed
