"""Leaves and blocks of before: the tables are made anew, and every row, index and trigger is there again."""

import pytest
import sqlalchemy as sa
from alembic import command

from aitbc.coordinator.schema import migrate

ROWS = ("SELECT * FROM leaves ORDER BY seq", "SELECT * FROM blocks ORDER BY height")


def rows(url: str) -> list[list[tuple[object, ...]]]:
    with migrate.open_connection(url, write=False) as connection:
        return [[tuple(row) for row in connection.execute(sa.text(query))] for query in ROWS]


def test_rows_are_kept_and_stay_append_only(empty_database_url: str) -> None:
    url = empty_database_url
    with migrate.open_connection(url, write=True) as connection:
        command.upgrade(migrate.alembic_config(connection), "0022")
        for seq, place in ((1, 0), (2, 1), (3, None)):
            connection.execute(
                sa.text("INSERT INTO leaves VALUES (:seq, :kind, :ref, :hash, 7, :place)"),
                {
                    "seq": seq,
                    "kind": seq % 2,
                    "ref": f"r{seq}",
                    "hash": bytes(32),
                    "place": place,
                },
            )
        for height, size in ((0, 0), (1, 2)):
            connection.execute(
                sa.text(
                    f"INSERT INTO blocks VALUES ({height}, 'h{height}', 'p', 1, 0, {size}, 'r',"
                    f" {size // 2}, {size // 2}, {size // 2}, {size // 2}, 'k', 's', 'c')"
                )
            )
    before = rows(url)
    migrate.ensure_current(url, auto=True)
    leaves, blocks = rows(url)
    assert leaves == before[0]
    assert blocks == [(*block, "") for block in before[1]]
    for change in ("UPDATE blocks SET contents = 'x'", "DELETE FROM blocks"):
        with (
            pytest.raises(sa.exc.DBAPIError, match="append-only"),
            migrate.open_connection(url, write=True) as one,
        ):
            one.execute(sa.text(change))
    with migrate.open_connection(url, write=True) as connection:
        connection.execute(
            sa.text("INSERT INTO leaves VALUES (4, 9, 'r4', :hash, 7, NULL)"), {"hash": bytes(32)}
        )
