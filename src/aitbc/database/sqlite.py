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

from aitbc.core.clock import Clock
from aitbc.database.signals import Signals
from aitbc.database.tx import FullOrBroken, Tx
from aitbc.errors import StorageUnavailable

log = structlog.get_logger(__name__)

BATCH_CALLS = 256  # the most calls that share one commit
BATCH_S = 0.005  # a batch stops taking calls after this long, so that the loop serves others
BUSY_S = 15.0  # how long a write waits for another process's write
READERS = 4
Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def connect(path: Path, *, timeout_s: float, readonly: bool = False) -> sqlite3.Connection:
    """A connection with the project's pragmas; `isolation_level=None`: transactions are begun by hand."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=512, timeout=timeout_s
    )
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"cache_size=-{8192 if readonly else 49152}",
        "journal_size_limit=67108864",
        "temp_store=MEMORY",
        f"query_only={'ON' if readonly else 'OFF'}",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


class SqliteBackend:
    """The SQLite side of `Database`."""

    dialect = "sqlite"

    def __init__(self, path: Path, clock: Clock, signals: Signals) -> None:
        self.path = path
        self.clock = clock
        self.signals = signals
        self.on_batch: Callable[[int], None] = lambda _size: None
        self._connection: sqlite3.Connection | None = None
        self._queue: collections.deque[tuple[Call, asyncio.Future[Any]]] = collections.deque()
        self._pump: asyncio.Task[None] | None = None
        self._committer = ThreadPoolExecutor(1, "commit")
        self._readers = ThreadPoolExecutor(READERS, "read")
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
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
        while self._queue:
            try:
                connection = self._writer()
                await self._begin(connection)
            except sqlite3.Error as error:
                self._fail_waiting(error)
                return
            done, tx_list, changed = self._batch(connection)
            failure: BaseException | None = None
            if not connection.in_transaction:
                failure = StorageUnavailable()  # SQLite rolled the whole batch back (a full disk)
            elif changed:
                try:
                    await asyncio.get_running_loop().run_in_executor(
                        self._committer, self.commit, connection
                    )
                except sqlite3.Error as error:
                    failure = self._unavailable(error)
            else:
                self.commit(connection)  # nothing was written, so nothing waits for the disk
            if failure is not None:
                with contextlib.suppress(sqlite3.Error):  # it may be rolled back already
                    connection.execute("ROLLBACK")
            else:
                self.on_batch(len(done))
                self._publish(tx_list)
            self._answer(done, failure)

    def _batch(
        self, connection: sqlite3.Connection
    ) -> tuple[list[tuple[asyncio.Future[Any], Any, BaseException | None]], list[Tx], bool]:
        """Runs waiting calls, a savepoint each, until the batch is full."""
        before = connection.total_changes
        cursor = connection.cursor()
        until = time.perf_counter() + BATCH_S
        done: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = []
        tx_list: list[Tx] = []
        while self._queue and len(done) < BATCH_CALLS and time.perf_counter() < until:
            (fn, args, kwargs), future = self._queue.popleft()
            if future.cancelled():
                continue
            tx = Tx(cursor, self.dialect, self.clock.now_ms())
            try:
                cursor.execute("SAVEPOINT call")
                result = fn(tx, *args, **kwargs)
                cursor.execute("RELEASE call")
            except Exception as error:
                done.append((future, None, self._translate(error)))
                if not connection.in_transaction:
                    break
                cursor.execute("ROLLBACK TO call")
                cursor.execute("RELEASE call")
            else:
                done.append((future, result, None))
                tx_list.append(tx)
        return done, tx_list, connection.total_changes != before

    def commit(self, connection: sqlite3.Connection) -> None:
        connection.execute("COMMIT")

    async def _begin(self, connection: sqlite3.Connection) -> None:
        """Takes the write lock; while another process holds it the loop goes on."""
        until = time.monotonic() + BUSY_S
        pause_s = 0.001
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.05)

    def _publish(self, tx_list: list[Tx]) -> None:
        for tx in tx_list:
            run_hooks(tx)
            if tx.signals:
                self.signals.deliver(tx.signals)

    @staticmethod
    def _answer(
        done: list[tuple[asyncio.Future[Any], Any, BaseException | None]], failure: BaseException | None
    ) -> None:
        for future, result, error in done:
            if future.done():
                continue
            if failure is not None or error is not None:
                future.set_exception(failure or error)  # type: ignore[arg-type]
            else:
                future.set_result(result)

    def _fail_waiting(self, error: sqlite3.Error) -> None:
        failure = self._unavailable(error)
        while self._queue:
            _call, future = self._queue.popleft()
            if not future.done():
                future.set_exception(failure)

    def _translate(self, error: Exception) -> Exception:
        if isinstance(error, sqlite3.Error) and FullOrBroken.says(error):
            return self._unavailable(error)
        return error

    @staticmethod
    def _unavailable(error: sqlite3.Error) -> StorageUnavailable:
        log.error("storage_failed", error=str(error), code=getattr(error, "sqlite_errorname", None))
        return StorageUnavailable()

    def _writer(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = connect(self.path, timeout_s=0)
        return self._connection

    # --- reads, and calls from threads ----------------------------------------------------------------

    async def read(self, call: Call) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.read_sync, call)

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
        tx = Tx(connection.cursor(), self.dialect, self.clock.now_ms())
        try:
            connection.execute(begin)
            result = fn(tx, *args, **kwargs)
            self.commit(connection)
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, Exception):
                raise self._translate(error) from error
            raise
        run_hooks(tx)
        self.signals.post(tx.signals)
        return result

    def _own(self, name: str, *, readonly: bool) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, name, None)
        if connection is None:
            if self._closed:
                raise StorageUnavailable("The database is closed.")
            connection = connect(self.path, timeout_s=BUSY_S, readonly=readonly)
            setattr(self._local, name, connection)
            self._opened.append(connection)
        return connection

    # --- lifetime -------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._writer()

    async def stop(self) -> None:
        """Finishes what was queued, then closes."""
        if self._pump is not None:
            await asyncio.wait({self._pump})
        self.close()

    def close(self) -> None:
        self._closed = True
        self._committer.shutdown()
        self._readers.shutdown()
        for connection in [*self._opened, *([self._connection] if self._connection else [])]:
            connection.close()
        self._opened.clear()
        self._connection = None


def run_hooks(tx: Tx) -> None:
    """Runs what a committed transaction asked for. A hook's failure cannot undo the commit: it is logged."""
    for hook, args in tx.hooks:
        try:
            hook(*args)
        except Exception:
            log.exception("after_commit_hook_failed", hook=getattr(hook, "__qualname__", str(hook)))
