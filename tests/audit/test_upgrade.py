"""A database from before there was a log: its transfers and receipts get their leaves."""

import sqlalchemy as sa
from alembic import command

from aitbc.audit.database import audit
from aitbc.coordinator.database import Database
from aitbc.coordinator.schema import migrate

ROWS = (
    "INSERT INTO accounts VALUES ('system:mint', 'mint', -9, 0, 1), ('system:escrow', 'escrow', 0, 0, 1),"
    " ('a', 'user', 4, 1, 1), ('b', 'user', 5, 0, 1)",
    "INSERT INTO transfers VALUES ('z', 'mint', 'system:mint', 'a', 9, NULL, '', 1),"
    " ('y', 'hold', 'a', 'system:escrow', 6, NULL, 'j', 2), ('x', 'post', 'a', 'b', 5, 'y', 'j', 2),"
    " ('v', 'hold', 'a', 'system:escrow', 2, NULL, 'k', 3), ('u', 'void', 'a', 'system:escrow', 2, 'v', 'k', 3),"
    " ('t', 'hold', 'a', 'system:escrow', 1, NULL, 'l', 3)",
)


def test_what_was_there_before_the_log_gets_its_leaves(empty_database_url: str) -> None:
    with migrate.open_connection(empty_database_url, write=True) as connection:
        command.upgrade(migrate.alembic_config(connection), "0002")
        for row in ROWS:
            connection.execute(sa.text(row))
    migrate.ensure_current(empty_database_url, auto=True)
    database = Database.open(empty_database_url)
    report = database.read_sync(audit)
    database.close()
    assert report.ok, report.problems
    assert (report.counts["leaves"], report.counts["transfers"]) == (6, 6)
