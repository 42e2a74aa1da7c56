"""The transaction boundary: `await database.write(fn, ...)` and `await database.read(fn, ...)`.

`fn(tx, ...)` is plain synchronous domain code. A write is one transaction: durable when it returns, gone
without a trace when it raises. On SQLite the writes that wait share one commit (group commit).
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from aitbc.coordinator.database.postgres import TURN, PostgresBackend
from aitbc.coordinator.database.signals import Signals
from aitbc.coordinator.database.sqlite import SqliteBackend
from aitbc.coordinator.database.statements import Statement, insert_into, statement
from aitbc.coordinator.database.turns import READING_FOR, Turns
from aitbc.coordinator.database.tx import Tx
from aitbc.core.clock import Clock, SystemClock

__all__ = [
    "READING_FOR",
    "TURN",
    "Database",
    "Signals",
    "Statement",
    "Tx",
    "insert_into",
    "sqlite_path",
    "statement",
]

P = ParamSpec("P")
R = TypeVar("R")


def sqlite_path(url: str) -> Path:
    """The file of a `sqlite:///relative.db` or `sqlite:////absolute.db` URL; ValueError for in-memory ones."""
    _scheme, _, path = url.partition(":///")
    if not path or path == ":memory:":
        raise ValueError("an in-memory database cannot keep what was acknowledged; name a file")
    return Path(path).expanduser()


def postgres_url(url: str) -> str:
    """`postgresql://…`, also from the `postgres://` and `postgresql+psycopg://` spellings."""
    return "postgresql://" + url.partition("://")[2]


class Database:
    """One open database and the wake-ups of what it commits."""

    def __init__(self, backend: SqliteBackend | PostgresBackend, clock: Clock, signals: Signals) -> None:
        self.backend = backend
        self.clock = clock
        self.signals = signals
        self._turns = Turns(max(1, backend.readers - 1))

    @property
    def dialect(self) -> str:
        return self.backend.dialect

    @classmethod
    def open(
        cls,
        url: str,
        clock: Clock | None = None,
        *,
        pool_size: int = 12,
        timeout_s: float | None = None,
        looks_only: bool = False,
    ) -> "Database":
        """Opens `url` without migrating it. ValueError for an unknown kind of database.

        `pool_size`: PostgreSQL connections, a third of them for reads. `timeout_s`: how long a statement may
        take, or a lock be waited for; None: for programs that may read a whole database, as long as it lives.
        `looks_only`: for `read_sync`; nothing in a SQLite database's file or beside it changes, not even its mode.
        """
        clock = clock or SystemClock()
        signals = Signals()
        if url.startswith("sqlite"):
            path = sqlite_path(url)
            backend = SqliteBackend(path, clock, signals, timeout_s, looks_only=looks_only)
            return cls(backend, clock, signals)
        if url.startswith("postgres"):
            readers = max(1, pool_size // 3)
            writers = max(1, pool_size - readers)
            server = PostgresBackend(postgres_url(url), clock, signals, writers, readers, timeout_s)
            return cls(server, clock, signals)
        raise ValueError(f"DATABASE_URL must begin with sqlite:/// or postgresql://, not {url.split(':')[0]}")

    async def start(self) -> None:
        """Binds signals to the running event loop; `write` and `read` work from here on."""
        self.signals.attach(asyncio.get_running_loop())
        await self.backend.start()

    def end_within(self, seconds: float) -> None:
        """Calls that have not ended by then fail with StorageUnavailable, whatever the database does."""
        self.backend.end_within(seconds)

    async def stop(self) -> None:
        """Waits for writes under way, then closes every connection."""
        self.signals.close()
        await self.backend.stop()

    async def write(self, fn: Callable[Concatenate[Tx, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs `fn` in a transaction; returns when it is durable. Errors of `fn` undo it and are raised here."""
        result: R = await self.backend.write((fn, args, kwargs))
        return result

    async def read(self, fn: Callable[Concatenate[Tx, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs `fn` on a consistent snapshot, beside the writer.

        One caller (`READING_FOR`) never has all readers: what he asks for beyond that waits for his own reads.
        """
        who = READING_FOR.get()
        result: R
        if who is None:
            result = await self.backend.read((fn, args, kwargs))
        else:
            await self._turns.take(who)
            result = await self._turns.keep(who, self.backend.read, (fn, args, kwargs))
        return result

    async def glance(self, fn: Callable[Concatenate[Tx, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """`read` of a row or two on a connection of its own: it never waits behind the slow reads of others.

        For what every request and every operator depends on: who is calling, whether the database answers.
        """
        result: R = await self.backend.read((fn, args, kwargs), glance=True)
        return result

    def write_sync(self, fn: Callable[Concatenate[Tx, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """`write` for code without an event loop, on a connection of the calling thread."""
        result: R = self.backend.write_sync((fn, args, kwargs))
        return result

    def read_sync(self, fn: Callable[Concatenate[Tx, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """`read` for code without an event loop."""
        result: R = self.backend.read_sync((fn, args, kwargs))
        return result

    def close(self) -> None:
        """For users of the `_sync` calls; servers use `stop`."""
        self.backend.close()
