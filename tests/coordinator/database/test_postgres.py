"""What only PostgreSQL has: conflicts that are tried again, lost connections, several coordinators."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from psycopg import errors as pg
from sqlalchemy import text

from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.errors import StorageUnavailable
from aitbc.coordinator.ledger import service as ledger
from tests.coordinator.database.groups import end_backend, own_pid, shared
from tests.support.flows import in_loop

pytestmark = pytest.mark.parametrize("databases", ["postgresql"], indirect=True)

ADD = text("UPDATE accounts SET balance_units = balance_units + 1 WHERE id = :id")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups take all calls that wait, however slow this machine is at the moment."""
    monkeypatch.setattr("aitbc.coordinator.database.groups.BATCH_S", 0.3)


@pytest.fixture(autouse=True)
def accounts(db: Database) -> None:
    def open_both(tx: Tx) -> None:
        ledger.open_account(tx, "a")
        ledger.open_account(tx, "b")

    db.write_sync(open_both)


@pytest.fixture
def second(database_url: str) -> Iterator[Database]:
    """Another coordinator on the same database."""
    database = Database.open(database_url)
    yield database
    database.close()


def add(tx: Tx, account: str) -> None:
    tx.change(ADD.bindparams(id=account))


def balances(db: Database) -> tuple[int, int]:
    return tuple(db.read_sync(ledger.balance, name).balance_units for name in "ab")  # type: ignore[return-value]


class Meeting:
    """Two transactions that wait for each other the first time that they come here, and never again."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(2)
        self._been: set[str] = set()
        self.runs = 0
        self._lock = threading.Lock()

    def here(self, who: str) -> None:
        with self._lock:
            self.runs += 1
            if who in self._been:
                return
            self._been.add(who)
        self._barrier.wait(5)


def both(first: Callable[[], Any], second: Callable[[], Any]) -> None:
    with ThreadPoolExecutor(2) as pool:
        for done in (pool.submit(first), pool.submit(second)):
            done.result(20)


def test_a_deadlock_is_tried_again(db: Database) -> None:
    meeting = Meeting()

    def crosswise(tx: Tx, first: str, second: str) -> None:
        tx.change(text("SET LOCAL deadlock_timeout = '10ms'"))
        add(tx, first)
        meeting.here(first)
        add(tx, second)

    both(lambda: db.write_sync(crosswise, "a", "b"), lambda: db.write_sync(crosswise, "b", "a"))
    assert balances(db) == (2, 2)
    assert meeting.runs >= 3, "one of the two was run again"


def test_a_serialization_failure_is_tried_again(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    meeting = Meeting()
    hooks: list[str] = []

    monkeypatch.setattr(
        "aitbc.coordinator.database.postgres.BEGIN_ALONE", ("BEGIN ISOLATION LEVEL REPEATABLE READ",)
    )

    def strictly(tx: Tx, who: str) -> None:
        ledger.balance(tx, "a")
        tx.after_commit(hooks.append, who)
        meeting.here(who)
        add(tx, "a")

    both(lambda: db.write_sync(strictly, "1"), lambda: db.write_sync(strictly, "2"))
    assert balances(db) == (2, 0)
    assert meeting.runs == 3
    assert sorted(hooks) == ["1", "2"], "hooks of the attempt that failed did not run"


def test_a_conflict_that_never_ends_is_503(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aitbc.coordinator.database.postgres.TRIES", 3)
    runs = []

    def conflicts(tx: Tx) -> None:
        runs.append(1)
        add(tx, "a")
        raise pg.SerializationFailure("again")

    with pytest.raises(StorageUnavailable):
        db.write_sync(conflicts)
    assert len(runs) == 3
    assert balances(db) == (0, 0)


def test_other_errors_are_not_tried_again(db: Database) -> None:
    runs = []

    def breaks_a_check(tx: Tx) -> None:
        runs.append(1)
        tx.change(text("UPDATE accounts SET held_units = -1 WHERE id = 'a'"))

    with pytest.raises(pg.CheckViolation):
        db.write_sync(breaks_a_check)
    assert len(runs) == 1


def test_a_connection_lost_before_the_commit_is_tried_again(db: Database, database_url: str) -> None:
    runs = []

    def is_cut_off(tx: Tx) -> None:
        runs.append(1)
        add(tx, "a")
        if len(runs) == 1:
            end_backend(database_url, own_pid(tx))
        add(tx, "b")

    db.write_sync(is_cut_off)
    assert balances(db) == (1, 1)
    assert len(runs) == 2


def test_a_connection_lost_while_idle_is_noticed(db: Database, database_url: str) -> None:
    end_backend(database_url, db.write_sync(own_pid))
    db.write_sync(add, "a")
    end_backend(database_url, db.read_sync(own_pid))
    assert balances(db) == (1, 0)


def test_a_connection_lost_while_committing_is_never_tried_again(db: Database, database_url: str) -> None:
    """Nobody knows whether it was done: doing it twice would be worse than saying so."""
    runs = []
    hooks: list[str] = []

    def is_cut_off_at_the_end(tx: Tx) -> None:
        runs.append(1)
        add(tx, "a")
        tx.after_commit(hooks.append, "ran")
        end_backend(database_url, own_pid(tx))

    with pytest.raises(StorageUnavailable):
        db.write_sync(is_cut_off_at_the_end)
    assert len(runs) == 1
    assert not hooks
    db.write_sync(add, "b")
    assert balances(db) == (0, 1)


def test_calls_that_share_a_transaction_survive_its_lost_connection(db: Database, database_url: str) -> None:
    runs: list[int] = []

    def cut_off(tx: Tx) -> None:
        runs.append(1)
        if len(runs) == 1:
            end_backend(database_url, own_pid(tx))
        add(tx, "a")

    async def main() -> None:
        answers = await shared(db, lambda tx: add(tx, "b"), cut_off, lambda tx: add(tx, "b"))
        assert answers == [None, None, None]
        found = await db.read(lambda tx: [ledger.balance(tx, name).balance_units for name in "ab"])
        assert found == [1, 2]

    in_loop(db, main())


def test_a_shared_commit_whose_fate_is_unknown_is_never_run_again(db: Database, database_url: str) -> None:
    runs: list[str] = []

    def cut_off_at_the_end(tx: Tx) -> None:
        runs.append("last")
        add(tx, "a")
        end_backend(database_url, own_pid(tx))

    def innocent(tx: Tx) -> None:
        runs.append("first")
        add(tx, "b")

    async def main() -> None:
        answers = await shared(db, innocent, cut_off_at_the_end)
        assert [type(answer) for answer in answers] == [StorageUnavailable] * 2
        await db.write(add, "b")
        found = await db.read(lambda tx: [ledger.balance(tx, name).balance_units for name in "ab"])
        assert found == [0, 1]

    in_loop(db, main())
    assert sorted(runs) == ["first", "last"]


def test_many_calls_share_a_transaction(db: Database) -> None:
    batches: list[int] = []
    db.backend.on_batch = batches.append

    async def main() -> None:
        await asyncio.gather(*(db.write(add, "a") for _ in range(200)))
        assert (await db.read(ledger.balance, "a")).balance_units == 200

    in_loop(db, main())
    assert sum(batches) == 200
    assert len(batches) < 60


def test_a_database_that_is_not_there_is_503(db: Database) -> None:
    absent = Database.open("postgresql://nobody@/absent?host=/nonexistent")
    with pytest.raises(StorageUnavailable):
        absent.write_sync(own_pid)
    with pytest.raises(StorageUnavailable):
        absent.read_sync(own_pid)
    absent.close()


def test_two_coordinators_share_accounts_without_stalling(db: Database, second: Database) -> None:
    """Each batch locks the same accounts in an order of its own."""
    names = [f"a{n}" for n in range(6)]
    for name in names:
        db.write_sync(ledger.open_account, name)

    def add_both(tx: Tx, first: str, last: str) -> None:
        add(tx, first)
        add(tx, last)

    async def load(database: Database, start: int) -> None:
        for turn in range(15):
            await database.write(add_both, names[(turn + start) % 6], names[(turn * 5 + start * 3 + 1) % 6])

    async def main() -> float:
        await db.start()
        await second.start()
        try:
            began = time.perf_counter()
            await asyncio.gather(*(load(database, start) for database in (db, second) for start in range(12)))
            return time.perf_counter() - began
        finally:
            await second.stop()

    async def run() -> float:
        took_s = await main()
        total = await db.read(
            lambda tx: tx.query(text("SELECT SUM(balance_units) AS units FROM accounts"))[0]
        )
        assert total.units == 2 * 12 * 15 * 2
        await db.stop()
        return took_s

    assert asyncio.run(run()) < 8, "a deadlock is noticed after a second"


def test_coordinators_hear_each_other(db: Database, second: Database) -> None:
    """What one commits wakes those who wait at the other, in order and once; its own do not come back."""
    heard: list[Any] = []
    own: list[Any] = []

    def says(tx: Tx, n: int) -> None:
        add(tx, "a")
        tx.signal(("job", n, "x" * 500))

    async def main() -> None:
        await db.start()
        await second.start()
        db.signals.listen(own.append)
        second.signals.listen(heard.append)
        try:
            waiting = None
            for n in range(200):  # until the listener has connected
                waiting = asyncio.create_task(second.signals.wait(("job", n, "x" * 500), 0.1))
                await db.write(says, n)
                if await waiting:
                    break
            assert waiting is not None
            assert waiting.result()
            last = own[-1][1]
            for n in range(1000, 1040):  # more than one notification holds
                await db.write(says, n)
            for _ in range(200):
                if len([signal for signal in heard if signal[1] >= 1000]) == 40:
                    break
                await asyncio.sleep(0.01)
            # Two senders may overtake each other: signals are hints, their order says nothing.
            assert sorted(signal[1] for signal in heard if signal[1] >= 1000) == list(range(1000, 1040))
            assert [signal[1] for signal in own] == [*range(last + 1), *range(1000, 1040)]
        finally:
            await db.stop()
            await second.stop()

    asyncio.run(main())


def test_what_others_say_on_the_channel_harms_nobody(db: Database, second: Database) -> None:
    heard: list[Any] = []

    def says(tx: Tx, n: int) -> None:
        tx.signal(("job", n))
        for payload in ("closing", "[1]", '{"a": 1}', '["x", 5]', ""):
            tx.query(text("SELECT pg_notify('aitbc', :payload)").bindparams(payload=payload))

    async def main() -> None:
        await db.start()
        await second.start()
        second.signals.listen(heard.append)
        try:
            for n in range(100):
                await db.write(says, n)
                await asyncio.sleep(0.02)
                if len(heard) >= 3:
                    break
            assert len(heard) >= 3, "it goes on listening"
        finally:
            await db.stop()
            await second.stop()

    asyncio.run(main())


def test_a_rolled_back_transaction_tells_no_coordinator(db: Database, second: Database) -> None:
    heard: list[Any] = []

    def says(tx: Tx, n: int, fail: bool) -> None:
        tx.signal(("job", n))
        if fail:
            raise ValueError("no")

    async def main() -> None:
        await db.start()
        await second.start()
        second.signals.listen(heard.append)
        try:
            with pytest.raises(ValueError, match="no"):
                await db.write(says, 0, True)
            for n in range(1, 100):
                await db.write(says, n, False)
                await asyncio.sleep(0.01)
                if heard:
                    break
            assert heard
            assert ("job", 0) not in heard
        finally:
            await db.stop()
            await second.stop()

    asyncio.run(main())
