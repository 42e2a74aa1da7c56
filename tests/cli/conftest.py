"""The running network, and a user of the command line."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.harness import User
from tests.sdk.network import Network, shared_network


@pytest.fixture(scope="session")
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    yield from shared_network(request, tmp_path_factory)


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    """A user with an empty home and no settings."""
    return User(tmp_path / "home", monkeypatch)


@pytest.fixture
def alice(user: User, network: Network) -> User:
    """A user with a client key of the network."""
    return user.at(network.url, network.alice.key)
