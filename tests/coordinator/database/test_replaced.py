"""A PostgreSQL database that is replaced while it is open: as with SQLite's file, nothing goes on in another."""

import psycopg
import pytest
from sqlalchemy.engine import make_url

from aitbc.coordinator.database import Database
from aitbc.coordinator.errors import StorageUnavailable
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.schema.migrate import upgrade
from tests.support.databases import Databases

pytestmark = pytest.mark.parametrize("databases", ["postgresql"], indirect=True)


@pytest.mark.parametrize("way", ["database", "tables"])
def test_it_is_noticed_when_connections_come_back(database_url: str, databases: Databases, way: str) -> None:
    database = Database.open(database_url)
    name = make_url(database_url).database
    try:
        database.write_sync(ledger.open_account, "before")
        database.read_sync(ledger.balance, "before")
        if way == "database":
            databases.postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")
            databases.postgres.execute(f"CREATE DATABASE {name}")
        else:
            with psycopg.connect(database_url, autocommit=True) as connection:
                connection.execute("DROP SCHEMA public CASCADE")
                connection.execute("CREATE SCHEMA public")
        upgrade(database_url)
        databases.postgres.execute(
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"
        )
        for act in (database.write_sync, database.read_sync):
            with pytest.raises(StorageUnavailable, match="was replaced"):
                act(ledger.balance, "before")
    finally:
        database.close()
    again = Database.open(database_url)
    again.write_sync(ledger.open_account, "after")
    again.close()


def test_connections_that_were_cut_come_back(database_url: str, databases: Databases) -> None:
    database = Database.open(database_url)
    name = make_url(database_url).database
    for number in range(2):
        database.write_sync(ledger.open_account, f"account{number}")
        databases.postgres.execute(
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"
        )
    assert database.read_sync(ledger.balance, "account1").balance_units == 0
    database.close()
