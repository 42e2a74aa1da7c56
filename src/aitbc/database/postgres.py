"""PostgreSQL: group commit on one thread, and a pool of threads for what has to be run by itself.

Every job's money moves over the same few account rows, so transactions side by side would mostly wait for each
other's locks, each through all its round trips and its own wait for the disk. Calls that wait share one
transaction instead. Where one of them cannot (it failed after it wrote, or the database wants the transaction
to be tried again), each is run in a transaction of its own, retried where it may be.
"""

import asyncio
import collections
import contextlib
import json
import random
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import structlog
from psycopg import errors as pg

from aitbc.core.clock import Clock
from aitbc.database.signals import Signals
from aitbc.database.sqlite import Call, run_hooks
from aitbc.database.tx import Tx
from aitbc.errors import StorageUnavailable

log = structlog.get_logger(__name__)

WRITERS = 8
READERS = 4
TRIES = 12
BATCH_CALLS = 64  # the most calls that share one transaction
BATCH_S = 0.02  # it takes no more calls after this long: the first ones wait for all of it
CHANNEL = "aitbc"
NOTIFY_BYTES = 7000  # PostgreSQL refuses payloads of 8000 bytes and more
RETRIED = (pg.SerializationFailure, pg.DeadlockDetected, pg.LockNotAvailable)
READ_ONLY = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

# A shared transaction locks many accounts in whatever order its calls come in. Two of them side by side, from
# two coordinators, would deadlock all the time, and PostgreSQL takes a second to notice. So one runs at a time,
# and none beside the transactions of single calls; those, each with few locks, run beside each other.
TURN = int.from_bytes(b"aitbc", "big")
BEGIN_GROUP = f"BEGIN; SELECT pg_advisory_xact_lock({TURN})"
BEGIN_ALONE = f"BEGIN; SELECT pg_advisory_xact_lock_shared({TURN})"


class Waiting:
    """A call whose caller waits in an event loop. It may be answered from any thread."""

    __slots__ = ("_loop", "call", "future")

    def __init__(self, call: Call, future: "asyncio.Future[Any]", loop: asyncio.AbstractEventLoop) -> None:
        self.call = call
        self.future = future
        self._loop = loop

    def answer(self, result: Any, error: Exception | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop closed meanwhile: nobody waits any more
            self._loop.call_soon_threadsafe(self._settle, result, error)

    def fail(self, error: Exception) -> None:
        self.answer(None, error)

    def _settle(self, result: Any, error: Exception | None) -> None:
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class Group:
    """The calls of one shared transaction and what each came to."""

    __slots__ = ("calls", "committed", "committing", "outcomes")

    def __init__(self) -> None:
        self.calls: list[Waiting] = []
        self.outcomes: list[tuple[Any, Exception | None]] = []
        self.committed: list[Tx] = []
        self.committing = False


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
        self._grouping = ThreadPoolExecutor(1, "group")
        self._writers = ThreadPoolExecutor(max(1, writers - 1), "write")
        self._readers = ThreadPoolExecutor(readers, "read")
        self._queue: collections.deque[Waiting] = collections.deque()
        self._queueing = threading.Lock()
        self._pumping = False
        self._local = threading.local()
        self._opened: set[psycopg.Connection[Any]] = set()
        self._sender = uuid.uuid4().hex
        self._outgoing: list[Any] = []
        self._sending = threading.Lock()
        self._listener: threading.Thread | None = None
        self._closed = False

    async def write(self, call: Call) -> Any:
        """Runs the call in the next group commit; returns once it is durable."""
        loop = asyncio.get_running_loop()
        waiting = Waiting(call, loop.create_future(), loop)
        with self._queueing:
            if self._closed:
                raise StorageUnavailable("The database is closed.")
            if not self._pumping:
                try:
                    self._grouping.submit(self._pump)
                except RuntimeError as error:  # it has been shut down
                    raise StorageUnavailable("The database is closed.") from error
                self._pumping = True
            self._queue.append(waiting)
        return await waiting.future

    async def read(self, call: Call) -> Any:
        return await self._in(self._readers, self.read_sync, call)

    @staticmethod
    def _in(pool: ThreadPoolExecutor, act: Callable[[Call], Any], call: Call) -> "asyncio.Future[Any]":
        try:
            return asyncio.get_running_loop().run_in_executor(pool, act, call)
        except RuntimeError as error:  # the pool has been shut down
            raise StorageUnavailable("The database is closed.") from error

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
        group = Group()
        try:
            connection = self._connection()
        except StorageUnavailable as error:  # whoever waits would only meet the same
            while self._queue:
                self._queue.popleft().fail(error)
            return []
        try:
            connection.execute(BEGIN_GROUP)
            self._fill(connection, group)
            group.committing = True
            if connection.execute("COMMIT").statusmessage != "COMMIT":
                return group.calls  # an error of the database was swallowed: by itself its call will say so
        except BaseException as error:  # noqa: BLE001 - whatever broke: each call is run again, or hears of it
            self._roll_back(connection)
            if not (group.committing and connection.closed):
                return group.calls
            log.error("storage_failed", error=str(error).splitlines()[0])
            for waiting in group.calls:
                waiting.fail(StorageUnavailable())
            return []
        self._announce(group.committed, len(group.calls))
        for waiting, (result, failure) in zip(group.calls, group.outcomes, strict=True):
            waiting.answer(result, failure)
        return []

    def _fill(self, connection: psycopg.Connection[Any], group: "Group") -> None:
        """Runs waiting calls until the group is full. Raises where one of them spoils it for all."""
        cursor = connection.cursor()
        until = time.perf_counter() + BATCH_S
        while self._queue and len(group.calls) < BATCH_CALLS and time.perf_counter() < until:
            waiting = self._queue.popleft()
            group.calls.append(waiting)
            fn, args, kwargs = waiting.call
            tx = Tx(cursor, self.dialect, self.clock.now_ms())
            try:
                group.outcomes.append((fn(tx, *args, **kwargs), None))
                group.committed.append(tx)
            except psycopg.Error:
                raise
            except Exception as error:
                if tx.wrote:
                    raise
                group.outcomes.append((None, error))

    def _run_alone(self, waiting: "Waiting") -> None:
        try:
            result = self.write_sync(waiting.call)
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
            if self._listener is not None:
                self._publish(signals)

    def write_sync(self, call: Call) -> Any:
        """One durable transaction; serialization failures, deadlocks and lost connections are retried.

        A connection lost while committing leaves it open whether the commit happened: that is never
        retried but answered with 503 (the caller's idempotency key makes its own retry safe).
        """
        result, tx = self._attempts(BEGIN_ALONE, call)
        self._announce([tx], 1)
        return result

    def read_sync(self, call: Call) -> Any:
        """One consistent snapshot."""
        return self._attempts(READ_ONLY, call)[0]

    def _attempts(self, begin: str, call: Call) -> tuple[Any, Tx]:
        for attempt in range(1, TRIES + 1):
            connection = self._connection()
            committing = False
            fn, args, kwargs = call
            try:
                connection.execute(begin)
                tx = Tx(connection.cursor(), self.dialect, self.clock.now_ms())
                result = fn(tx, *args, **kwargs)
                committing = True
                if connection.execute("COMMIT").statusmessage != "COMMIT":
                    # PostgreSQL answers COMMIT of a failed transaction with a silent rollback.
                    raise RuntimeError("an error of the database was swallowed: nothing was committed")
                return result, tx
            except BaseException as error:
                self._roll_back(connection)
                if not isinstance(error, psycopg.Error):
                    raise
                lost = connection.closed and not committing
                if attempt == TRIES or not (lost or isinstance(error, RETRIED)):
                    raise self._translate(error, connection) from error
            time.sleep(random.uniform(0, 0.004 * 2 ** min(attempt, 6)))
        raise AssertionError("unreachable")

    @staticmethod
    def _roll_back(connection: psycopg.Connection[Any]) -> None:
        with contextlib.suppress(psycopg.Error):  # a lost connection has nothing left to roll back
            connection.execute("ROLLBACK")

    @staticmethod
    def _translate(error: psycopg.Error, connection: psycopg.Connection[Any]) -> Exception:
        unavailable = (pg.DiskFull, pg.OutOfMemory, pg.TooManyConnections, pg.ReadOnlySqlTransaction)
        if connection.closed or isinstance(error, (*RETRIED, *unavailable, psycopg.OperationalError)):
            log.error("storage_failed", error=str(error).splitlines()[0], code=error.sqlstate)
            return StorageUnavailable()
        return error

    def _connection(self) -> psycopg.Connection[Any]:
        connection: psycopg.Connection[Any] | None = getattr(self._local, "connection", None)
        if connection is not None and not connection.closed:
            return connection
        if self._closed:
            raise StorageUnavailable("The database is closed.")
        if connection is not None:
            self._opened.discard(connection)
        try:
            connection = psycopg.connect(
                self.url, autocommit=True, application_name="aitbc", connect_timeout=5
            )
        except psycopg.Error as error:
            log.error("storage_failed", error=str(error).splitlines()[0])
            raise StorageUnavailable() from error
        self._local.connection = connection
        self._opened.add(connection)
        return connection

    # --- signals between coordinators -----------------------------------------------------------------

    def _publish(self, signals: list[Any]) -> None:
        """Tells the other coordinators, without making this caller wait."""
        with self._sending:
            idle = not self._outgoing
            self._outgoing.extend(signals)
        if idle and not self._closed:
            with contextlib.suppress(RuntimeError):  # shutting down: the others look by themselves
                self._readers.submit(self._send)

    def _send(self) -> None:
        with self._sending:
            signals, self._outgoing = self._outgoing, []
        chunk: list[Any] = []
        size = 0
        try:
            for signal in signals:
                length = len(json.dumps(signal)) + 2
                if chunk and size + length > NOTIFY_BYTES:
                    self._notify(chunk)
                    chunk, size = [], 0
                chunk.append(signal)
                size += length
            if chunk:
                self._notify(chunk)
        except (psycopg.Error, StorageUnavailable) as error:
            log.warning("signals_not_sent", error=str(error))  # waiters look again by themselves

    def _notify(self, signals: list[Any]) -> None:
        payload = json.dumps([self._sender, signals], separators=(",", ":"))
        self._connection().execute("SELECT pg_notify(%s, %s)", (CHANNEL, payload))

    def _hear(self, payload: str) -> None:
        try:
            sender, signals = json.loads(payload)
            if sender != self._sender:
                self.signals.post([tuple(signal) for signal in signals])
        except (TypeError, ValueError):  # somebody else's, or of another version: signals are only hints
            log.warning("signal_not_understood", bytes=len(payload))

    def _listen(self) -> None:
        """Runs in a thread of its own: hears the other coordinators' signals, reconnects when cut off."""
        while not self._closed:
            try:
                with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    while not self._closed:
                        for note in connection.notifies(timeout=0.5):
                            if self._closed:
                                return
                            self._hear(note.payload)
            except psycopg.Error as error:
                if not self._closed:
                    log.warning("listener_reconnects", error=str(error).splitlines()[0])
                    time.sleep(1)

    # --- lifetime -------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._listener = threading.Thread(target=self._listen, name="listen", daemon=True)
        self._listener.start()

    async def stop(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.close)

    def close(self) -> None:
        self._grouping.shutdown()  # finishes what was queued
        self._writers.shutdown()
        self._readers.shutdown()
        with self._queueing:
            self._closed = True
        if self._listener is not None:
            with contextlib.suppress(
                psycopg.Error, StorageUnavailable
            ):  # else it looks up within half a second
                for connection in list(self._opened)[:1]:
                    connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, json.dumps([self._sender, []])))
            self._listener.join(2)
        for connection in list(self._opened):
            connection.close()
        self._opened.clear()
