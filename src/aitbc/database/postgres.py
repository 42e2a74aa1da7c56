"""PostgreSQL: group commit on the event loop, and a pool of threads for what has to be run by itself.

Every job's money moves over the same few account rows, so transactions side by side would mostly wait for each
other's locks, each through all its round trips and its own wait for the disk. Calls that wait share one
transaction instead (`groups`), and statements that nobody waits for share round trips (`pipe`, `holding`).
Where the database wants the transaction to be tried again, each call is run in one of its own, retried where
it may be.
"""

import asyncio
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import structlog
from psycopg import errors as pg

from aitbc.core.clock import Clock
from aitbc.database.groups import SWALLOWED, Waiting
from aitbc.database.holding import HoldingTx
from aitbc.database.notices import Notices
from aitbc.database.pipe import RETRIED, Conflict, Pipe
from aitbc.database.pump import CLOSED, TURN, Pump
from aitbc.database.signals import Signals
from aitbc.database.sqlite import Call, run_hooks
from aitbc.database.tx import Tx
from aitbc.errors import AitbcError, StorageUnavailable

log = structlog.get_logger(__name__)

WRITERS = 8
READERS = 4
TRIES = 12
READ_ONLY = ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",)

# Beside each other, but not beside a group of calls (`pump.TURN`).
BEGIN_ALONE = ("BEGIN", f"SELECT pg_advisory_xact_lock_shared({TURN})")


class PostgresBackend:
    """The PostgreSQL side of `Database`. Several coordinators may share one database."""

    dialect = "postgresql"

    def __init__(
        self, url: str, clock: Clock, signals: Signals, writers: int = WRITERS, readers: int = READERS
    ) -> None:
        self.url = url
        self.clock = clock
        self.signals = signals
        self.on_batch: Callable[[int], None] = lambda _size: None
        self._writers = ThreadPoolExecutor(max(1, writers - 1), "write")
        self._readers = ThreadPoolExecutor(readers, "read")
        self._pumps: dict[asyncio.AbstractEventLoop, Pump] = {}
        self._ends = threading.Lock()  # held where pumps are added or the end begins
        self._local = threading.local()
        self._opened: set[Pipe] = set()
        self._notices = Notices(url, signals)
        self._ending = False  # takes no more calls
        self._closed = False

    async def write(self, call: Call) -> Any:
        """Runs the call in the next group commit; returns once it is durable."""
        loop = asyncio.get_running_loop()
        return await (self._pumps.get(loop) or self._pump(loop)).add(call)

    async def read(self, call: Call) -> Any:
        return await self._in(self._readers, self.read_sync, call)

    @staticmethod
    def _in(pool: ThreadPoolExecutor, act: Callable[[Call], Any], call: Call) -> "asyncio.Future[Any]":
        try:
            return asyncio.get_running_loop().run_in_executor(pool, act, call)
        except RuntimeError as error:  # the pool has been shut down
            raise StorageUnavailable(CLOSED) from error

    def _pump(self, loop: asyncio.AbstractEventLoop) -> Pump:
        """A new one, for a loop that has none yet. Nearly always there is but one loop."""
        with self._ends:
            if self._ending:
                raise StorageUnavailable(CLOSED)
            for closed in [other for other in self._pumps if other.is_closed()]:
                self._pumps.pop(closed).leave()
            made = self._pumps[loop] = Pump(
                loop,
                self.clock,
                self._connect,
                lambda committed, calls: self._announce(committed, calls, loop),
                self._run_elsewhere,
            )
            return made

    def _run_elsewhere(self, waiting: Waiting) -> None:
        try:
            self._writers.submit(self._run_alone, waiting)
        except RuntimeError:  # the pool has been shut down
            waiting.answer(None, StorageUnavailable(CLOSED))

    def _run_alone(self, waiting: "Waiting") -> None:
        try:
            result = self.write_sync(waiting.call)
        except Exception as error:  # noqa: BLE001 - the caller gets it
            waiting.answer(None, error)
        else:
            waiting.answer(result, None)

    def _announce(
        self, committed: list[Tx], calls: int, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        """Hooks and signals of transactions that are durable. `loop`: whose thread this is."""
        self.on_batch(calls)
        signals: list[Any] = []
        for tx in committed:
            run_hooks(tx)
            signals.extend(tx.signals)
        if signals:
            if loop is None:
                self.signals.post(signals)
            else:
                self.signals.tell(signals, loop)
            self._notices.publish(signals)

    def write_sync(self, call: Call) -> Any:
        """One durable transaction; serialization failures, deadlocks and lost connections are retried.

        A connection lost while committing leaves it open whether the commit happened: that is never
        retried but answered with 503 (the caller's idempotency key makes its own retry safe).
        """
        result, tx = self._attempts(self._write_once, call)
        self._announce([tx], 1)
        return result

    def read_sync(self, call: Call) -> Any:
        """One consistent snapshot."""
        return self._attempts(self._read_once, call, reads=True)[0]

    def _attempts(
        self, act: "Callable[[Pipe, Call, Attempt], Any]", call: Call, *, reads: bool = False
    ) -> tuple[Any, Tx]:
        attempt = Attempt()
        for number in range(1, TRIES + 1):
            pipe = self._connection(reads=reads)
            attempt.committing = False
            try:
                return act(pipe, call, attempt), attempt.tx
            except BaseException as error:
                pipe.roll_back()
                if not isinstance(error, psycopg.Error):
                    raise
                lost = pipe.closed and not attempt.committing
                if number == TRIES or not (lost or isinstance(error, RETRIED)):
                    raise self._translate(error, pipe) from error
            time.sleep(random.uniform(0, 0.004 * 2 ** min(number, 6)))
        raise AssertionError("unreachable")

    def _write_once(self, pipe: Pipe, call: Call, attempt: "Attempt") -> Any:
        for holding in (True, False):
            fn, args, kwargs = call
            for sql in BEGIN_ALONE:
                pipe.later(sql)
            make = HoldingTx if holding else Tx
            tx = attempt.tx = make(pipe, self.dialect, self.clock.now_ms())
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
                pipe.roll_back()
            except AitbcError:
                if not (isinstance(tx, HoldingTx) and tx.assumed):
                    raise
                pipe.roll_back()
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

    @staticmethod
    def _translate(error: psycopg.Error, pipe: Pipe) -> Exception:
        unavailable = (pg.DiskFull, pg.OutOfMemory, pg.TooManyConnections, pg.ReadOnlySqlTransaction)
        if pipe.closed or isinstance(error, (*RETRIED, *unavailable, psycopg.OperationalError)):
            log.error("storage_failed", error=str(error).splitlines()[0], code=error.sqlstate)
            return StorageUnavailable()
        return error

    def _connection(self, *, reads: bool = False) -> Pipe:
        """This thread's connection."""
        pipe: Pipe | None = getattr(self._local, "pipe", None)
        if pipe is not None and not pipe.closed:
            return pipe
        if self._closed:
            raise StorageUnavailable(CLOSED)
        if pipe is not None:
            self._opened.discard(pipe)
        pipe = self._local.pipe = self._connect(reads=reads)
        self._opened.add(pipe)
        return pipe

    def _connect(self, *, reads: bool = False) -> Pipe:
        try:
            return Pipe.connect(self.url, reads=reads)
        except psycopg.Error as error:
            log.error("storage_failed", error=str(error).splitlines()[0])
            raise StorageUnavailable() from error

    # --- lifetime -------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._notices.start()

    async def stop(self) -> None:
        loop = asyncio.get_running_loop()
        with self._ends:
            self._ending = True
        if loop in self._pumps:
            await self._pumps[loop].stop()
        await loop.run_in_executor(None, self.close)

    def close(self) -> None:
        with self._ends:
            self._ending = True
            pumps = list(self._pumps.values())
        for pump in pumps:
            pump.leave()
        self._writers.shutdown()
        self._readers.shutdown()
        with self._ends:
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
