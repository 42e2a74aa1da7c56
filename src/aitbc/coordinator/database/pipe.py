"""A PostgreSQL connection whose statements may wait for each other and travel together.

A statement costs tens of microseconds, but asking and hearing back wakes two processes, which on a machine
whose cores sleep costs several times as much. So what nothing waits for is queued (`later`) and sent with
the next statement that somebody does wait for, in one round trip (libpq's pipeline mode). Statements are
prepared at their first use. The driver's own cursors do all this too, at four times the processor time.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg import errors as pg
from psycopg import pq
from psycopg.abc import PQGen
from psycopg.adapt import PyFormat, Transformer
from psycopg.waiting import Ready, Wait

from aitbc.coordinator.database.patience import PATIENCE_S, PatientConnection, cut

Values = Sequence[Any]
RETRIED = (
    pg.SerializationFailure,
    pg.DeadlockDetected,
    pg.LockNotAvailable,
    pg.InvalidSqlStatementName,  # somebody between here and there forgot what was prepared
)
FORGET = "DEALLOCATE ALL"
# Fails where the books are closed beyond this moment: asked behind the lock that whoever closes them takes.
OPEN_FROM = (
    "SELECT CASE WHEN value > $1::bigint THEN 1 / (value - value) END FROM counters WHERE name = 'closed'"
)
MOST_PREPARED = 400  # lists with filters have many texts; a server process keeps what is prepared for good
# Plans of prepared statements are kept. One that was made while a table was small would read all of it, and
# does so when it has grown, until the statistics are renewed. Compiling a plan takes longer than any of ours.
PLANNING = "SET enable_seqscan = off; SET jit = off"
STALE_PLAN = "cached plan must not change result type"  # a migration came between
_FAILED = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED, pq.ExecStatus.BAD_RESPONSE)


class Conflict(BaseException):
    """A statement that was held back failed, so the call of this number has to be run again without holding.

    No `Exception`: it is nothing that a domain function could handle, and may be about an earlier call.
    """

    def __init__(self, owner: int) -> None:
        self.owner = owner


class BooksClosed(pg.SerializationFailure):
    """The books were closed beyond the time that this transaction books at; it takes a later one."""


class _Queued(NamedTuple):
    sql: str
    values: list[Any] | None
    formats: list[Any] | None
    owner: int | None  # the number of the call that held it back; None: nobody did


class Pipe:
    """One connection, for one thread at a time: the part of a cursor that transactions use, and a queue."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._libpq = connection.pgconn
        self._queue: list[_Queued] = []
        self._prepared: dict[str, bytes] = {}
        self._named = 0
        self._unread = 0  # ends of earlier trips whose answers nobody waited for
        self._results: list[pq.abc.PGresult] = []  # of the statements of the last `execute`
        self.answers: list[pq.abc.PGresult] = []  # of all that travelled with it
        self._transformer = Transformer(connection)
        self.trips = 0  # how often something was sent
        self._libpq.nonblocking = 1
        self._libpq.enter_pipeline_mode()

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        reads: bool = False,
        timeout_s: float | None = None,
        given_up: threading.Event | None = None,
    ) -> "Pipe":
        """`reads`: lists and audits, which may well want to read a whole table.

        `timeout_s`: how long a statement may take, and the server be silent; None: a statement as long as the
        server is alive. Raises psycopg.Error, Silent among them, also once `given_up` is set.
        """
        connection = PatientConnection.reach(
            url,
            timeout_s or PATIENCE_S,
            waits_while_alive=timeout_s is None,
            given_up=given_up,
            autocommit=True,
            application_name="aitbc",
            client_encoding="utf8",
        )
        chosen = [] if reads else [PLANNING]
        if timeout_s is not None:
            milliseconds = round(timeout_s * 1000)
            # Who hangs in a transaction keeps others waiting for its locks.
            chosen += [
                f"SET statement_timeout = {milliseconds}",
                f"SET idle_in_transaction_session_timeout = {2 * milliseconds}",
            ]
        if chosen:
            connection.execute("; ".join(chosen))
        return cls(connection)

    # --- what a transaction uses ------------------------------------------------------------------------

    def execute(self, sql: str, values: Values = (), /) -> "Pipe":
        """Sends what is queued and this; raises `Conflict` where something queued failed that was held back."""
        self.later(sql, values)
        self.answers = self._trip()
        self._results = self.answers[-1:]
        return self

    def recall(self, answer: pq.abc.PGresult) -> None:
        """Makes an earlier answer the one that is read now."""
        self._results = [answer]

    def executemany(self, sql: str, rows: Sequence[Values], /) -> "Pipe":
        """The statement once for each of the rows (at least one)."""
        for values in rows:
            self.later(sql, values)
        self._results = self._trip()[-len(rows) :]
        return self

    def later(self, sql: str, values: Values = (), owner: int | None = None) -> None:
        """Sends this with whatever is sent next. `owner`: the number of the call that need not hear of it."""
        self._queue.append(_Queued(sql, *self._pack(values), owner))

    def send(self) -> None:
        """Sends what is queued."""
        if self._queue:
            self._results = self._trip()

    def leave(self, sql: str) -> None:
        """Ends a transaction that has nothing to keep: sends this alone, if need be, and waits for nothing."""
        self.drop()
        if self._libpq.transaction_status != pq.TransactionStatus.IDLE:
            self.later(sql)
            self._put()
            self._unread += 1

    @property
    def queued(self) -> int:
        return len(self._queue)

    def drop(self, keep: int = 0) -> None:
        """Forgets what is queued, but for the first `keep`."""
        del self._queue[keep:]

    @property
    def rowcount(self) -> int:
        return sum(result.command_tuples or 0 for result in self._results)

    @property
    def description(self) -> list[tuple[str]]:
        result = self._results[-1]
        return [((result.fname(n) or b"").decode(),) for n in range(result.nfields)]

    @property
    def statusmessage(self) -> str:
        return (self._results[-1].command_status or b"").decode()

    def fetchone(self) -> tuple[Any, ...] | None:
        rows = self._load(1)
        return rows[0] if rows else None

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._load(None)

    def _load(self, most: int | None) -> list[tuple[Any, ...]]:
        result = self._results[-1]
        count = result.ntuples if most is None else min(most, result.ntuples)
        if not count:
            return []
        self._transformer.set_pgresult(result)
        return self._transformer.load_rows(0, count, tuple)

    # --- the connection ---------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        return self._connection.closed

    @property
    def failed(self) -> bool:
        """Whether the open transaction can only be rolled back."""
        return self._libpq.transaction_status == pq.TransactionStatus.INERROR

    def close(self) -> None:
        self._connection.close()

    def cut(self) -> None:
        """Breaks the connection off, from any thread: whoever waits for an answer finds it lost."""
        cut(self._connection)

    def _trip(self) -> list[pq.abc.PGresult]:
        """Sends what is queued and waits for its results. Raises what the database answered."""
        if (
            len(self._prepared) >= MOST_PREPARED
            and self._libpq.transaction_status == pq.TransactionStatus.IDLE
        ):
            self._forget()
        sent = self._queue
        texts = self._put()
        try:
            results = self._connection.wait(self._exchange(len(texts)))
        except BaseException:
            self.close()  # what it still has to say would be taken for the answer to something else
            raise
        return self._judge(sent, texts, results)

    def _forget(self) -> None:
        """Has the server forget all statements, in a trip of its own: they would be of the next transaction."""
        queue, self._queue = self._queue, []
        self._prepared.clear()
        self.later(FORGET)
        self._trip()
        self._prepared.clear()  # itself among them
        self._queue = queue

    def _put(self) -> list[str | None]:
        """Gives what is queued to libpq. Returns what each of the results will be for.

        That is the text of a statement that is being prepared, or None for one that is run.
        """
        queue, self._queue = self._queue, []
        self.trips += 1
        libpq, prepared = self._libpq, self._prepared
        made: list[str | None] = []
        try:
            for sql, values, formats, _owner in queue:
                name = prepared.get(sql)
                if name is None:
                    self._named += 1
                    name = prepared[sql] = b"s%d" % self._named
                    libpq.send_prepare(name, sql.encode())
                    made.append(sql)
                libpq.send_query_prepared(name, values, formats)
                made.append(None)
            libpq.pipeline_sync()  # sends as much as the socket takes
        except psycopg.Error:
            self.close()
            raise
        return made

    def _exchange(self, expected: int) -> PQGen[list[pq.abc.PGresult]]:
        """Sends the rest of the queue while reading, then reads the results: none of them may block."""
        libpq = self._libpq
        while libpq.flush():
            ready = yield Wait.RW
            if ready & Ready.R:
                libpq.consume_input()
        results: list[pq.abc.PGresult] = []
        nothing = 0
        while True:
            while libpq.is_busy():
                if (yield Wait.R):
                    libpq.consume_input()
            result = libpq.get_result()
            if result is None:
                nothing += 1
                if nothing > 1 or libpq.status == pq.ConnStatus.BAD:
                    raise psycopg.OperationalError(f"the connection is lost: {libpq.get_error_message()}")
                continue
            nothing = 0
            if result.status != pq.ExecStatus.PIPELINE_SYNC:
                if not self._unread:
                    results.append(result)
            elif self._unread:
                self._unread -= 1
            else:
                break
        if len(results) != expected:
            raise psycopg.OperationalError("the database answered something else than was asked")
        return results

    def _judge(
        self, sent: list[_Queued], texts: list[str | None], results: list[pq.abc.PGresult]
    ) -> list[pq.abc.PGresult]:
        """The results of the statements. Raises for the first that failed; those after it were not run."""
        answers: list[pq.abc.PGresult] = []
        for place, (text, result) in enumerate(zip(texts, results, strict=True)):
            if result.status in _FAILED:
                for missing in filter(None, texts[place:]):
                    self._prepared.pop(missing, None)
                error = pg.error_from_result(result)
                if isinstance(error, pg.FeatureNotSupported) and STALE_PLAN in str(error):
                    error = pg.InvalidSqlStatementName(str(error))
                if isinstance(error, pg.InvalidSqlStatementName):
                    self._prepared.clear()  # under new names the next attempt prepares all anew
                if sent[len(answers)].sql == OPEN_FROM and isinstance(error, pg.DivisionByZero):
                    error = BooksClosed("the books are closed beyond this transaction's time")
                owner = sent[len(answers)].owner
                if owner is None or self.closed or isinstance(error, RETRIED):
                    raise error
                raise Conflict(owner) from error
            if text is None:
                answers.append(result)
        return answers

    def _pack(self, values: Values) -> tuple[list[Any] | None, list[Any] | None]:
        """Values as the database reads them: as text, but for bytes."""
        if not values:
            return None, None
        packed: list[Any] = []
        formats: list[Any] | None = None
        for value in values:
            pack = _PACK.get(type(value))
            if pack is not None:
                packed.append(pack(value))
                continue
            if isinstance(value, bytes):
                formats = formats or [pq.Format.TEXT] * len(values)
                formats[len(packed)] = pq.Format.BINARY
                packed.append(value)
            else:
                packed.append(None if value is None else self._adapted(value))
        return packed, formats

    def _adapted(self, value: Any) -> Any:
        if isinstance(value, str):
            return _text(str(value))
        return self._transformer.get_dumper(value, PyFormat.TEXT).dump(value)


def _text(value: str) -> bytes:
    packed = value.encode()
    if 0 in packed:  # libpq would take it for the end
        raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
    return packed


_PACK: dict[type, Callable[[Any], bytes]] = {
    str: _text,
    int: lambda value: b"%d" % value,
    bool: lambda value: b"t" if value else b"f",
}
