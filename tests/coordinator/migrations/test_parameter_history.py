"""What was set before parameters had a history: it holds on, is the history's beginning, and is in the log."""

import pytest
import sqlalchemy as sa
from alembic import command

from aitbc.audit.database import audit
from aitbc.coordinator.chain import sealer
from aitbc.coordinator.database import Database
from aitbc.coordinator.parameters import service as parameters
from aitbc.coordinator.schema import migrate
from aitbc.core.log.leaf import PARAMETER, parameter_leaf
from aitbc.core.log.merkle import leaf_hash
from tests.support.flows import CHAIN, KEY, found, open_market, set_parameter

REASON = "as it was set before parameters had a history"


def upgraded(url: str, *rows: str) -> None:
    with migrate.open_connection(url, write=True) as connection:
        command.upgrade(migrate.alembic_config(connection), "0023")
        for row in rows:
            connection.execute(sa.text(f"INSERT INTO parameters VALUES {row}"))
    migrate.ensure_current(url, auto=True)


def test_rows_become_changes_with_a_leaf_each(empty_database_url: str) -> None:
    url = empty_database_url
    upgraded(
        url, "('fee_bps', 70, 9)", "('min_transaction_fee', 0, 9)", "('default_price_per_1k_tokens', 5, 3)"
    )
    with migrate.open_connection(url, write=False) as connection:
        rows = [
            tuple(row)
            for row in connection.execute(sa.text("SELECT * FROM parameter_changes ORDER BY number"))
        ]
        leaves = connection.execute(sa.text("SELECT * FROM leaves ORDER BY seq")).all()
        assert "parameters" not in sa.inspect(connection).get_table_names()
    assert rows == [
        (1, "default_price_per_1k_tokens", None, 5, 3, "operator", REASON),
        (2, "fee_bps", None, 70, 9, "operator", REASON),
        (3, "min_transaction_fee", None, 0, 9, "operator", REASON),
    ]
    for row, leaf in zip(rows, leaves, strict=True):
        hashed = leaf_hash(parameter_leaf(*row))
        assert (leaf.kind, leaf.ref_id, bytes(leaf.hash)) == (PARAMETER, f"parameter:{row[0]}", hashed)
        assert (leaf.hash_head, leaf.leaf_index) == (int.from_bytes(hashed[:8], "big", signed=True), None)


def test_it_goes_on_from_there(empty_database_url: str) -> None:
    url = empty_database_url
    upgraded(url, "('fee_bps', 70, 9)")
    db = Database.open(url)
    assert db.read_sync(parameters.get, "fee_bps") == 70
    db.write_sync(open_market)
    db.write_sync(found)
    db.write_sync(set_parameter, "fee_bps", 80)
    made = db.read_sync(sealer.draft, CHAIN, KEY)
    assert made is not None and db.write_sync(sealer.seal, made)
    assert made.block.contents == '{"parameters":2}'
    report = db.read_sync(audit, CHAIN)
    assert report.ok, report.problems
    db.close()


def test_what_was_never_set_has_no_history(empty_database_url: str) -> None:
    upgraded(empty_database_url)
    with migrate.open_connection(empty_database_url, write=False) as connection:
        for table in ("parameter_changes", "leaves"):
            assert connection.execute(sa.text(f"SELECT COUNT(*) FROM {table}")).scalar() == 0


@pytest.mark.parametrize(
    "sql", ["UPDATE parameter_changes SET value_after = 1", "DELETE FROM parameter_changes"]
)
def test_what_was_set_stays(empty_database_url: str, sql: str) -> None:
    upgraded(empty_database_url, "('fee_bps', 70, 9)")
    with (
        pytest.raises(sa.exc.DBAPIError, match="append-only"),
        migrate.open_connection(empty_database_url, write=True) as connection,
    ):
        connection.execute(sa.text(sql))
