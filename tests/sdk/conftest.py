"""One running network for all tests that ask for it."""

from collections.abc import Iterator

import pytest

from tests.sdk.network import Network, shared_network


@pytest.fixture(scope="session")
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    yield from shared_network(request, tmp_path_factory)
