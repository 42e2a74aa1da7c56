"""The migrations make exactly the schema that the models describe, on both engines."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from aitbc.coordinator.schema import migrate
from aitbc.coordinator.schema.tables import metadata
from tests.support.databases import Databases
from tests.support.schema import schema


# The index by hash is one of these on SQLite; the next test compares it by its text.
@pytest.mark.filterwarnings("ignore:.*expression-based index")
def test_autogenerate_finds_nothing_to_do(database_url: str) -> None:
    with migrate.open_connection(database_url, write=False) as connection:
        options = {"compare_type": True, "compare_server_default": True}
        difference = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    assert not difference, 'write the missing migration with scripts/new-migration "what changes"'


def test_the_schema_is_the_models_to_the_letter(databases: Databases, tmp_path: Path) -> None:
    """What autogenerate does not compare: CHECKs, predicates of partial indexes, triggers, WITHOUT ROWID."""
    migrated, created = databases.migrated(tmp_path), databases.empty(tmp_path)
    with migrate.open_connection(created, write=True) as connection:
        metadata.create_all(connection)
        wanted = schema(connection)
    with migrate.open_connection(migrated, write=False) as connection:
        found = schema(connection)
    assert len(wanted) > len(metadata.tables)
    assert found == wanted


def test_names_are_unique_within_a_table() -> None:
    for table in metadata.tables.values():
        names = [constraint.name for constraint in table.constraints if constraint.name]
        assert len(names) == len(set(names)), table.name


def test_every_check_has_a_name() -> None:
    """A constraint without a name cannot be changed by a later migration."""
    for table in metadata.tables.values():
        for constraint in table.constraints:
            if isinstance(constraint, sa.CheckConstraint):
                assert constraint.name, f"{table.name}: {constraint.sqltext}"
