"""A statement that the program gives up, or that it dies in, keeps no lock in PostgreSQL."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from aitbc.coordinator.database import Database, Tx, postgres_url
from aitbc.coordinator.database.patience import PatientConnection, Silent, cut
from aitbc.coordinator.database.pipe import Pipe

pytestmark = pytest.mark.parametrize("databases", ["postgresql"], indirect=True)

SOON_S = 0.9  # below the second after which the server finds out by itself, were it not told not to
LOCK = "SELECT pg_advisory_xact_lock(77) FROM pg_sleep(0)"
HOLDERS = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 77 AND granted"
NEVER = "SET client_connection_check_interval = 0"


@pytest.fixture
def url(database_url: str) -> str:
    return postgres_url(database_url)


@pytest.fixture
def other(url: str) -> Iterator[psycopg.Connection[Any]]:
    """Another connection. What still holds the lock at the end is ended: a test that fails takes no other along."""
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection
        connection.execute(
            f"SELECT pg_terminate_backend(pid) FROM ({HOLDERS}) AS h WHERE pid <> pg_backend_pid()"
        )


def until_free(other: psycopg.Connection[Any], begun_s: float) -> float:
    """How long it took until nobody held the lock any more."""
    other.execute("SET statement_timeout = '20s'")
    other.execute("SELECT pg_advisory_lock(77)")
    return time.monotonic() - begun_s


def until_held(other: psycopg.Connection[Any]) -> None:
    until = time.monotonic() + 10
    while other.execute(HOLDERS).fetchone() is None:
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("give_up", [cut, PatientConnection.close], ids=["cut", "closed"])
def test_from_another_thread(
    url: str, other: psycopg.Connection[Any], give_up: Callable[[PatientConnection], None]
) -> None:
    connection = PatientConnection.reach(url, 60, autocommit=True)
    connection.execute(NEVER)

    def work() -> None:
        with pytest.raises(psycopg.Error):
            connection.execute(f"{LOCK}; SELECT pg_sleep(60)")

    working = threading.Thread(target=work)
    working.start()
    until_held(other)
    begun = time.monotonic()
    give_up(connection)
    assert time.monotonic() - begun < 0.2, "nobody waits for the server"
    if give_up is cut:  # whoever waits finds it lost; who closed it has the thread still to hear of that
        working.join(5)
        assert not working.is_alive()
    assert until_free(other, begun) < SOON_S
    working.join(5)
    connection.close()


def test_one_whose_answer_was_not_waited_for_any_longer(url: str, other: psycopg.Connection[Any]) -> None:
    connection = PatientConnection.reach(url, 0.4, autocommit=True)
    connection.execute(NEVER)
    with pytest.raises(Silent):
        connection.execute(f"{LOCK}; SELECT pg_sleep(60)")
    assert until_free(other, time.monotonic()) < SOON_S


def test_a_transactions_pipe(url: str, other: psycopg.Connection[Any]) -> None:
    """Several statements of one trip; the lock is an earlier one's."""
    pipe = Pipe.connect(url, timeout_s=60)
    pipe.execute(NEVER)
    begun: list[float] = []

    def give_up() -> None:
        until_held(other)
        begun.append(time.monotonic())
        pipe.cut()

    giving_up = threading.Thread(target=give_up)
    giving_up.start()
    pipe.later("BEGIN")
    pipe.later(LOCK)
    with pytest.raises(psycopg.Error):
        pipe.execute("SELECT pg_sleep(60)")
    giving_up.join()
    assert until_free(other, begun[0]) < SOON_S
    pipe.close()


def test_a_database_that_is_closed_with_calls_under_way(
    database_url: str, other: psycopg.Connection[Any]
) -> None:
    database = Database.open(database_url, timeout_s=60)

    def call(tx: Tx) -> None:
        tx.query(text("SELECT set_config('client_connection_check_interval', '0', true)"))
        tx.query(text(LOCK))
        tx.query(text("SELECT pg_sleep(60)"))

    def work() -> None:
        with pytest.raises(Exception, match="database"):
            database.write_sync(call)

    working = threading.Thread(target=work)
    working.start()
    until_held(other)
    begun = time.monotonic()
    database.backend.end_within(0.1)  # type: ignore[union-attr]
    working.join(5)
    assert not working.is_alive()
    assert until_free(other, begun) < SOON_S
    database.close()


def test_a_quiet_connection_is_closed_without_a_word(url: str) -> None:
    before = threading.active_count()
    connection = PatientConnection.reach(url, 60, autocommit=True)
    connection.execute("SELECT 1")
    connection.close()
    connection.close()
    cut(connection)
    assert "cancel" not in {thread.name for thread in threading.enumerate()}
    assert threading.active_count() <= before + 1
