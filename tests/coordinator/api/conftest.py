"""The application in this process, without a network: `api` has no rate limits, `start_api` settings."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aitbc.core.clock import ManualClock
from tests.coordinator.api.support import Market


@pytest.fixture
def start_api(database_url: str, tmp_path: Path, clock: ManualClock) -> Iterator[Callable[..., Market]]:
    """`start_api(rate_limit_client=5)`: an application over `database_url` with these settings."""
    started: list[Market] = []

    def start(**settings: Any) -> Market:
        started.append(Market(database_url, tmp_path / "home", clock, settings))
        return started[-1]

    yield start
    for api in started:
        api.stop()


@pytest.fixture
def api(start_api: Callable[..., Market]) -> Market:
    return start_api()


sqlite_only = pytest.mark.parametrize("databases", ["sqlite"], indirect=True)
"""For what does not depend on the engine."""
