"""Makes the n-th statement of a transaction fail, before or after it has run, or its commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import errors as pg

from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.database.postgres import PostgresBackend

COMMIT_BEFORE, COMMIT_AFTER = -1, -2


class Faults:
    """Where to fail: `at` counts statements from 1; `after` lets the statement run first.

    Armed only inside `armed(fn)`, so that other transactions of the same batch are left alone.
    """

    def __init__(self, db: Database, at: int, *, after: bool = False, conflict: bool = False) -> None:
        self.db = db
        self.at = at
        self.after = after
        self.conflict = conflict
        self.count = 0
        self.fired = 0
        self.active = False

    def error(self) -> Exception:
        self.fired += 1
        if self.db.dialect == "sqlite":
            broken = sqlite3.OperationalError("disk I/O error")
            broken.sqlite_errorcode = sqlite3.SQLITE_IOERR
            return broken
        if self.conflict:
            return pg.SerializationFailure("could not serialize access")
        return psycopg.OperationalError("could not write")

    def statement(self, run: Callable[[], Any]) -> Any:
        if not self.active or (self.conflict and self.fired):
            return run()
        self.count += 1
        if self.count != self.at:
            return run()
        if self.after:
            run()
        raise self.error()

    def commit(self, run: Callable[[], Any]) -> Any:
        if self.at == COMMIT_BEFORE:
            raise self.error()
        answer = run()
        if self.at == COMMIT_AFTER:
            raise self.error()
        return answer

    def armed(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        def run(tx: Tx, *args: Any, **kwargs: Any) -> Any:
            tx._cursor = Cursor(tx._cursor, self)
            self.count, self.active = 0, True
            try:
                return fn(tx, *args, **kwargs)
            finally:
                self.active = False

        return run

    def __enter__(self) -> Faults:
        backend: Any = self.db.backend
        if isinstance(backend, PostgresBackend):
            own = backend._connection
            self.undo = lambda: setattr(backend, "_connection", own)
            backend._connection = lambda **how: Connection(own(**how), self)  # type: ignore[assignment, return-value, misc]
        else:
            commit = backend.commit
            self.undo = lambda: setattr(backend, "commit", commit)
            backend.commit = lambda connection: self.commit(lambda: commit(connection))
        return self

    def __exit__(self, *_error: object) -> None:
        self.undo()


class Cursor:
    """A cursor whose statements `faults` may break."""

    def __init__(self, cursor: Any, faults: Faults) -> None:
        self._cursor = cursor
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def execute(self, sql: Any, params: Any = ()) -> Any:
        return self._faults.statement(lambda: self._cursor.execute(sql, params))

    def executemany(self, sql: Any, params: Any) -> Any:
        return self._faults.statement(lambda: self._cursor.executemany(sql, params))


class Connection:
    """A PostgreSQL connection whose COMMIT `faults` may break."""

    def __init__(self, connection: Any, faults: Faults) -> None:
        self._connection = connection
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, *args: Any) -> Any:
        if sql == "COMMIT":
            return self._faults.commit(lambda: self._connection.execute(sql, *args))
        return self._connection.execute(sql, *args)
