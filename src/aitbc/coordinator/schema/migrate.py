"""Bringing a database to this program's schema, and refusing one that it does not understand.

An upgrade is one transaction under a lock of the database itself (SQLite: `BEGIN IMMEDIATE`; PostgreSQL: an
advisory lock), so that processes which start together upgrade once, and a crash half-way changes nothing.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection, make_url

from aitbc import __version__
from aitbc.coordinator.database import postgres_url, sqlite_path
from aitbc.coordinator.database.files import create_private
from aitbc.coordinator.database.looking import Looker
from aitbc.coordinator.database.patience import PatientConnection
from aitbc.coordinator.errors import StorageUnavailable

LOCK_WAIT_S = 60
"""How long one process waits for another that is upgrading the same database."""

ADVISORY_LOCK = 0x61697462_63646221
"""PostgreSQL's key of the upgrade lock: the bytes of "aitbcdb!"."""

LOOKS = 20
"""How often a database that others change while it is looked at is looked at again, with LOOK_AGAIN_S between."""
LOOK_AGAIN_S = 0.1
T = TypeVar("T")

SCRIPTS = Path(__file__).parent / "migrations"

_alembic_state = threading.Lock()  # a running Alembic command is global to the process


class MigrationError(RuntimeError):
    """The database's schema does not fit this program; the message says what to do."""


class DatabaseTooNew(MigrationError):
    """The database is at a revision that this program has never heard of."""


class DatabaseBehind(MigrationError):
    """The database lacks revisions, and this start may not apply them."""


class ForeignDatabase(MigrationError):
    """The database has tables of these names that no migration of this program made."""


def head_revision() -> str:
    """The revision this program works with."""
    head = _scripts().get_current_head()
    assert head is not None, "the package has no migrations"
    return head


def current_revision(url: str) -> str | None:
    """The revision the database is at, or None where it has never been migrated (or does not exist yet)."""
    if not _exists(url):
        return None
    return _look(url, _revision)


def upgrade(url: str) -> str:
    """Create or upgrade the database to this program's revision, and return that revision.

    Raises DatabaseTooNew and ForeignDatabase without changing anything.
    """
    with open_connection(url, write=True) as connection:
        if not _is_current(connection, url):
            with _alembic_state:
                command.upgrade(alembic_config(connection), "head")
    return head_revision()


def ensure_current(url: str, auto: bool) -> None:
    """Return only if the database is at this program's revision; where `auto` is set, by upgrading it first.

    Raises DatabaseTooNew, ForeignDatabase, or DatabaseBehind (only without `auto`). Any number of processes
    may call this at the same time.
    """
    if _exists(url) and _look(url, lambda connection: _is_current(connection, url)):
        return
    if not auto:
        found = current_revision(url) or "empty"
        raise DatabaseBehind(
            f"the database {_shown(url)} is not up to date (it is {found}, this program needs "
            f"{head_revision()}): run `aitbc db upgrade`"
        )
    upgrade(url)


def _look(url: str, find: Callable[[Connection], T]) -> T:
    """What `find` reads of one state of the database. StorageUnavailable where others change it all the time."""
    for again in range(LOOKS):
        try:
            with open_connection(url, write=False) as connection:
                return find(connection)
        except StorageUnavailable:
            if again == LOOKS - 1:
                raise
        time.sleep(LOOK_AGAIN_S)
    raise AssertionError("the last look returns or raises")


def _is_current(connection: Connection, url: str) -> bool:
    found = _revision(connection)
    if found is None:
        from aitbc.coordinator.schema.tables import metadata

        strangers = sorted(set(sa.inspect(connection).get_table_names()) & set(metadata.tables))
        if strangers:
            raise ForeignDatabase(
                f"the database {_shown(url)} has tables that AITBC did not make ({', '.join(strangers)}): "
                "give AITBC a database of its own in DATABASE_URL"
            )
        return False
    known = {script.revision for script in _scripts().walk_revisions()}
    if found not in known:
        raise DatabaseTooNew(
            f"the database {_shown(url)} is at revision {found}, which this program (AITBC {__version__}, "
            f"revision {head_revision()}) does not know: it was written by a newer version. Start that "
            "version or a newer one, or restore a backup made before the upgrade"
        )
    return found == head_revision()


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(SCRIPTS))


def alembic_config(connection: Connection) -> Config:
    """Alembic's configuration for this package's revisions, on a connection of `open_connection`."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config


def _is_sqlite(url: str) -> bool:
    backend = make_url(url).get_backend_name()
    if backend not in ("sqlite", "postgresql", "postgres"):
        raise MigrationError(f"DATABASE_URL names {backend!r}; AITBC runs on sqlite and postgresql")
    return backend == "sqlite"


def _exists(url: str) -> bool:
    """Whether there can be anything in the database yet; a PostgreSQL database always exists."""
    return not _is_sqlite(url) or sqlite_path(url).exists()


def _shown(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)


@contextmanager
def open_connection(url: str, write: bool) -> Iterator[Connection]:
    """One connection in one transaction; with `write`, holding the upgrade lock until the commit."""
    looker = Looker(sqlite_path(url)) if _is_sqlite(url) and not write else None
    engine = _sqlite_engine(sqlite_path(url), looker) if _is_sqlite(url) else _postgres_engine(url, write)
    try:
        with engine.begin() as connection:
            if write and connection.dialect.name == "postgresql":
                connection.execute(sa.text(f"SET LOCAL lock_timeout = '{LOCK_WAIT_S}s'"))
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
            yield connection
            if looker is not None:
                looker.check()
    except sa.exc.DatabaseError:
        if looker is not None:
            looker.check()  # half of a change is no database
        raise
    finally:
        engine.dispose()
        if looker is not None:
            looker.close()


def _postgres_engine(url: str, write: bool) -> sa.Engine:
    """A look is one snapshot, as on SQLite: an upgrade that commits meanwhile is seen whole or not at all."""
    level = "READ COMMITTED" if write else "REPEATABLE READ"
    dialect_url = make_url(postgres_url(url)).set(drivername="postgresql+psycopg")

    def connect() -> PatientConnection:
        return PatientConnection.reach(
            postgres_url(url), waits_while_alive=True, application_name="aitbc migrate"
        )

    return sa.create_engine(dialect_url, creator=connect, poolclass=sa.NullPool, isolation_level=level)


def _sqlite_engine(path: Path, looker: Looker | None) -> sa.Engine:
    if looker is None:
        create_private(path)

    def connect() -> sqlite3.Connection:
        if looker is not None:
            return looker.connect(LOCK_WAIT_S)
        # "rw": the file must be there.
        name = f"{path.absolute().as_uri()}?mode=rw"
        return sqlite3.connect(name, uri=True, timeout=LOCK_WAIT_S, isolation_level=None)

    engine = sa.create_engine("sqlite://", creator=connect, poolclass=sa.NullPool)

    # The driver is in autocommit mode, so that schema changes are inside the transaction begun here.
    @sa.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if looker is None else "BEGIN")

    return engine
