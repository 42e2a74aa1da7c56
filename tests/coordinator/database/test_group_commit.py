"""SQLite's one writer: many calls share a commit, and none of them feels another's failure."""

import asyncio
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.database.sqlite import BATCH_CALLS, QUICK_CHANGES, SqliteBackend
from aitbc.coordinator.errors import StorageUnavailable
from aitbc.coordinator.ledger import service as ledger
from tests.support.flows import in_loop

pytestmark = pytest.mark.parametrize("databases", ["sqlite"], indirect=True)


class Refused(Exception):
    """What a failing call raises."""


class Probe:
    """Counts commits and batches, and can make a commit fail."""

    def __init__(self, db: Database) -> None:
        assert isinstance(db.backend, SqliteBackend)
        self.db = db
        self.batches: list[int] = []
        self.commits = 0
        self.fails: list[Exception] = []
        self.runs: Counter[str] = Counter()
        self._commit: Callable[[sqlite3.Connection], None] = db.backend.commit
        db.backend.commit = self.commit  # type: ignore[method-assign]
        db.backend.on_batch = self.batches.append

    def commit(self, connection: sqlite3.Connection) -> None:
        self.commits += 1
        if self.fails:
            raise self.fails.pop()
        self._commit(connection)

    def good(self, tx: Tx, name: str) -> str:
        self.runs[name] += 1
        ledger.open_account(tx, name)
        return name

    def bad_before(self, tx: Tx, name: str) -> str:
        self.runs[name] += 1
        tx.after_commit(self.runs.update, [f"hook {name}"])
        raise Refused(name)

    def bad_after(self, tx: Tx, name: str) -> str:
        self.runs[name] += 1
        ledger.open_account(tx, name)
        tx.after_commit(self.runs.update, [f"hook {name}"])
        tx.signal(("refused", name))
        raise Refused(name)

    def only_reads(self, tx: Tx, name: str) -> str:
        self.runs[name] += 1
        ledger.balance(tx, "root")
        return name

    async def all(self, *calls: tuple[Callable[..., Any], str]) -> list[Any]:
        """Every call at once; errors in place of results."""
        return await asyncio.gather(*(self.db.write(fn, name) for fn, name in calls), return_exceptions=True)

    def names(self) -> set[str]:
        """The accounts as another program sees them in the file."""
        assert isinstance(self.db.backend, SqliteBackend)
        connection = sqlite3.connect(self.db.backend.path)
        try:
            return {row[0] for row in connection.execute("SELECT id FROM accounts")} - {"root"}
        finally:
            connection.close()


@pytest.fixture
def probe(db: Database) -> Probe:
    db.write_sync(ledger.open_account, "root")
    return Probe(db)


def test_many_writes_share_a_commit(probe: Probe, db: Database) -> None:
    names = [f"a{n}" for n in range(100)]

    async def main() -> None:
        assert await probe.all(*((probe.good, name) for name in names)) == names
        assert probe.names() == set(names), "durable, and seen by others, once it has returned"

    in_loop(db, main())
    assert sum(probe.batches) == 100
    assert probe.commits == len(probe.batches) < 20


def test_a_batch_has_a_bound(probe: Probe, db: Database) -> None:
    async def main() -> None:
        await probe.all(*((probe.good, f"a{n}") for n in range(2 * BATCH_CALLS + 10)))

    in_loop(db, main())
    assert sum(probe.batches) == 2 * BATCH_CALLS + 10
    assert max(probe.batches) <= BATCH_CALLS


def test_a_call_that_fails_before_it_writes_costs_its_neighbours_nothing(probe: Probe, db: Database) -> None:
    async def main() -> None:
        first, second, third = await probe.all((probe.good, "a"), (probe.bad_before, "b"), (probe.good, "c"))
        assert (first, third) == ("a", "c")
        assert isinstance(second, Refused)

    in_loop(db, main())
    assert probe.names() == {"a", "c"}
    assert probe.runs == {"a": 1, "b": 1, "c": 1}, "nothing had to be run again, and no hook ran"
    assert probe.commits == 1


def test_a_call_that_fails_after_it_wrote_is_taken_out_of_its_batch(probe: Probe, db: Database) -> None:
    heard: list[Any] = []
    db.signals.listen(heard.append)

    async def main() -> None:
        answers = await probe.all(
            (probe.good, "a"), (probe.bad_after, "b"), (probe.good, "c"), (probe.bad_after, "d")
        )
        assert [type(answer) for answer in answers] == [str, Refused, str, Refused]
        assert [str(answer) for answer in answers] == ["a", "b", "c", "d"], "each its own"

    in_loop(db, main())
    assert probe.names() == {"a", "c"}
    assert "hook b" not in probe.runs
    assert not heard


def test_a_replayed_batch_runs_hooks_and_signals_once(probe: Probe, db: Database) -> None:
    heard: list[Any] = []
    db.signals.listen(heard.append)

    def says(tx: Tx, name: str) -> None:
        probe.good(tx, name)
        tx.after_commit(probe.runs.update, [f"hook {name}"])
        tx.signal(("done", name))

    async def main() -> None:
        await probe.all((says, "a"), (probe.bad_after, "b"), (says, "c"))

    in_loop(db, main())
    assert probe.runs["a"] == 2, "the batch was run again"
    assert probe.runs["hook a"] == probe.runs["hook c"] == 1
    assert heard == [("done", "a"), ("done", "c")]


@pytest.mark.parametrize("seed", range(6))
def test_any_mixture_leaves_exactly_what_succeeded(probe: Probe, db: Database, seed: int) -> None:
    mixed = random.Random(seed)
    kinds = [probe.good, probe.only_reads, probe.bad_before, probe.bad_after]
    calls = [(mixed.choice(kinds), f"a{n}") for n in range(60)]
    order: list[str] = []

    def in_order(tx: Tx, fn: Callable[[Tx, str], str], name: str) -> str:
        result = fn(tx, name)
        tx.after_commit(order.append, name)
        return result

    async def main() -> None:
        tasks = []
        for fn, name in calls:
            tasks.append(asyncio.create_task(db.write(in_order, fn, name)))
            if mixed.random() < 0.2:
                await asyncio.sleep(mixed.choice([0, 0.001]))
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for (fn, name), answer in zip(calls, answers, strict=True):
            refused = fn in (probe.bad_before, probe.bad_after)
            assert isinstance(answer, Refused) if refused else answer == name

    in_loop(db, main())
    assert probe.names() == {name for fn, name in calls if fn == probe.good}
    assert order == [name for fn, name in calls if fn in (probe.good, probe.only_reads)], (
        "in order of arrival"
    )


def test_a_failed_commit_fails_every_call_of_its_batch_and_no_other(probe: Probe, db: Database) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    probe.fails.append(error)
    ran: list[str] = []

    def says(tx: Tx, name: str) -> None:
        probe.good(tx, name)
        tx.after_commit(ran.append, name)
        tx.signal(("done", name))

    db.signals.listen(lambda signal: ran.append(str(signal)))

    async def main() -> None:
        answers = await probe.all((says, "a"), (says, "b"))
        assert [type(answer) for answer in answers] == [StorageUnavailable] * 2
        assert not ran
        assert not probe.names()
        assert await db.write(probe.good, "c") == "c"

    in_loop(db, main())
    assert probe.names() == {"c"}


def test_an_error_that_nobody_foresaw_reaches_the_callers_too(probe: Probe, db: Database) -> None:
    probe.fails.append(RuntimeError("a bug in the writer"))

    async def main() -> None:
        answers = await probe.all((probe.good, "a"), (probe.good, "b"))
        assert [type(answer) for answer in answers] == [RuntimeError] * 2
        assert await db.write(probe.good, "c") == "c"

    in_loop(db, main())
    assert probe.names() == {"c"}


def test_calls_that_only_read_do_not_wait_for_the_disk(probe: Probe, db: Database) -> None:
    threads: list[str] = []
    commit = db.backend.commit  # type: ignore[union-attr]

    def watched(connection: sqlite3.Connection) -> None:
        threads.append(threading.current_thread().name)
        commit(connection)

    db.backend.commit = watched  # type: ignore[method-assign, union-attr]

    async def main() -> None:
        await db.write(probe.only_reads, "a")
        await db.write(probe.good, "b")

    in_loop(db, main())
    assert threads[0] == "MainThread", "nothing was handed to the committing thread"
    assert threads[1].startswith("commit")


def test_the_loop_goes_on_while_a_batch_is_made_durable(probe: Probe, db: Database) -> None:
    """The fsync is another thread's business."""
    release = threading.Event()
    commit = probe._commit

    def slow(connection: sqlite3.Connection) -> None:
        assert release.wait(5)
        commit(connection)

    probe._commit = slow

    async def main() -> None:
        first = asyncio.create_task(db.write(probe.good, "a"))
        while not probe.commits:
            await asyncio.sleep(0)
        second = asyncio.create_task(db.write(probe.good, "b"))
        await asyncio.sleep(0.01)
        assert not first.done(), "an answer before the commit would be a lie"
        release.set()
        assert await asyncio.gather(first, second) == ["a", "b"]

    in_loop(db, main())
    assert probe.batches == [1, 1]


def test_small_commits_are_waited_for_where_the_disk_is_quick(probe: Probe, db: Database) -> None:
    """Threads that wake each other cost more than such a commit. A disk that turns slow is noticed."""
    threads: list[str] = []
    pauses = [0.0] * 20 + [0.05] * 2 + [0.0] * 2
    commit = probe._commit

    def watched(connection: sqlite3.Connection) -> None:
        threads.append(threading.current_thread().name)
        time.sleep(pauses[len(threads) - 1])
        commit(connection)

    probe._commit = watched

    def many(tx: Tx) -> None:
        for number in range(QUICK_CHANGES + 1):
            probe.good(tx, f"many {number}")

    async def main() -> None:
        for number in range(23):
            await db.write(probe.good, str(number))
        await db.write(many)

    in_loop(db, main())
    assert threads[0].startswith("commit"), "nothing is known of the disk yet"
    assert "MainThread" in threads[1:20]
    assert threads[21].startswith("commit"), "the commit before took long"
    assert threads[23].startswith("commit"), "it is not small"


def test_waits_for_another_programs_write_without_stopping_the_loop(probe: Probe, db: Database) -> None:
    assert isinstance(db.backend, SqliteBackend)
    other = sqlite3.connect(db.backend.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("UPDATE accounts SET held_units = 0")

    async def main() -> None:
        write = asyncio.create_task(db.write(probe.good, "a"))
        for _ in range(20):
            await asyncio.sleep(0.002)
        assert not write.done()
        other.execute("COMMIT")
        assert await write == "a"

    in_loop(db, main())
    other.close()


def test_gives_up_on_a_program_that_never_ends_its_write(
    probe: Probe, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(db.backend, SqliteBackend)
    monkeypatch.setattr(db.backend, "_busy_s", 0.05)  # it is open already
    other = sqlite3.connect(db.backend.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def main() -> None:
        answers = await probe.all((probe.good, "a"), (probe.good, "b"))
        assert [type(answer) for answer in answers] == [StorageUnavailable] * 2
        other.execute("ROLLBACK")
        assert await db.write(probe.good, "c") == "c"

    in_loop(db, main())
    other.close()
    assert probe.names() == {"c"}
