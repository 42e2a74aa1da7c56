"""Calls that share one PostgreSQL transaction whatever else the machine does, their trips and their connections."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import psycopg
from sqlalchemy import text

from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.database.pipe import Pipe


async def shared(db: Database, *calls: Callable[[Tx], Any]) -> list[Any]:
    """The calls in one transaction (they are queued while another one runs); errors in place of results."""
    started, go_on = threading.Event(), threading.Event()

    def first(tx: Tx) -> None:
        started.set()
        assert go_on.wait(10)

    ahead = asyncio.create_task(db.write(first))
    await asyncio.to_thread(started.wait, 10)
    tasks = [asyncio.create_task(db.write(call)) for call in calls]
    await asyncio.sleep(0.4)  # longer than a group takes calls, so that these have one of their own
    go_on.set()
    await ahead
    return await asyncio.gather(*tasks, return_exceptions=True)


def trips_of(db: Database, fn: Callable[..., Any], *args: Any) -> tuple[Any, int]:
    """What the call came to, and its round trips with its COMMIT."""
    counted: list[int] = []

    def call(tx: Tx) -> Any:
        pipe = tx._cursor
        assert isinstance(pipe, Pipe)
        counted.append(pipe.trips)
        tx.after_commit(lambda: counted.append(pipe.trips))
        return fn(tx, *args)

    result = db.write_sync(call)
    return result, counted[-1] - counted[0]


def own_pid(tx: Tx) -> int:
    """The server process behind the transaction's connection."""
    return int(tx.query(text("SELECT pg_backend_pid() AS pid"))[0].pid)


def end_backend(database_url: str, pid: int) -> None:
    """Ends a server process, and so somebody's connection; returns once it has ended."""
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
