"""Databases that are quick rather than durable, with the first block."""

import pytest

from aitbc.chain import sealer
from aitbc.database import Database
from tests.support_flows import CHAIN, database_url, memory_folder

__all__ = ["database_url", "memory_folder"]


@pytest.fixture
def db(db: Database) -> Database:
    db.write_sync(sealer.ensure_genesis, CHAIN)
    return db
