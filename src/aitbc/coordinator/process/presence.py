"""Which coordinators run on a database: one on a SQLite file, all with one signing key on a PostgreSQL database.

Two on one file would each count, cache and seal as if they were alone. Two with different keys would sign one log
by turns, which no verifier that pinned either key accepts. A coordinator that runs holds a lock for as long as it
lives, however it ends: of a file beside the database, or in the database itself.
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import structlog

from aitbc.coordinator.config import Settings
from aitbc.coordinator.database import postgres_url, sqlite_path
from aitbc.coordinator.database.files import make_folders
from aitbc.coordinator.database.patience import PatientConnection, cut

if os.name == "posix":
    import fcntl

log = structlog.get_logger(__name__)

LOOK_S = 5.0  # how often a coordinator looks whether its lock still stands
RUNNING = int.from_bytes(b"runs", "big")  # the first number of the locks; the second says which key
ENTRANCE = int.from_bytes(b"runs?", "big")  # held by whoever comes in, so that of two at once one is first
END_S = 0.5  # so long the end waits for the thread that looks
THERE = (
    "SELECT objid::bigint, count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2"
    f" AND classid = {RUNNING} AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " GROUP BY objid ORDER BY objid"
)


class NotAlone(Exception):
    """Another coordinator runs on this database, beside which this one must not; the message says which."""


@contextlib.contextmanager
def held(settings: Settings, key_id: str) -> Iterator[None]:
    """Says for as long as the block lasts that a coordinator with this signing key runs here. NotAlone."""
    if settings.database_url.startswith("sqlite"):
        with _file_held(sqlite_path(settings.database_url)):
            yield
        return
    place = _Place(postgres_url(settings.database_url), key_id)
    place.enter()
    try:
        yield
    finally:
        place.leave()


# --- SQLite -------------------------------------------------------------------------------------------------


def lock_file(path: Path) -> Path:
    """The file beside the database that a running coordinator locks; it stays when that ends."""
    return path.with_name(f"{path.name}-lock")


def holder(path: Path) -> str:
    """The process that runs on this database, as it says itself; '' for none."""
    if os.name != "posix":
        return ""
    try:
        with lock_file(path).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return lock_file(path).read_text().strip() or "a process"
    except OSError:  # there is none yet, or a file system without locks
        return ""
    return ""


@contextlib.contextmanager
def _file_held(path: Path) -> Iterator[None]:
    if os.name != "posix":
        yield
        return
    make_folders(path.parent)
    descriptor = os.open(lock_file(path), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotAlone(f"{holder(path)} runs a coordinator on {path} already") from None
        except OSError as error:  # some network file systems, where SQLite does not work safely either
            log.warning("database_not_locked", file=str(lock_file(path)), error=error.strerror)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


# --- PostgreSQL ---------------------------------------------------------------------------------------------


def number_of(key_id: str) -> int:
    """A key in a lock: the first 8 digits of its id, as the database's signed integer."""
    number = int(key_id[:8], 16)
    return number - (1 << 32) if number >= 1 << 31 else number


def running(url: str) -> dict[str, int]:
    """How many coordinators run on a PostgreSQL database, by the first 8 digits of their keys' ids."""
    with PatientConnection.reach(postgres_url(url), autocommit=True) as connection:
        return _there(connection)


def _there(connection: psycopg.Connection[Any]) -> dict[str, int]:
    return {f"{int(number):08x}": int(count) for number, count in connection.execute(THERE)}


class _Place:
    """A lock in the database, on a connection of its own; taken again where that is lost."""

    def __init__(self, url: str, key_id: str) -> None:
        self._url = url
        self._key_id = key_id
        self._ending = threading.Event()
        self._connection: psycopg.Connection[Any] | None = None
        self._watching = threading.Thread(target=self._watch, name="presence", daemon=True)

    def enter(self) -> None:
        self._connection, others = self._come_in()
        if others:
            self._connection.close()
            raise NotAlone(
                f"{_listed(others)} on this database already, and this one would sign with {self._key_id}: give all"
                " the same SECRET_KEY, or stop them all to change it"
            )
        self._watching.start()

    def leave(self) -> None:
        self._ending.set()
        connection = self._connection
        if connection is not None:
            cut(connection)  # it may be waiting for a database that hangs
        self._watching.join(END_S)
        if connection is not None:
            connection.close()

    def _come_in(self) -> tuple[psycopg.Connection[Any], dict[str, int]]:
        """Takes the lock; those that were there with another key."""
        connection = PatientConnection.reach(
            self._url, given_up=self._ending, autocommit=True, application_name="aitbc presence"
        )
        try:
            connection.execute("SET statement_timeout = '10s'")
            # So that the database forgets a machine that is gone without a word within a minute.
            for name, seconds in (("idle", 30), ("interval", 10), ("count", 3)):
                connection.execute(f"SET tcp_keepalives_{name} = {seconds}".encode())
            connection.execute("SELECT pg_advisory_lock(%s::bigint)", (ENTRANCE,))
            connection.execute(
                "SELECT pg_advisory_lock_shared(%s::int, %s::int)", (RUNNING, number_of(self._key_id))
            )
            others = {key: n for key, n in _there(connection).items() if not self._key_id.startswith(key)}
            connection.execute("SELECT pg_advisory_unlock(%s::bigint)", (ENTRANCE,))
        except BaseException:
            connection.close()
            raise
        return connection, others

    def _watch(self) -> None:
        """Looks now and then; a lock that was lost with its connection is taken again."""
        while not self._ending.wait(LOOK_S):
            try:
                if self._connection is None:
                    self._connection, others = self._come_in()
                    if others:  # they came while the database forgot us: both sign now
                        log.error("another_signing_key", ours=self._key_id, theirs=sorted(others))
                else:
                    self._connection.execute("SELECT 1")
            except psycopg.Error as error:
                if self._ending.is_set():
                    return
                log.warning("presence_lost", error=str(error).splitlines()[0])
                if self._connection is not None:
                    self._connection.close()
                self._connection = None


def _listed(others: dict[str, int]) -> str:
    count = sum(others.values())
    keys = " and ".join(f"{key}…" for key in others)
    return f"{count} {'coordinator runs' if count == 1 else 'coordinators run'}, signing with {keys},"
