"""The market's fixtures, and databases that are quick rather than durable."""

from tests.audit.tampered import _scenes, honest, small, wide
from tests.support.flows import database_url, ids_of_this_time, market, memory_folder

__all__ = [
    "_scenes",
    "database_url",
    "honest",
    "ids_of_this_time",
    "market",
    "memory_folder",
    "small",
    "wide",
]
