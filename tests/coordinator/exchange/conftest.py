"""The market's fixtures, and databases that are quick rather than durable."""

from tests.support.flows import database_url, ids_of_this_time, market, memory_folder

__all__ = ["database_url", "ids_of_this_time", "market", "memory_folder"]
