"""SQLite: one writer with group commit, readers on connections of their own (WAL).

Statements of a write run on the event loop's thread, the commit (the fsync) on another. Python's sqlite3
gives up the interpreter lock at every statement; with the statements on a thread of their own each of them
would have to win the lock back from a busy loop, which costs far more than the statement. This way there is
one hand-over per batch, and while a batch is being made durable the loop reads the next requests.
"""

import asyncio
import collections
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog

from aitbc.coordinator.database.files import SameFiles
from aitbc.coordinator.database.looking import Looker
from aitbc.coordinator.database.signals import Signals
from aitbc.coordinator.database.tx import CLOSED, Books, FullOrBroken, Tx
from aitbc.coordinator.errors import StorageUnavailable
from aitbc.core.clock import Clock

log = structlog.get_logger(__name__)

BATCH_CALLS = 256  # the most calls that share one commit
BATCH_S = 0.005  # a batch stops taking calls after this long, so that the loop serves others
QUICK_CHANGES = 64  # a transaction of so few changed rows is small
QUICK_S = 0.002  # small commits that take this long are not waited for on the loop
BUSY_S = 15.0  # how long a write waits for another process's write
END_S = 1.5  # so long the end waits for another process's lock
READERS = 4
Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def connect(path: Path, *, timeout_s: float, readonly: bool = False) -> sqlite3.Connection:
    """A connection with the project's pragmas; `isolation_level=None`: transactions are begun by hand.

    The file must be there: only `aitbc.coordinator.schema.migrate` makes one.
    Foreign keys are not enforced here: they cost a tenth of a whole job. The same code runs on PostgreSQL,
    which enforces them, in the same tests, and `aitbc audit` checks them.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=512,
        timeout=timeout_s,
    )
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=OFF",
        f"cache_size=-{8192 if readonly else 49152}",
        "journal_size_limit=67108864",
        "temp_store=MEMORY",
        f"query_only={'ON' if readonly else 'OFF'}",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


class Batch:
    """The calls of one group commit, what each came to, and whether it has to be run again."""

    __slots__ = ("calls", "committed", "outcomes", "spoiled")

    def __init__(self) -> None:
        self.calls: list[tuple[Call, asyncio.Future[Any]]] = []
        self.outcomes: list[tuple[Any, Exception | None]] = []
        self.committed: list[Tx] = []
        self.spoiled = False

    def answer(self) -> None:
        for (_call, future), (result, error) in zip(self.calls, self.outcomes, strict=True):
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

    def fail(self, error: Exception) -> None:
        for _call, future in self.calls:
            if not future.done():
                future.set_exception(error)


class SqliteBackend:
    """The SQLite side of `Database`."""

    dialect = "sqlite"

    def __init__(
        self,
        path: Path,
        clock: Clock,
        signals: Signals,
        timeout_s: float | None = None,
        *,
        looks_only: bool = False,
    ) -> None:
        self.path = path
        self._looker = Looker(path) if looks_only else None
        self._busy_s = BUSY_S if timeout_s is None else timeout_s
        self._end_s: float | None = None  # calls end by then, on the monotonic clock
        self.clock = clock
        self.signals = signals
        self.on_batch: Callable[[int], None] = lambda _size: None
        self._connection: sqlite3.Connection | None = None
        self._queue: collections.deque[tuple[Call, asyncio.Future[Any]]] = collections.deque()
        self._pump: asyncio.Task[None] | None = None
        self._committer = ThreadPoolExecutor(1, "commit")
        self._small_commit_s = 2 * QUICK_S  # what a small commit has lately taken; the first ones show it
        self.readers = READERS
        self._readers = ThreadPoolExecutor(READERS, "read")
        self._glances = ThreadPoolExecutor(1, "glance")
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._files = SameFiles(path)
        self._closed = False

    # --- writes ---------------------------------------------------------------------------------------

    async def write(self, call: Call) -> Any:
        """Runs the call in the next group commit; returns once it is durable."""
        if self._closed:
            raise StorageUnavailable("The database is closed.")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.append((call, future))
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        isolate = False
        while self._queue:
            batch = Batch()
            try:
                connection = self._writer()
                await self._begin(connection)
                books = _books(connection)
                before = connection.total_changes
                self._fill(connection, batch, books, isolate=isolate)
                isolate = batch.spoiled
                if batch.spoiled:
                    connection.execute("ROLLBACK")
                    self._queue.extendleft(reversed(batch.calls))
                    continue
                if not connection.in_transaction:
                    raise StorageUnavailable()  # SQLite rolled the whole batch back by itself: a full disk
                await self._make_durable(connection, connection.total_changes - before)
            except Exception as error:  # noqa: BLE001 - whatever broke: every caller of the batch must hear
                self._abandon(batch, error)
                continue
            self.on_batch(len(batch.calls))
            for tx in batch.committed:
                run_hooks(tx)
                if tx.signals:
                    self.signals.deliver(tx.signals)
            batch.answer()

    async def _make_durable(self, connection: sqlite3.Connection, changes: int) -> None:
        """Commits here where that is a matter of a moment, else on the other thread.

        Waking a thread and being woken by it costs as much as a small commit. How long the disk takes is
        learnt from the commits before.
        """
        if not changes:
            self.commit(connection)  # nothing was written, so nothing waits for the disk
        elif changes > QUICK_CHANGES:
            await asyncio.get_running_loop().run_in_executor(self._committer, self.commit, connection)
        elif self._small_commit_s < QUICK_S:
            self._commit_small(connection)
        else:
            await asyncio.get_running_loop().run_in_executor(self._committer, self._commit_small, connection)

    def _commit_small(self, connection: sqlite3.Connection) -> None:
        started = time.perf_counter()
        self.commit(connection)
        self._small_commit_s += (time.perf_counter() - started - self._small_commit_s) / 8

    def _fill(self, connection: sqlite3.Connection, batch: "Batch", books: Books, *, isolate: bool) -> None:
        """Runs waiting calls until the batch is full.

        A savepoint for each call would cost as much as two statements, and nearly every call that fails has
        written nothing yet. So calls run bare; one that fails after it wrote spoils the batch, which is then
        rolled back and run again with savepoints (`isolate`).
        """
        cursor = connection.cursor()
        until = time.perf_counter() + BATCH_S
        while self._queue and len(batch.calls) < BATCH_CALLS and time.perf_counter() < until:
            call, future = self._queue.popleft()
            if future.cancelled():
                continue
            batch.calls.append((call, future))
            fn, args, kwargs = call
            tx = Tx(cursor, self.dialect, self.clock.now_ms(), books)
            before = connection.total_changes
            if isolate:
                cursor.execute("SAVEPOINT call")
            try:
                result = fn(tx, *args, **kwargs)
            except Exception as error:  # noqa: BLE001 - it is raised again where the call was made
                batch.outcomes.append((None, self._translate(error)))
                if not connection.in_transaction:
                    return
                cursor.close()  # an UPDATE whose RETURNING was not read to its end counts only once it is closed
                cursor = connection.cursor()
                if isolate:
                    cursor.execute("ROLLBACK TO call")
                elif connection.total_changes != before:
                    batch.spoiled = True
                    return
            else:
                batch.outcomes.append((result, None))
                batch.committed.append(tx)
            if isolate:
                cursor.execute("RELEASE call")

    def _abandon(self, batch: "Batch", error: Exception) -> None:
        """The batch could not be made durable: every caller of it hears so, and nothing of it remains."""
        failure = self._translate(error)
        if not isinstance(failure, StorageUnavailable):
            log.error("batch_failed", exc_info=error)
        with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled it back already
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        if not batch.calls:  # it failed before it began: whoever waits would only meet the same
            batch.calls.extend(self._queue)
            self._queue.clear()
        batch.fail(failure)

    def commit(self, connection: sqlite3.Connection) -> None:
        """Raises StorageUnavailable where what was committed went to files that nobody will find again."""
        connection.execute("COMMIT")
        self._files.check(opened=True)

    async def _begin(self, connection: sqlite3.Connection) -> None:
        """Takes the write lock; while another process holds it the loop goes on."""
        until = time.monotonic() + self._busy_s
        pause_s = 0.001
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > min(
                    until, self._end_s or until
                ):
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.05)

    def _translate(self, error: Exception) -> Exception:
        if isinstance(error, sqlite3.Error) and FullOrBroken.says(error):
            return self._unavailable(error)
        return error

    @staticmethod
    def _unavailable(error: sqlite3.Error) -> StorageUnavailable:
        log.error("storage_failed", error=str(error), code=getattr(error, "sqlite_errorname", None))
        return StorageUnavailable()

    def _writer(self) -> sqlite3.Connection:
        if self._connection is None or self._files.gone:
            self._files.check()
        if self._connection is None:
            self._connection = connect(self.path, timeout_s=0)
            self._files.check(opened=True)
        return self._connection

    # --- reads, and calls from threads ----------------------------------------------------------------

    def read(self, call: Call, *, glance: bool = False) -> "asyncio.Future[Any]":
        """What the call comes to, on a thread beside the loop's."""
        if self._closed:
            raise StorageUnavailable("The database is closed.")
        threads = self._glances if glance else self._readers
        return asyncio.get_running_loop().run_in_executor(threads, self.read_sync, call)

    def read_sync(self, call: Call) -> Any:
        """One consistent snapshot, on a connection of the calling thread."""
        connection = self._own("reader", readonly=True)
        return self._transaction(connection, "BEGIN", call)

    def write_sync(self, call: Call) -> Any:
        """A transaction of its own on a connection of the calling thread (CLI, tests, other processes)."""
        connection = self._own("writer", readonly=False)
        return self._transaction(connection, "BEGIN IMMEDIATE", call)

    def _transaction(self, connection: sqlite3.Connection, begin: str, call: Call) -> Any:
        fn, args, kwargs = call
        try:
            connection.execute(begin)
            # Its time is one at which nobody else writes any more: it may have waited for long.
            books = None if begin == "BEGIN" else _books(connection)
            tx = Tx(connection.cursor(), self.dialect, self.clock.now_ms(), books)
            result = fn(tx, *args, **kwargs)
            if begin == "BEGIN":
                connection.execute("COMMIT")
                if self._looker is not None:
                    self._looker.check()
            else:
                self.commit(connection)
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error) and self._looker is not None:
                self._looker.check()  # half of a change is no database
            if isinstance(error, Exception):
                raise self._translate(error) from error
            raise
        run_hooks(tx)
        self.signals.post(tx.signals)
        return result

    def _own(self, name: str, *, readonly: bool) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, name, None)
        # Before it is opened, too: that would make a new log where the old one is gone. What is written through
        # an open one is looked after when it is committed.
        if readonly or connection is None or self._files.gone:
            self._files.check()
        if connection is None:
            if self._closed:
                raise StorageUnavailable("The database is closed.")
            try:
                connection = (
                    connect(self.path, timeout_s=self._busy_s, readonly=readonly)
                    if self._looker is None
                    else self._looker.connect(self._busy_s)
                )
            except sqlite3.Error as error:
                raise self._translate(error) from error
            setattr(self._local, name, connection)
            self._opened.append(connection)
        return connection

    # --- lifetime -------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._writer()

    def end_within(self, seconds: float) -> None:
        """What waits for another process's lock gives up after so long; only the first call counts."""
        if self._end_s is None:
            self._end_s = time.monotonic() + seconds

    async def stop(self) -> None:
        """Finishes what was queued, then closes."""
        self.end_within(END_S)
        if self._pump is not None:
            await asyncio.wait({self._pump})
        self.close()

    def close(self) -> None:
        self._closed = True
        self._committer.shutdown()
        self._readers.shutdown()
        self._glances.shutdown()
        for connection in [*self._opened, *([self._connection] if self._connection else [])]:
            connection.close()
        self._opened.clear()
        self._connection = None
        if self._looker is not None:
            self._looker.close()


def _books(connection: sqlite3.Connection) -> Books:
    try:
        row = connection.execute(CLOSED).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        row = None
    return Books(int(row[0]) if row else 0)


def run_hooks(tx: Tx) -> None:
    """Runs what a committed transaction asked for. A hook's failure cannot undo the commit: it is logged."""
    for hook, args in tx.hooks:
        try:
            hook(*args)
        except Exception:
            log.exception("after_commit_hook_failed", hook=getattr(hook, "__qualname__", str(hook)))
