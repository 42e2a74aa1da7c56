"""A database from before there was a log: its transfers and receipts get their leaves."""

import sqlalchemy as sa
from alembic import command

from aitbc.audit.database import audit
from aitbc.coordinator.database import Database
from aitbc.coordinator.schema import migrate
from tests.support.transfers import id_of, job_of

Z, Y, X, V, U, T = (id_of(name) for name in "zyxvut")
J, K, L = (job_of(name) for name in "jkl")
ROWS = (
    "INSERT INTO accounts VALUES ('system:mint', 'mint', -9, 0, 1), ('system:escrow', 'escrow', 0, 0, 1),"
    " ('a', 'user', 4, 1, 1), ('b', 'user', 5, 0, 1)",
    f"INSERT INTO transfers VALUES ('{Z}', 'mint', 'system:mint', 'a', 9, NULL, 'devnet grant', 1),"
    f" ('{Y}', 'hold', 'a', 'system:escrow', 6, NULL, '{J}', 2), ('{X}', 'post', 'a', 'b', 5, '{Y}', '{J}', 2),"
    f" ('{V}', 'hold', 'a', 'system:escrow', 2, NULL, '{K}', 3),"
    f" ('{U}', 'void', 'a', 'system:escrow', 2, '{V}', '{K}', 3),"
    f" ('{T}', 'hold', 'a', 'system:escrow', 1, NULL, '{L}', 3)",
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
