"""PostgreSQL: group commit on one thread, and a pool of threads for what has to be run by itself.

Every job's money moves over the same few account rows, so transactions side by side would mostly wait for each
other's locks, each through all its round trips and its own wait for the disk. Calls that wait share one
transaction instead (`groups`), and statements that nobody waits for share round trips (`pipe`, `holding`).
Where the database wants the transaction to be tried again, each call is run in one of its own, retried where
it may be.
"""

import asyncio
import collections
import contextlib
import queue
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import psycopg
import structlog
from psycopg import errors as pg

from aitbc.coordinator.database.groups import SWALLOWED, Group, Waiting
from aitbc.coordinator.database.holding import HoldingTx
from aitbc.coordinator.database.notices import Notices
from aitbc.coordinator.database.patience import Silent
from aitbc.coordinator.database.pipe import OPEN_FROM, RETRIED, BooksClosed, Conflict, Pipe
from aitbc.coordinator.database.signals import Signals
from aitbc.coordinator.database.sqlite import Call, run_hooks
from aitbc.coordinator.database.tx import CLOSED, Books, Tx
from aitbc.coordinator.errors import AitbcError, StorageUnavailable
from aitbc.core.clock import Clock

log = structlog.get_logger(__name__)

WRITERS = 8
READERS = 4
TRIES = 12
HANGS = (Silent, pg.ConnectionTimeout, pg.QueryCanceled)
UNKNOWN = (
    "The database did not answer in time, and whether it was changed is not known: the same request with the"
    " same Idempotency-Key finds out."
)
END_S = 1.5  # so long the end waits for what is under way: the coordinator stops within seconds
# Another database of the same name, or the same one filled anew from a backup, has other numbers.
IDENTITY = (
    "SELECT oid::bigint, to_regclass('transfers')::oid::bigint FROM pg_database"
    " WHERE datname = current_database()"
)
REPLACED = (
    "The database was replaced while this coordinator ran. Nothing is written until the coordinator is started"
    " again."
)
READ_ONLY = ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",)

# A shared transaction locks many accounts in whatever order its calls come in. Two of them side by side, from
# two coordinators, would deadlock all the time, and PostgreSQL takes a second to notice. So one runs at a time,
# and none beside the transactions of single calls; those, each with few locks, run beside each other.
TURN = int.from_bytes(b"aitbc", "big")
BEGIN_GROUP = ("BEGIN", f"SELECT pg_advisory_xact_lock({TURN})")
BEGIN_ALONE = ("BEGIN", f"SELECT pg_advisory_xact_lock_shared({TURN})")


class PostgresBackend:
    """The PostgreSQL side of `Database`. Several coordinators may share one database."""

    dialect = "postgresql"

    def __init__(
        self,
        url: str,
        clock: Clock,
        signals: Signals,
        writers: int = WRITERS,
        readers: int = READERS,
        timeout_s: float | None = None,
    ) -> None:
        self.url = url
        self._timeout_s = timeout_s
        self._silent_at = 0.0  # when it last did not answer: who waited until then need not try
        self._given_up = threading.Event()
        self._end: threading.Timer | None = None
        self.clock = clock
        self.signals = signals
        self.on_batch: Callable[[int], None] = lambda _size: None
        # Not a pool: what a pool makes for each call costs as much as several of its statements.
        self._grouping = threading.Thread(target=self._group, name="group", daemon=True)
        self._wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()  # True: calls wait; False: the end
        self._writers = ThreadPoolExecutor(max(1, writers - 1), "write")
        self.readers = readers
        self._readers = ThreadPoolExecutor(readers, "read")
        self._glances = ThreadPoolExecutor(1, "glance")
        self._queue: collections.deque[Waiting] = collections.deque()
        self._queueing = threading.Lock()
        self._pumping = False
        self._local = threading.local()
        self._opened: set[Pipe] = set()
        self._notices = Notices(url, signals)
        self._identity: tuple[int, int] | None = None  # of the database that was opened first
        self._closed_ms = 0  # up to here the books are closed, as far as we had to learn
        self._ending = False  # takes no more calls
        self._closed = False

    async def write(self, call: Call) -> Any:
        """Runs the call in the next group commit; returns once it is durable."""
        loop = asyncio.get_running_loop()
        waiting = Waiting(call, loop.create_future(), loop)
        with self._queueing:
            if self._ending:
                raise StorageUnavailable("The database is closed.")
            self._queue.append(waiting)
            if not self._pumping:
                self._pumping = True
                if self._grouping.ident is None:
                    self._grouping.start()
                self._wanted.put(True)
        return await waiting.future

    def read(self, call: Call, *, glance: bool = False) -> "asyncio.Future[Any]":
        """What the call comes to, on a thread beside the loop's."""
        act = partial(self._read, since_s=time.monotonic())
        return self._in(self._glances if glance else self._readers, act, call)

    def _read(self, call: Call, since_s: float) -> Any:
        return self._attempts(self._read_once, call, reads=True, since_s=since_s)[0]

    @staticmethod
    def _in(pool: ThreadPoolExecutor, act: Callable[[Call], Any], call: Call) -> "asyncio.Future[Any]":
        try:
            return asyncio.get_running_loop().run_in_executor(pool, act, call)
        except RuntimeError as error:  # the pool has been shut down
            raise StorageUnavailable("The database is closed.") from error

    def _group(self) -> None:
        while self._wanted.get():
            try:
                self._pump()
            except Exception:  # a mistake of ours: nobody may be left waiting, and the thread goes on
                log.exception("groups_failed")
                with self._queueing:
                    self._pumping = False
                    self._fail_waiting(StorageUnavailable())

    def _fail_waiting(self, error: StorageUnavailable) -> None:
        while self._queue:
            self._queue.popleft().fail(error)

    def _pump(self) -> None:
        """Runs in the group thread until nothing waits."""
        while True:
            with self._queueing:
                if not self._queue:
                    self._pumping = False
                    return
            for waiting in self._run_together():
                try:
                    self._writers.submit(self._run_alone, waiting)
                except RuntimeError:  # the pool has been shut down
                    waiting.fail(StorageUnavailable("The database is closed."))

    def _run_together(self) -> "list[Waiting]":
        """One transaction of the calls that wait; those that have to be run again, each by itself."""
        try:
            pipe = self._connection()
        except StorageUnavailable as error:  # whoever waits would only meet the same
            self._fail_waiting(error)
            return []
        group = Group(pipe, self.clock, BEGIN_GROUP, self._closed_ms)
        try:
            group.run(self._queue)
        except BaseException as error:  # noqa: BLE001 - whatever broke: each call is run again, or hears of it
            self._roll_back(pipe)
            if isinstance(error, BooksClosed):  # nothing was done yet: all of it again, at a later time
                self._learn_closed(pipe)
                with self._queueing:
                    self._queue.extendleft(reversed(group.calls))
                return []
            lost = group.committing and pipe.closed
            hangs = isinstance(error, HANGS)
            if not (lost or hangs):
                return group.calls
            log.error("storage_failed", error=str(error).splitlines()[0])
            if hangs:  # whoever waits would only meet the same
                self._silent_at = time.monotonic()
                self._fail_waiting(StorageUnavailable())
            for waiting in group.calls:
                waiting.fail(StorageUnavailable(UNKNOWN if lost else None))
            return []
        try:
            self._announce([one.tx for one in group.outcomes if one.tx is not None], len(group.outcomes))
        except Exception:  # they are durable all the same, and their callers wait
            log.exception("announcing_failed")
        group.answer()
        return []

    def _run_alone(self, waiting: "Waiting") -> None:
        try:
            result = self._write(waiting.call, waiting.since_s)
        except Exception as error:  # noqa: BLE001 - the caller gets it
            waiting.fail(error)
        else:
            waiting.answer(result, None)

    def _announce(self, committed: list[Tx], calls: int) -> None:
        """Hooks and signals of transactions that are durable."""
        self.on_batch(calls)
        signals: list[Any] = []
        for tx in committed:
            run_hooks(tx)
            signals.extend(tx.signals)
        if signals:
            self.signals.post(signals)
            self._notices.publish(signals)

    def write_sync(self, call: Call) -> Any:
        """One durable transaction; serialization failures, deadlocks and lost connections are retried.

        A connection lost while committing leaves it open whether the commit happened: that is never
        retried but answered with 503 (the caller's idempotency key makes its own retry safe).
        """
        return self._write(call, time.monotonic())

    def _write(self, call: Call, since_s: float) -> Any:
        result, tx = self._attempts(self._write_once, call, since_s=since_s)
        self._announce([tx], 1)
        return result

    def read_sync(self, call: Call) -> Any:
        """One consistent snapshot."""
        return self._attempts(self._read_once, call, reads=True, since_s=time.monotonic())[0]

    def _attempts(
        self, act: "Callable[[Pipe, Call, Attempt], Any]", call: Call, *, reads: bool = False, since_s: float
    ) -> tuple[Any, Tx]:
        """`since_s`: since when the caller waits; where the database was silent since, it fails at once."""
        attempt = Attempt()
        for number in range(1, TRIES + 1):
            if self._silent_at > since_s:
                raise StorageUnavailable()
            pipe = self._connection(reads=reads)
            attempt.committing = False
            try:
                return act(pipe, call, attempt), attempt.tx
            except BaseException as error:
                self._roll_back(pipe)
                if not isinstance(error, psycopg.Error):
                    raise
                if isinstance(error, BooksClosed):
                    self._learn_closed(pipe)
                if isinstance(error, HANGS):
                    self._silent_at = time.monotonic()
                lost = pipe.closed and not attempt.committing and not isinstance(error, HANGS)
                if number == TRIES or not (lost or isinstance(error, RETRIED)):
                    raise self._translate(error, pipe, unknown=attempt.committing and pipe.closed) from error
            time.sleep(random.uniform(0, 0.004 * 2 ** min(number, 6)))
        raise AssertionError("unreachable")

    def _write_once(self, pipe: Pipe, call: Call, attempt: "Attempt") -> Any:
        for holding in (True, False):
            fn, args, kwargs = call
            for sql in BEGIN_ALONE:
                pipe.later(sql)
            now_ms = self.clock.now_ms()
            books = Books(max(now_ms, self._closed_ms))
            pipe.later(OPEN_FROM, (books.closed_ms,))
            tx: Tx = (
                HoldingTx(pipe, self.dialect, now_ms, books=books)
                if holding
                else Tx(pipe, self.dialect, now_ms, books)
            )
            attempt.tx = tx
            try:
                result = fn(tx, *args, **kwargs)
                if isinstance(tx, HoldingTx):
                    tx.queue_held()
                attempt.committing = True
                if pipe.execute("COMMIT").statusmessage != "COMMIT":
                    # PostgreSQL answers COMMIT of a failed transaction with a silent rollback.
                    raise RuntimeError(SWALLOWED)
            except Conflict:
                attempt.committing = False
                self._roll_back(pipe)
            except AitbcError:
                if not (isinstance(tx, HoldingTx) and tx.assumed):
                    raise
                self._roll_back(pipe)
            else:
                return result
        raise AssertionError("only what is held back meets a conflict")

    def _read_once(self, pipe: Pipe, call: Call, attempt: "Attempt") -> Any:
        fn, args, kwargs = call
        for sql in READ_ONLY:
            pipe.later(sql)
        attempt.tx = Tx(pipe, self.dialect, self.clock.now_ms())
        result = fn(attempt.tx, *args, **kwargs)
        if pipe.failed:
            raise RuntimeError(SWALLOWED)
        pipe.leave("COMMIT")
        return result

    def _learn_closed(self, pipe: Pipe) -> None:
        """Up to when the books are closed: another coordinator's clock may be ahead of ours."""
        with contextlib.suppress(psycopg.Error):  # whoever comes next finds the connection lost
            row = pipe.execute(CLOSED).fetchone()
            if row is not None:
                self._closed_ms = max(self._closed_ms, int(row[0]))

    @staticmethod
    def _roll_back(pipe: Pipe) -> None:
        with contextlib.suppress(psycopg.Error):  # a lost connection has nothing left to roll back
            pipe.leave("ROLLBACK")

    @staticmethod
    def _translate(error: psycopg.Error, pipe: Pipe, *, unknown: bool = False) -> Exception:
        unavailable = (pg.DiskFull, pg.OutOfMemory, pg.TooManyConnections, pg.ReadOnlySqlTransaction)
        if pipe.closed or isinstance(error, (*RETRIED, *unavailable, psycopg.OperationalError)):
            log.error("storage_failed", error=str(error).splitlines()[0], code=error.sqlstate)
            return StorageUnavailable(UNKNOWN if unknown else None)
        return error

    def _connection(self, *, reads: bool = False) -> Pipe:
        """This thread's connection."""
        pipe: Pipe | None = getattr(self._local, "pipe", None)
        if pipe is not None and not pipe.closed:
            return pipe
        if self._closed:
            raise StorageUnavailable("The database is closed.")
        if pipe is not None:
            self._opened.discard(pipe)
        try:
            pipe = Pipe.connect(self.url, reads=reads, timeout_s=self._timeout_s, given_up=self._given_up)
        except psycopg.Error as error:
            if isinstance(error, HANGS):
                self._silent_at = time.monotonic()
            log.error("storage_failed", error=str(error).splitlines()[0])
            raise StorageUnavailable() from error
        self._hold_to_its_database(pipe)
        self._local.pipe = pipe
        self._opened.add(pipe)
        if self._given_up.is_set():  # it was made while all others were cut
            pipe.cut()
        return pipe

    def _hold_to_its_database(self, pipe: Pipe) -> None:
        """Connections come back after an outage: to the same database, or to none. StorageUnavailable."""
        try:
            found = pipe.execute(IDENTITY).fetchone()
        except psycopg.Error as error:
            pipe.close()
            raise self._translate(error, pipe) from error
        if found is None or found[1] is None:  # it has no tables yet
            return
        identity = (int(found[0]), int(found[1]))
        self._identity = self._identity or identity
        if identity != self._identity:
            pipe.close()
            log.error("database_replaced")
            raise StorageUnavailable(REPLACED)

    # --- lifetime -------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._notices.start()

    async def stop(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.close)

    def end_within(self, seconds: float) -> None:
        """Ends what still waits for the database after so long; only the first call counts."""
        if self._end is None:
            self._end = threading.Timer(seconds, self._cut_off)
            self._end.daemon = True
            self._end.start()

    def close(self) -> None:
        self.end_within(END_S)
        assert self._end is not None
        try:
            self._close()
        finally:
            self._end.cancel()

    def _cut_off(self) -> None:
        """Ends what still waits for a database that does not answer; its callers get a 503."""
        log.warning("database_cut_off", reason="it did not answer while the program was to end")
        with self._queueing:
            self._closed = True  # so that nothing is tried again
        self._given_up.set()
        for pipe in list(self._opened):
            pipe.cut()

    def _close(self) -> None:
        with self._queueing:
            self._ending = True
        if self._grouping.ident is not None:
            self._wanted.put(False)
            self._grouping.join()  # finishes what was queued
        self._writers.shutdown()
        self._readers.shutdown()
        self._glances.shutdown()
        with self._queueing:
            self._closed = True
        self._notices.close()
        for pipe in list(self._opened):
            pipe.close()
        self._opened.clear()


class Attempt:
    """How far an attempt at a transaction came."""

    __slots__ = ("committing", "tx")

    tx: Tx

    def __init__(self) -> None:
        self.committing = False
