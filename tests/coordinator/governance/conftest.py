"""An assembly on a market, on both databases."""

import pytest

from tests.support.flows import Market, database_url, ids_of_this_time, market, memory_folder
from tests.support.governance import Assembly

__all__ = ["assembly", "database_url", "ids_of_this_time", "market", "memory_folder"]


@pytest.fixture
def assembly(market: Market) -> Assembly:
    return Assembly(market)
