"""Fixtures that every test may use; the machinery behind them is in tests/support.

`database_url` runs a test on both engines. For one engine only:
`@pytest.mark.parametrize("databases", ["sqlite"], indirect=True)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # a fixture imports what it needs, so that the tests of pure code start at once
    from aitbc.coordinator.api_keys.service import NewKey
    from aitbc.coordinator.database import Database
    from aitbc.core.clock import ManualClock
    from tests.support.bitcoin import BitcoinNode
    from tests.support.databases import Databases
    from tests.support.postgres import Postgres
    from tests.support.server import ServerProcess

    MakeKey = Callable[..., NewKey]
    StartServer = Callable[..., ServerProcess]

START_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z: where the manual clock starts."""

GRANT_UNITS = 1000 * 100_000_000
"""What `make_key` gives a new account: 1000 AIT."""


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL server for the whole run, started when the first test needs it."""
    from tests.support.postgres import running_postgres

    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def bitcoin() -> Iterator[BitcoinNode]:
    """One Bitcoin node on regtest for the whole run, started (in about a second) when the first test needs it."""
    from tests.support.bitcoin import running_bitcoin

    with running_bitcoin() as node:
        yield node


@pytest.fixture(scope="session")
def _databases_by_kind() -> dict[str, Databases]:
    return {}


@pytest.fixture(
    params=[
        pytest.param("sqlite", marks=pytest.mark.sqlite),
        pytest.param("postgresql", marks=pytest.mark.postgresql),
    ]
)
def databases(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    _databases_by_kind: dict[str, Databases],
) -> Iterator[Databases]:
    """Makes as many databases of the engine under test as a test wants."""
    from tests.support.databases import Databases

    kind = request.param
    if kind not in _databases_by_kind:
        server = request.getfixturevalue("postgres") if kind == "postgresql" else None
        _databases_by_kind[kind] = Databases(kind, tmp_path_factory.mktemp("template"), server)
    yield _databases_by_kind[kind]
    _databases_by_kind[kind].drop_all()


@pytest.fixture
def database_url(databases: Databases, tmp_path: Path) -> str:
    """A fresh, migrated database of the engine under test, as DATABASE_URL names it."""
    return databases.migrated(tmp_path)


@pytest.fixture
def empty_database_url(databases: Databases, tmp_path: Path) -> str:
    """A fresh database without a single table."""
    return databases.empty(tmp_path)


@pytest.fixture
def clock() -> ManualClock:
    """Stands still until `advance` or `jump` is called."""
    from aitbc.core.clock import ManualClock

    return ManualClock(now_ms=START_MS)


@pytest.fixture
def db(database_url: str, clock: ManualClock) -> Iterator[Database]:
    """The database opened in this process, under the manual clock; use `write_sync` and `read_sync`."""
    from aitbc.coordinator.database import Database

    database = Database.open(database_url, clock=clock)
    yield database
    database.close()


@pytest.fixture
def make_key(db: Database) -> MakeKey:
    """`make_key(role="client", account=None, **options)`: a key, its account opened with 1000 AIT."""
    from aitbc.coordinator.flows.acts.onboarding import issue_key

    def make(
        role: str = "client", account: str | None = None, grant_units: int = GRANT_UNITS, **options: Any
    ) -> NewKey:
        return db.write_sync(issue_key, role=role, account_id=account, grant_units=grant_units, **options)

    return make


@pytest.fixture
def start_server(database_url: str, tmp_path: Path) -> Iterator[StartServer]:
    """`start_server(settings=None, database_url=..., by_script=False)`: one more coordinator; ends with the test."""
    from tests.support.server import ServerProcess

    running: list[ServerProcess] = []

    def start(
        settings: Mapping[str, str] | None = None, database_url: str = database_url, by_script: bool = False
    ) -> ServerProcess:
        home = tmp_path / f"home{len(running)}"
        server = ServerProcess(database_url, home, settings, by_script=by_script)
        running.append(server)
        return server.start()

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def server(start_server: StartServer) -> ServerProcess:
    """A coordinator process over `database_url`."""
    return start_server()
