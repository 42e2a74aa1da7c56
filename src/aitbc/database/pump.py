"""PostgreSQL's groups of calls, run on the event loop's own thread.

Calls are plain synchronous code, and they wait for the database several times each. On a thread of their own each
call, each wait and each answer woke another thread, which then had to win the interpreter lock: together twice
what the work itself takes. So they run here in a greenlet. Where it has to wait it switches back to the loop,
which goes on serving, and which switches to it again when the socket can be read.
"""

import asyncio
import collections
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import psycopg
import structlog
from greenlet import GreenletExit, getcurrent, greenlet
from psycopg.abc import PQGen
from psycopg.waiting import Ready, Wait

from aitbc.core.clock import Clock
from aitbc.database.groups import Group, Waiting
from aitbc.database.pipe import Pipe
from aitbc.database.sqlite import Call
from aitbc.database.tx import Tx
from aitbc.errors import StorageUnavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")

# A shared transaction locks many accounts in whatever order its calls come in. Two of them side by side, from
# two coordinators, would deadlock all the time, and PostgreSQL takes a second to notice. So one runs at a time,
# and none beside the transactions of single calls; those, each with few locks, run beside each other.
TURN = int.from_bytes(b"aitbc", "big")
BEGIN_GROUP = ("BEGIN", f"SELECT pg_advisory_xact_lock({TURN})")

END_S = 5.0  # how long the end waits for the group under way and what is queued
CLOSED = "The database is closed."


class Pump:
    """Runs the calls of one event loop, group after group. All but `leave` belongs to the loop's thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        connect: Callable[[], Pipe],
        announce: Callable[[list[Tx], int], None],
        alone: Callable[[Waiting], None],
    ) -> None:
        """`connect` may take long. `announce` hears of what is durable, `alone` gets what is to be run by itself."""
        self.loop = loop
        self._clock = clock
        self._connect = connect
        self._announce = announce
        self._alone = alone
        self._connector = ThreadPoolExecutor(1, "group")
        self._queue: collections.deque[Waiting] = collections.deque()
        self._group: Group | None = None
        self._running: greenlet | None = None  # None: no call waits
        self._pipe: Pipe | None = None
        self._reading: int | None = None  # the socket that the loop looks at
        self._in_exchange = False  # whether the greenlet waits for it
        self._awaited: asyncio.Future[Any] | None = None  # what it waits for otherwise
        self._ending = False
        self._ended = threading.Event()

    def add(self, call: Call) -> "asyncio.Future[Any]":
        """What the call returns once it is durable."""
        if self._ending:
            raise StorageUnavailable(CLOSED)
        future: asyncio.Future[Any] = self.loop.create_future()
        self._queue.append(Waiting(call, future))
        if self._running is None:
            self._running = greenlet(self._run)
            self._go_on()
        return future

    # --- in the greenlet ------------------------------------------------------------------------------------

    def _run(self, _value: object = None) -> None:
        """Runs groups until nothing waits."""
        try:
            while self._queue:
                self._run_together()
        except BaseException as error:
            if not isinstance(error, GreenletExit):
                log.error("groups_failed", exc_info=error)
            self._fail(StorageUnavailable())
            if not isinstance(error, Exception):
                raise
        finally:
            self._running = None
            if self._ending:
                self._end()

    def _run_together(self) -> None:
        """One transaction of the calls that wait."""
        try:
            pipe = self._connection()
        except StorageUnavailable as error:  # whoever waits would only meet the same
            self._fail(error)
            return
        group = self._group = Group(pipe, self._clock, BEGIN_GROUP)
        try:
            group.run(self._queue)
        except Exception as error:  # noqa: BLE001 - whatever broke: each call is run again, or hears of it
            self._give_up(group, pipe, error)
        else:
            try:
                self._announce([one.tx for one in group.outcomes if one.tx is not None], len(group.outcomes))
            finally:
                group.answer()
        self._group = None

    def _give_up(self, group: Group, pipe: Pipe, error: Exception) -> None:
        """Nothing of the group was committed, or nobody knows."""
        pipe.roll_back()
        if isinstance(error, Cut) or (group.committing and pipe.closed):
            log.error("storage_failed", error=str(error).partition("\n")[0])
            group.fail(StorageUnavailable())
            return
        for waiting in group.calls:
            self._alone(waiting)

    def _connection(self) -> Pipe:
        pipe = self._pipe
        if pipe is not None and not pipe.closed:
            return pipe
        if pipe is not None:
            pipe.close()
        pipe = self._pipe = self._until(self.loop.run_in_executor(self._connector, self._connect))
        pipe.wait_by(self._exchange, self._look_away)
        try:
            self._reading = pipe.socket
            self.loop.add_reader(self._reading, self._readable)
        except NotImplementedError:  # a loop of Windows: a thread waits for it
            self._reading = None
        return pipe

    def _exchange(self, exchange: "PQGen[T]") -> T:
        """Waits for what the exchange waits for, as the driver's own `wait` does for threads."""
        if self._reading is None:
            assert self._pipe is not None
            return self._until(self.loop.run_in_executor(self._connector, self._pipe.block, exchange))
        try:
            wanted = next(exchange)
            while True:
                if wanted & Wait.W:
                    self.loop.add_writer(self._reading, self._writable)
                wanted = exchange.send(self._away())
        except StopIteration as end:
            result: T = end.value
            return result

    def _away(self) -> Any:
        self._in_exchange = True
        try:
            return self._wait()
        finally:
            self._in_exchange = False

    def _until(self, future: "asyncio.Future[T]") -> T:
        self._awaited = future
        future.add_done_callback(self._awaited_is_done)
        try:
            self._wait()
        finally:
            self._awaited = None
        return future.result()

    def _wait(self) -> Any:
        assert self._running is not None
        home = self._running.parent
        assert home is not None
        return home.switch()

    # --- in the loop ----------------------------------------------------------------------------------------

    def _go_on(self, value: object = None) -> None:
        """Goes to the greenlet, until it waits again or has nothing to do any more."""
        running = self._running
        assert running is not None
        running.parent = getcurrent()
        running.switch(value)

    def _readable(self) -> None:
        if self._in_exchange:
            self._go_on(Ready.R)
        elif self._pipe is not None:  # an answer that nobody waits for, or the end of the connection
            self._pipe.look()

    def _writable(self) -> None:
        assert self._reading is not None
        self.loop.remove_writer(self._reading)
        if self._in_exchange:
            self._go_on(Ready.W)

    def _awaited_is_done(self, future: "asyncio.Future[Any]") -> None:
        if self._awaited is future:
            self._go_on()
        elif not future.cancelled() and future.exception() is None:
            made = future.result()  # too late: nobody wants the connection any more
            if isinstance(made, Pipe):
                made.close()

    def _look_away(self) -> None:
        """Before the connection is closed: its socket's number may soon be another's."""
        fd, self._reading = self._reading, None
        if fd is not None and not self.loop.is_closed():
            self.loop.remove_reader(fd)
            self.loop.remove_writer(fd)

    def _fail(self, error: Exception) -> None:
        """Answers all who wait."""
        if self.loop.is_closed():
            return
        if self._group is not None:
            self._group.fail(error)
            self._group = None
        while self._queue:
            self._queue.popleft().settle(None, error)

    # --- the end --------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Finishes what was queued, then closes; what takes too long is cut off."""
        self.finish()
        if not self._ended.is_set():
            await self.loop.run_in_executor(None, self._ended.wait, END_S)
        if self._running is not None:
            self._cut()

    def finish(self) -> None:
        """Takes no more calls, and closes once those that it has are done."""
        self._ending = True
        if self._running is None:
            self._end()

    def leave(self) -> None:
        """`stop` for any thread, whatever became of the loop."""
        if self.loop.is_closed() or not self.loop.is_running():
            self._ending = True
            self._running = None
            self._fail(StorageUnavailable(CLOSED))
            self._end()
            return
        if self._is_here():
            self.finish()
            return
        try:
            self.loop.call_soon_threadsafe(self.finish)
        except RuntimeError:  # it closed meanwhile
            return
        self._ended.wait(END_S)

    def _is_here(self) -> bool:
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False

    def _cut(self) -> None:
        assert self._running is not None
        self._running.parent = getcurrent()
        self._running.throw(Cut("the database did not answer before the end"))

    def _end(self) -> None:
        self._connector.shutdown(wait=False)
        if self._pipe is not None:
            self._pipe.close()
        self._ended.set()


class Cut(psycopg.OperationalError):
    """The coordinator stops and waits no longer."""
