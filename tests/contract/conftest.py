"""One coordinator for all the contract's tests, on SQLite: nothing here depends on the database."""

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aitbc.coordinator.database import Database
from aitbc.coordinator.flows.acts.onboarding import issue_key
from aitbc.coordinator.schema import migrate
from tests.contract.documents import Json
from tests.support.server import ServerProcess


@pytest.fixture(scope="package")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("contract")
    url = f"sqlite:///{folder / 'coordinator.db'}"
    migrate.upgrade(url)
    server = ServerProcess(url, folder / "home", {"MAX_WAIT_S": "0.05", "LOG_LEVEL": "warning"})
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="package")
def served(coordinator: ServerProcess) -> Json:
    """The OpenAPI document of the running server."""
    with urllib.request.urlopen(f"{coordinator.url}/openapi.json", timeout=10) as reply:
        document: Json = json.load(reply)
        return document


@pytest.fixture(scope="package")
def key_of(coordinator: ServerProcess) -> Callable[[str], str]:
    """`key_of(role)`: the text of one key per role, its account opened with 1,000,000 AIT."""
    keys: dict[str, str] = {}

    def make(role: str) -> str:
        if role not in keys:
            database = Database.open(coordinator.database_url)
            made = database.write_sync(issue_key, role=role, account_id=f"the-{role}", grant_units=10**14)
            database.close()
            keys[role] = made.key
        return keys[role]

    return make
