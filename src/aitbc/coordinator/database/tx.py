"""What a domain function sees of the database: one open transaction."""

import sqlite3
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Protocol, TypeVar

from sqlalchemy.sql.expression import ClauseElement

from aitbc.coordinator.database.statements import WIDE, Compiled, Statement, compile_once, several
from aitbc.coordinator.errors import AitbcError

Item = TypeVar("Item")
Done = TypeVar("Done")


class Cursor(Protocol):
    """The part of a DB-API cursor that a transaction uses."""

    @property
    def rowcount(self) -> int: ...
    @property
    def description(self) -> Any: ...
    def execute(self, sql: Any, params: Any = ..., /) -> Any: ...
    def executemany(self, sql: Any, params: Any, /) -> Any: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> Any: ...


CLOSED = "SELECT value FROM counters WHERE name = 'closed'"
"""Up to which moment (ms) the books are closed: what a statement ended with. `ledger.closing` writes it."""


class Books:
    """From which moment on this transaction books: never before one that the books are closed up to."""

    __slots__ = ("closed_ms",)

    def __init__(self, closed_ms: int = 0) -> None:
        self.closed_ms = closed_ms


class Tx:
    """One transaction. Domain functions take it first, never commit it and never keep it.

    `now_ms` is the transaction's time (the injected clock, ms since the epoch, UTC). `booked_ms` is the time
    that movements of money bear: the same, but that no later transaction books before what a statement that
    somebody has seen ended with.
    """

    __slots__ = (
        "_changes",
        "_conflict",
        "_cursor",
        "_later",
        "_tallies",
        "books",
        "dialect",
        "hooks",
        "memo",
        "now_ms",
        "signals",
    )

    def __init__(self, cursor: Cursor, dialect: str, now_ms: int, books: Books | None = None) -> None:
        self._cursor = cursor
        self._changes = 0  # how many statements changed something
        # Rows that `each` writes at its end.
        self._later: dict[Statement, list[tuple[Any, ...]]] | None = None
        self._tallies: dict[tuple[Statement, str], dict[str, int]] = {}
        self._conflict = False  # whether a flush of these failed
        self.memo: dict[str, Any] = {}  # what this call has read and cannot change meanwhile
        self.dialect = dialect
        self.now_ms = now_ms
        self.books = Books() if books is None else books
        self.hooks: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self.signals: list[Hashable] = []

    @property
    def booked_ms(self) -> int:
        """The time of what this transaction books."""
        return max(self.now_ms, self.books.closed_ms)

    @property
    def wrote(self) -> bool:
        """Whether anything was written so far, so that there is something to undo."""
        return self._changes != 0

    def ahead(self, statement: Statement, /, **params: Any) -> None:
        """Says that the call will soon ask this by `one` or `all`, unless it fails before.

        On PostgreSQL the question travels with the next one, and its answer is used if the call has written
        nothing meanwhile. Nothing else changes, so it is a hint for the hot path.
        """

    def one(self, statement: Statement, /, **params: Any) -> Any:
        """The first row as a named tuple, or None."""
        compiled = statement.on(self.dialect)
        cursor = self._cursor
        cursor.execute(compiled.sql, compiled.parameters(params))
        row = cursor.fetchone()
        if row is None:
            return None
        if compiled.writes:
            self._changes += 1
        return compiled.shape(cursor.description)(row)

    def none(self, statement: Statement, /, **params: Any) -> bool:
        """Whether the query finds no row; for what is hardly ever found.

        On PostgreSQL that is taken for granted at first, and asked with what the call writes: where it was
        wrong, or the call fails after it, the call is run again with what is so.
        """
        return self.one(statement, **params) is None

    def all(self, statement: Statement, /, **params: Any) -> list[Any]:
        """Every row as a named tuple."""
        return self._rows(statement.on(self.dialect), params)

    def run(self, statement: Statement, /, **params: Any) -> int:
        """Executes a change; how many rows it touched."""
        compiled = statement.on(self.dialect)
        return self._run(compiled, compiled.parameters(params))

    def _run(self, compiled: Compiled, values: tuple[Any, ...]) -> int:
        self._cursor.execute(compiled.sql, values)
        count = self._cursor.rowcount
        if count:
            self._changes += 1
        return count

    def many(self, statement: Statement, rows: list[dict[str, Any]]) -> int:
        """Executes a change once for each set of parameters; how many rows these touched."""
        compiled = statement.on(self.dialect)
        return self._many(compiled, [compiled.parameters(row) for row in rows])

    def _many(self, compiled: Compiled, rows: list[tuple[Any, ...]]) -> int:
        if not rows:
            return 0
        self._changes += 1
        touched = whole = 0
        if len(rows) >= WIDE and self.dialect == "sqlite" and compiled.sql.startswith("INSERT"):
            whole = len(rows) // WIDE * WIDE
            together = [tuple(chain.from_iterable(rows[at : at + WIDE])) for at in range(0, whole, WIDE)]
            self._cursor.executemany(several(compiled.sql, WIDE), together)
            touched = self._cursor.rowcount
        if whole < len(rows):
            self._cursor.executemany(compiled.sql, rows[whole:])
            touched += self._cursor.rowcount
        return touched

    def add(self, statement: Statement, row: tuple[Any, ...] | None = None, /, **params: Any) -> int:
        """Inserts one row that nothing reads back in this call; how many rows it was (0: a conflict).

        `row`, in place of parameters: the values of an `insert_into` statement, in its columns' order.
        In `each` such rows are written together at the end, and counted then.
        """
        if row is None:
            row = statement.on(self.dialect).parameters(params)
        later = self._later
        if later is None:
            return self._run(statement.on(self.dialect), row)
        if statement in later:
            later[statement].append(row)
        else:
            later[statement] = [row]
        self._changes += 1
        return 1

    def expect(self, statement: Statement, /, **params: Any) -> int:
        """Executes a guarded change that finds its one row unless somebody was faster; how many it touched.

        Nothing may read the change back in this call. In `each` such changes are made together at the end,
        as if every one had found its row; where one had not, all items are run again by themselves.
        """
        return self.add(statement, **params)

    def tally(self, statement: Statement, key: str, **units: int) -> int:
        """Runs a guarded change of one row's amounts (parameters `key` and `units`); how many rows it touched.

        In `each` the amounts for one row are summed and written once at the end.
        """
        if self._later is None:
            return self.run(statement, key=key, **units)
        return self._sum(statement, key, units)

    def _sum(self, statement: Statement, key: str, units: dict[str, int]) -> int:
        sums = self._tallies.setdefault((statement, key), {})
        for name, amount in units.items():
            sums[name] = sums.get(name, 0) + amount
        self._changes += 1
        return 1

    def flush(self) -> bool:
        """Writes what `add`, `expect` and `tally` hold back. False where a row met a conflict or was not there.

        A False is remembered: what was held back is then lost, so the block cannot end well any more.
        """
        later, tallies = self._later, self._tallies
        if later:
            self._later = {}
            for statement, rows in later.items():
                if self._many(statement.on(self.dialect), rows) != len(rows):
                    self._conflict = True
                    return False
        if tallies:
            self._tallies = {}
            for (statement, key), units in tallies.items():
                if self.run(statement, key=key, **units) != 1:
                    self._conflict = True
                    return False
        return not self._conflict

    def query(self, element: ClauseElement) -> list[Any]:
        """Rows of a statement whose text depends on the request. Compiled at each call: cold paths only."""
        return self._rows(compile_once(element, self.dialect), {})

    def change(self, element: ClauseElement) -> int:
        """Like `query` for a change; how many rows it touched."""
        compiled = compile_once(element, self.dialect)
        self._cursor.execute(compiled.sql, compiled.parameters({}))
        self._changes += 1
        return self._cursor.rowcount

    def after_commit(self, hook: Callable[..., object], *args: Any) -> None:
        """Calls `hook(*args)` once this transaction is durable; never when it rolls back."""
        self.hooks.append((hook, args))

    def signal(self, signal: Hashable) -> None:
        """Wakes those who wait for `signal` (a tuple of JSON values) once this transaction is durable."""
        self.signals.append(signal)

    def each(
        self,
        items: Sequence[Item | AitbcError],
        act: Callable[[Item], Done],
        at_once: Callable[[Sequence[Item | AitbcError]], list[Done | AitbcError] | None] | None = None,
    ) -> list[Done | AitbcError]:
        """`act(item)` for each item by itself; an AitbcError stands in the place of what failed.

        Items that are errors already stay as they are. A savepoint for each item would cost as much as
        several of its statements, and nearly every item that fails has written nothing yet. So items run
        bare, with rows of `add` held back and written together; one that fails after it wrote, or a row that
        meets a conflict, undoes them all, and all are run again with savepoints.

        `at_once` does the same for all items together, where that is cheaper; None, or an AitbcError, where
        it cannot: then they are undone and run again like that.
        """
        hooks, signals = len(self.hooks), len(self.signals)
        self._mark("SAVEPOINT items")
        self._later = {}
        try:
            done = self._each_bare(items, act) if at_once is None else self._at_once(items, at_once)
            whole = done is not None and self.flush()
        finally:
            self._let_go()
        if done is None or not whole:
            del self.hooks[hooks:], self.signals[signals:]
            self._mark("ROLLBACK TO SAVEPOINT items")
            done = self._each_isolated(items, act)
        self._mark("RELEASE SAVEPOINT items")
        return done

    def _mark(self, sql: str) -> None:
        """Sets, releases or goes back to the savepoint of `each`."""
        self._cursor.execute(sql)

    def _let_go(self) -> None:
        """Nothing is held back any more; what was is lost."""
        self._later, self._tallies, self._conflict = None, {}, False

    @staticmethod
    def _at_once(
        items: Sequence[Item | AitbcError],
        at_once: Callable[[Sequence[Item | AitbcError]], list[Done | AitbcError] | None],
    ) -> list[Done | AitbcError] | None:
        try:
            return at_once(items)
        except AitbcError:  # which item it was of is seen when each is run by itself
            return None

    def _each_bare(
        self, items: Sequence[Item | AitbcError], act: Callable[[Item], Done]
    ) -> list[Done | AitbcError] | None:
        """None where an item failed that had written something."""
        done: list[Done | AitbcError] = []
        for item in items:
            if isinstance(item, AitbcError):
                done.append(item)
                continue
            hooks, signals, changes = len(self.hooks), len(self.signals), self._changes
            try:
                done.append(act(item))
            except AitbcError as error:
                if self._changes != changes:
                    return None
                del self.hooks[hooks:], self.signals[signals:]
                done.append(error)
        return done

    def _each_isolated(
        self, items: Sequence[Item | AitbcError], act: Callable[[Item], Done]
    ) -> list[Done | AitbcError]:
        done: list[Done | AitbcError] = []
        for item in items:
            if isinstance(item, AitbcError):
                done.append(item)
                continue
            try:
                with self.savepoint():
                    done.append(act(item))
            except AitbcError as error:
                done.append(error)
        return done

    @contextmanager
    def together(self) -> Iterator[None]:
        """Rows that the block adds are written together at its end. For blocks that fail as a whole."""
        if self._later is not None:
            yield
            return
        self._later = {}
        try:
            yield
            if not self.flush():
                raise RuntimeError("a row that was to be new stood already")
        finally:
            self._let_go()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """What the block does is undone, with its signals, where it raises; the transaction goes on.

        For batches, whose items succeed or fail by themselves. Not nested.
        """
        hooks, signals = len(self.hooks), len(self.signals)
        self._cursor.execute("SAVEPOINT item")
        try:
            yield
        except BaseException:
            del self.hooks[hooks:], self.signals[signals:]
            self._cursor.execute("ROLLBACK TO SAVEPOINT item")
            self._cursor.execute("RELEASE SAVEPOINT item")
            raise
        self._cursor.execute("RELEASE SAVEPOINT item")

    def _rows(self, compiled: Compiled, params: dict[str, Any]) -> list[Any]:
        self._cursor.execute(compiled.sql, compiled.parameters(params))
        return self._fetched(compiled)

    def _fetched(self, compiled: Compiled) -> list[Any]:
        cursor = self._cursor
        rows = cursor.fetchall()
        if not rows:
            return []
        if compiled.writes:
            self._changes += 1
        make = compiled.shape(cursor.description)
        return [make(row) for row in rows]


class FullOrBroken:
    """Which SQLite errors mean that the storage, not the request, is at fault."""

    CODES = frozenset(
        {
            sqlite3.SQLITE_FULL,
            sqlite3.SQLITE_IOERR,
            sqlite3.SQLITE_READONLY,
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_NOMEM,
            sqlite3.SQLITE_BUSY,
            sqlite3.SQLITE_LOCKED,
            sqlite3.SQLITE_CORRUPT,
            sqlite3.SQLITE_NOTADB,
            sqlite3.SQLITE_PROTOCOL,
        }
    )

    @classmethod
    def says(cls, error: sqlite3.Error) -> bool:
        code = getattr(error, "sqlite_errorcode", None)
        return code is not None and (code & 0xFF) in cls.CODES
