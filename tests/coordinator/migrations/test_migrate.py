"""Upgrading, refusing, and starting at the same time."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command, op
from sqlalchemy.engine import Connection

from aitbc.coordinator.schema import migrate
from aitbc.coordinator.schema.tables import metadata


def tables(url: str) -> set[str]:
    with migrate.open_connection(url, write=False) as connection:
        return set(sa.inspect(connection).get_table_names())


def execute(url: str, statement: str) -> None:
    with migrate.open_connection(url, write=True) as connection:
        connection.execute(sa.text(statement))


def test_an_empty_database_gets_every_table(empty_database_url: str) -> None:
    assert migrate.current_revision(empty_database_url) is None
    migrate.ensure_current(empty_database_url, auto=True)
    assert tables(empty_database_url) == {*metadata.tables, "alembic_version"}
    assert migrate.current_revision(empty_database_url) == migrate.head_revision()


def test_upgrading_again_keeps_the_rows(database_url: str) -> None:
    execute(database_url, "INSERT INTO parameter_changes VALUES (1, 'kept', 0, 1, 1, 'me', 'to see')")
    assert migrate.upgrade(database_url) == migrate.head_revision()
    migrate.ensure_current(database_url, auto=True)
    migrate.ensure_current(database_url, auto=False)
    with migrate.open_connection(database_url, write=False) as connection:
        kept = connection.execute(sa.text("SELECT value_after FROM parameter_changes WHERE name = 'kept'"))
        assert kept.scalar() == 1


def test_a_database_of_the_first_version_comes_along(empty_database_url: str) -> None:
    with migrate.open_connection(empty_database_url, write=True) as connection:
        command.upgrade(migrate.alembic_config(connection), "0001")
        connection.execute(sa.text("INSERT INTO accounts VALUES ('a', 'user', 0, 0, 1)"))
    with pytest.raises(migrate.DatabaseBehind, match="it is 0001"):
        migrate.ensure_current(empty_database_url, auto=False)
    migrate.ensure_current(empty_database_url, auto=True)
    with migrate.open_connection(empty_database_url, write=False) as connection:
        assert connection.execute(sa.text("SELECT id FROM accounts")).scalars().all() == ["a"]


def test_without_auto_nothing_is_changed(empty_database_url: str) -> None:
    with pytest.raises(migrate.DatabaseBehind, match="aitbc db upgrade"):
        migrate.ensure_current(empty_database_url, auto=False)
    assert migrate.current_revision(empty_database_url) is None
    if empty_database_url.startswith("sqlite"):
        assert not Path(empty_database_url.removeprefix("sqlite:///")).exists()
    else:
        assert not tables(empty_database_url)


@pytest.mark.parametrize("auto", [True, False])
def test_a_newer_database_is_refused_and_left_alone(database_url: str, auto: bool) -> None:
    execute(database_url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(migrate.DatabaseTooNew, match=r"revision 9999.*newer version"):
        migrate.ensure_current(database_url, auto=auto)
    with pytest.raises(migrate.DatabaseTooNew):
        migrate.upgrade(database_url)
    assert migrate.current_revision(database_url) == "9999"


def test_a_database_of_something_else_is_refused(empty_database_url: str) -> None:
    execute(empty_database_url, "CREATE TABLE accounts (name TEXT)")
    with pytest.raises(migrate.ForeignDatabase, match="accounts"):
        migrate.ensure_current(empty_database_url, auto=True)
    assert tables(empty_database_url) == {"accounts"}


def test_errors_do_not_show_the_password(database_url: str) -> None:
    if database_url.startswith("postgresql"):
        database_url = database_url.replace("postgres@", "postgres:hunter2@")
    execute(database_url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(migrate.DatabaseTooNew) as refusal:
        migrate.ensure_current(database_url, auto=True)
    assert "hunter2" not in str(refusal.value)


def test_processes_that_start_together_upgrade_once(empty_database_url: str) -> None:
    code = "import sys; from aitbc.coordinator.schema import migrate; migrate.ensure_current(sys.argv[1], auto=True)"
    program = [sys.executable, "-c", code, empty_database_url]
    starts = [subprocess.Popen(program, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [start.communicate(timeout=60)[1] for start in starts]
    assert [start.returncode for start in starts] == [0, 0], errors
    assert migrate.current_revision(empty_database_url) == migrate.head_revision()


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
def test_an_upgrade_that_commits_during_the_check_is_not_taken_for_a_stranger(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = migrate._revision

    def then_another_process_upgrades(connection: Connection) -> str | None:
        found = revision(connection)
        monkeypatch.undo()
        with ThreadPoolExecutor(1) as other:
            other.submit(migrate.upgrade, empty_database_url).result()
        return found

    monkeypatch.setattr(migrate, "_revision", then_another_process_upgrades)
    migrate.ensure_current(empty_database_url, auto=True)
    assert migrate.current_revision(empty_database_url) == migrate.head_revision()


def test_an_upgrade_that_fails_half_way_leaves_nothing(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_index = op.create_index
    calls: list[Any] = []

    def fails_the_third_time(*args: Any, **kwargs: Any) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise OSError("no space left on device")
        create_index(*args, **kwargs)

    monkeypatch.setattr(op, "create_index", fails_the_third_time)
    with pytest.raises(OSError, match="no space"):
        migrate.upgrade(empty_database_url)
    monkeypatch.undo()
    assert not tables(empty_database_url)
    migrate.upgrade(empty_database_url)
    assert tables(empty_database_url) == {*metadata.tables, "alembic_version"}


@pytest.mark.parametrize("url", ["mysql://localhost/aitbc", "oracle://localhost/aitbc"])
def test_other_databases_are_named_as_such(url: str) -> None:
    with pytest.raises(migrate.MigrationError, match="sqlite and postgresql"):
        migrate.ensure_current(url, auto=True)


def test_a_transfer_once_made_stays(database_url: str) -> None:
    execute(database_url, "INSERT INTO accounts VALUES ('a', 'user', 0, 0, 1), ('b', 'user', 0, 0, 1)")
    columns = "id, kind, debit_id, credit_id, amount_units, ref, created_at_ms"
    execute(database_url, f"INSERT INTO transfers ({columns}) VALUES ('t', 'transfer', 'a', 'b', 1, '', 1)")
    for change in ("DELETE FROM transfers", "UPDATE transfers SET amount_units = 2"):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"):
            execute(database_url, change)


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
def test_history_cannot_be_emptied_at_once(database_url: str) -> None:
    """TRUNCATE asks no trigger that is fired for rows."""
    execute(database_url, "INSERT INTO accounts VALUES ('a', 'user', 0, 0, 1), ('b', 'user', 0, 0, 1)")
    columns = "id, kind, debit_id, credit_id, amount_units, ref, created_at_ms"
    execute(database_url, f"INSERT INTO transfers ({columns}) VALUES ('t', 'transfer', 'a', 'b', 1, '', 1)")
    with migrate.open_connection(database_url, write=False) as connection:
        found = connection.execute(
            sa.text("SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname LIKE '%\\_append\\_only'")
        )
        kept = sorted(found.scalars())
    assert len(kept) >= 6
    for table in (*kept, "accounts"):  # whose TRUNCATE CASCADE would take the transfers along
        with pytest.raises(sa.exc.DBAPIError, match="append-only"):
            execute(database_url, f"TRUNCATE {table} CASCADE")
