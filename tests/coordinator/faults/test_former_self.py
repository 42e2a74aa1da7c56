"""A coordinator that is killed in the middle of a write on PostgreSQL; the next one does not wait for its locks."""

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from aitbc.coordinator.database import postgres_url
from tests.coordinator.faults.wire import Wire
from tests.support.databases import Databases
from tests.support.server import ServerProcess

pytestmark = [pytest.mark.faults, pytest.mark.parametrize("databases", ["postgresql"], indirect=True)]

KEY = "key-of-one-client"
# Nothing but its end may free what the killed one held: its own statements might take for ever.
SETTINGS = {"API_KEYS": KEY, "DATABASE_TIMEOUT_S": "60", "SECRET_KEY": "a" * 32}
LATER_S = 3.0  # than one that has nobody before it, which takes 1.5 s: within 5 s
# At its commit such a job has changed all that it changes: the account, its limits, the queue, the log.
SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(50); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON jobs DEFERRABLE INITIALLY {when} FOR EACH ROW
WHEN (NEW.model = 'slow') EXECUTE FUNCTION slow()
"""
ASLEEP = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
LOCKS = (
    "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database"
    " WHERE datname = current_database() AND pid = ANY(%s)"
)


@pytest.fixture
def database_url(databases: Databases, tmp_path: Path) -> str:
    """One that nobody else is given: it gets a trigger."""
    return databases.migrated(tmp_path)


@pytest.fixture
def other(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres_url(database_url), autocommit=True) as connection:
        yield connection


def pids(connection: psycopg.Connection[Any], query: str) -> list[int]:
    return [row[0] for row in connection.execute(query)]


def job(model: str) -> dict[str, Any]:
    return {"prompt": "x", "model": model, "params": {"max_tokens": 5}}


def in_vain(server: ServerProcess) -> threading.Thread:
    """A job whose write takes for ever."""

    def ask() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            Wire(server.url, KEY).once("POST", "/v1/jobs", job("slow"))

    asking = threading.Thread(target=ask)
    asking.start()
    return asking


@pytest.mark.parametrize("when", ["IMMEDIATE", "DEFERRED"], ids=["statement", "commit"])
def test_the_next_one_serves_within_seconds(
    start_server: Callable[..., ServerProcess], other: psycopg.Connection[Any], when: str
) -> None:
    begun = time.monotonic()
    server = start_server(SETTINGS)
    first_s = time.monotonic() - begun
    assert Wire(server.url, KEY).once("POST", "/v1/jobs", job("quick"))[0] == 201
    other.execute(SLOW.format(when=when).encode())
    asking = in_vain(server)
    until = time.monotonic() + 10
    while not (asleep := pids(other, ASLEEP)):
        assert time.monotonic() < until, server.tail()
        time.sleep(0.01)
    assert other.execute(LOCKS, (asleep,)).fetchone() != (0,)
    server.kill9()
    asking.join()
    begun = time.monotonic()
    server.start()
    serves_s = time.monotonic() - begun
    assert Wire(server.url, KEY).once("POST", "/v1/jobs", job("quick"))[0] == 201
    wrote_s = time.monotonic() - begun
    assert other.execute(LOCKS, (asleep,)).fetchone() == (0,)
    assert pids(other, ASLEEP) == []
    said = f"the first served after {first_s:.2f} s, this one after {serves_s:.2f} s, and wrote after {wrote_s:.2f} s"
    assert wrote_s < first_s + LATER_S, said
    models = [row["model"] for row in Wire(server.url, KEY).once("GET", "/v1/jobs")[1]]
    assert models == ["quick", "quick"], "nobody was told of the other, and it is not there"
