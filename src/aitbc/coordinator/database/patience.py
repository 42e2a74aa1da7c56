"""PostgreSQL connections that wait for no answer for ever.

A server that hangs (a stopped process, a disk that does not answer) keeps its connections open: the kernel
acknowledges what is sent, so no time-out of the network or of the server ends the wait. So each wait here has an
end of its own. Code with long statements (upgrades, audits, backups) waits on where a second connection is
answered: then the server is busy, and does not hang.
"""

import contextlib
import os
import queue
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Self, TypeVar

import psycopg
from psycopg import pq
from psycopg.abc import PQGen
from psycopg.waiting import Ready, Wait

T = TypeVar("T")

PATIENCE_S = 5.0  # without a single byte from the server
LOOK_S = 0.1
# A network that loses everything is found out by the kernel.
SOCKET = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
# A server that works for us, or waits for a lock, looks so often whether we are still there. Otherwise whoever is
# killed keeps its locks until its statement has ended. Servers older than 14 cannot.
LOOK_FOR_US = b"""
DO $$ BEGIN
  PERFORM set_config('client_connection_check_interval', '1s', false);
EXCEPTION WHEN undefined_object OR invalid_parameter_value THEN NULL;
END $$
"""


class Silent(psycopg.OperationalError):
    """The server has not answered for as long as we wait."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the database has not answered for {seconds:.1f} s")


class PatientConnection(psycopg.Connection[Any]):
    """A connection, all of whose waits end: `Silent` after `patience_s` without a byte from the server.

    With `waits_while_alive` they end only where a second connection is not answered either.
    """

    patience_s: float = PATIENCE_S
    waits_while_alive: bool = False
    url: str = ""

    @classmethod
    def reach(
        cls,
        url: str,
        patience_s: float = PATIENCE_S,
        *,
        waits_while_alive: bool = False,
        given_up: threading.Event | None = None,
        **options: Any,
    ) -> Self:
        """A connection, made within `patience_s`. Raises Silent, also once `given_up` is set; psycopg.Error."""

        def connect() -> Any:
            made = cls.connect(url, connect_timeout=max(2, round(patience_s)), **{**SOCKET, **options})
            made.pgconn.exec_(LOOK_FOR_US)  # beside psycopg, which would begin a transaction
            return made

        connection: Self = _within(patience_s, connect, given_up)
        connection.patience_s = patience_s
        connection.waits_while_alive = waits_while_alive
        connection.url = url
        return connection

    def wait(self, gen: PQGen[T], interval: float = LOOK_S, timeout: float | None = None) -> T:
        """As psycopg's, but with an end."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        return super().wait(self._watched(gen), interval)

    def close(self) -> None:
        """As psycopg's; a statement that is given up with it is asked to end."""
        ask_to_stop(self)
        super().close()

    def _watched(self, gen: PQGen[T]) -> PQGen[T]:
        silent_since = 0.0
        try:
            wanted: Wait = next(gen)
            while True:
                ready: Ready | int = yield wanted
                if ready:
                    silent_since = 0.0
                elif not silent_since:
                    silent_since = time.monotonic() - LOOK_S
                elif time.monotonic() - silent_since > self.patience_s:
                    if not (self.waits_while_alive and alive(self.url, self.patience_s)):
                        self.close()  # what it still has to say would be taken for the answer to something else
                        raise Silent(self.patience_s)
                    silent_since = 0.0
                wanted = gen.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result


def alive(url: str, patience_s: float = PATIENCE_S) -> bool:
    """Whether the server answers a new connection, be it with a refusal."""
    try:
        PatientConnection.reach(url, patience_s).close()
    except (Silent, psycopg.errors.ConnectionTimeout):
        return False
    except psycopg.Error:
        return True
    return True


def cut(connection: psycopg.Connection[Any]) -> None:
    """Breaks a connection off, from any thread: whoever waits for an answer finds it lost.

    The server is asked to end the statement that is under way, so that its locks are free at once.
    """
    ask_to_stop(connection)
    with (
        contextlib.suppress(psycopg.Error, OSError),
        socket.socket(fileno=os.dup(connection.pgconn.socket)) as end,
    ):
        end.shutdown(socket.SHUT_RDWR)


def ask_to_stop(connection: psycopg.Connection[Any]) -> None:
    """Has the server end the statement that is under way, if there is one. Waits for nothing, promises nothing.

    The server may hang, and then so does whoever asks: on a thread of its own, over a connection of its own.
    """
    try:
        if connection.closed or connection.pgconn.transaction_status != pq.TransactionStatus.ACTIVE:
            return
        request = connection.pgconn.cancel_conn()  # knows all that it needs once the connection is closed
    except psycopg.Error:  # lost, or a libpq older than 17: then the server finds out by itself (LOOK_FOR_US)
        return

    threading.Thread(target=_ask, args=(request,), name="cancel", daemon=True).start()


def _ask(request: pq.abc.PGcancelConn) -> None:
    """Sends the request, and waits (not in libpq, which would keep all threads waiting) until it was taken."""
    until = time.monotonic() + PATIENCE_S
    status: int = pq.PollingStatus.WRITING  # as libpq has it before the first look: not connected yet
    try:
        request.start()
        while status in (pq.PollingStatus.READING, pq.PollingStatus.WRITING):
            wanted = selectors.EVENT_READ if status == pq.PollingStatus.READING else selectors.EVENT_WRITE
            with selectors.DefaultSelector() as selector:
                selector.register(request.socket, wanted)
                if not selector.select(until - time.monotonic()):
                    break
            status = request.poll()
    except (psycopg.Error, OSError):  # lost, or refused: nothing is left to ask for, or nobody to ask
        pass
    finally:
        request.finish()


def _within(seconds: float, connect: Callable[[], Any], given_up: threading.Event | None) -> Any:
    """What `connect` makes, on a thread that nobody has to wait for: looking up a name has no time-out."""
    made: queue.SimpleQueue[Any] = queue.SimpleQueue()
    late = threading.Event()

    def act() -> None:
        try:
            connection = connect()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            made.put(error)
            return
        made.put(connection)
        if late.is_set():
            connection.close()

    threading.Thread(target=act, name="connect", daemon=True).start()
    until = time.monotonic() + seconds
    while True:
        try:
            found = made.get(timeout=LOOK_S)
        except queue.Empty:
            if time.monotonic() > until or (given_up is not None and given_up.is_set()):
                late.set()
                raise Silent(seconds) from None
            continue
        if isinstance(found, BaseException):
            raise found
        return found
