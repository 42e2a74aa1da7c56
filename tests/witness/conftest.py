"""Databases that are quick rather than durable, with the first block."""

import pytest

from aitbc.coordinator.database import Database
from tests.support.flows import database_url, found, memory_folder

__all__ = ["database_url", "memory_folder"]


@pytest.fixture
def db(db: Database) -> Database:
    db.write_sync(found)
    return db
