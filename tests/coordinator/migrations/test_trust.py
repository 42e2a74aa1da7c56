"""Databases from before trust was kept: what 0016 makes of their miners, receipts and failed jobs."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import command
from sqlalchemy.engine import Connection

from aitbc.coordinator.database import Database
from aitbc.coordinator.miners import standing
from aitbc.coordinator.schema import migrate

MANY = 4100  # more answers than leases that an account may ever hold


def insert(connection: Connection, table: str, rows: list[Mapping[str, Any]]) -> None:
    """Rows of a table as it was then; columns that are not named are empty."""
    columns = [column for column in sa.inspect(connection).get_columns(table) if not column["nullable"]]
    empty = {each["name"]: 0 if isinstance(each["type"], sa.Integer) else "" for each in columns}
    names = [*empty, *(name for name in rows[0] if name not in empty)]
    text = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(':' + name for name in names)})"
    connection.execute(sa.text(text), [empty | row for row in rows])


def old_database(url: str, answers: Mapping[str, int], owners: Mapping[str, str]) -> None:
    """At 0015: accounts with miners (`owners`, by miner) and receipts (`answers`, by account); two jobs that
    wait, one of them failed once by `first`."""
    with migrate.open_connection(url, write=True) as connection:
        command.upgrade(migrate.alembic_config(connection), "0015")
        names = {"alice", *answers, *owners.values()}
        insert(connection, "accounts", [{"id": name, "kind": "user"} for name in sorted(names)])
        insert(
            connection,
            "miners",
            [{"id": m, "account_id": a, "status": "active", "concurrency": 1} for m, a in owners.items()],
        )
        given = [(name, f"{name}-{number}") for name, count in answers.items() for number in range(count)]
        job: dict[str, Any] = {"client_id": "alice", "job_type": "llm_inference", "model": "llama"}
        ended = job | {"status": "completed", "cause": "COMPLETED", "started_at_ms": 1, "finished_at_ms": 2}
        jobs = [ended | {"id": f"j-{one}", "receipt_id": one, "excluded_miner_id": ""} for _, one in given]
        waits = job | {"status": "pending", "started_at_ms": None, "finished_at_ms": None, "queued": 1}
        jobs += [
            waits | {"id": "waits", "excluded_miner_id": "first", "excluded_until_ms": 9},
            waits | {"id": "new", "excluded_miner_id": ""},
        ]
        insert(
            connection, "jobs", [{"queued": 0, "excluded_until_ms": 0, "receipt_id": ""} | j for j in jobs]
        )
        insert(
            connection,
            "receipts",
            [{"id": one, "job_id": f"j-{one}", "client_id": "alice", "provider_id": a} for a, one in given],
        )


def test_accounts_with_miners_are_trusted_by_what_they_answered(empty_database_url: str) -> None:
    owners = {"m1": "anna", "m2": "anna", "m3": "new", "m4": "veteran"}
    old_database(empty_database_url, {"anna": 3, "veteran": MANY, "minerless": 2}, owners)
    migrate.ensure_current(empty_database_url, auto=True)
    database = Database.open(empty_database_url)
    rows = database.read_sync(standing.providers, "", 100)
    database.close()
    assert {row.account_id: (row.approval, row.allowance, row.delivered, row.strikes) for row in rows} == {
        "anna": ("none", 11, 3, 0),
        "new": ("none", 8, 0, 0),
        "veteran": ("none", standing.MAX_LEASES, MANY, 0),
    }


def test_a_job_that_waits_stays_kept_from_the_miner_that_failed_it(empty_database_url: str) -> None:
    old_database(empty_database_url, {"anna": 1}, {"first": "anna"})
    migrate.ensure_current(empty_database_url, auto=True)
    with migrate.open_connection(empty_database_url, write=False) as connection:
        found = connection.execute(sa.text("SELECT id, excluded, review_at_ms, min_context FROM jobs"))
        assert {row[0]: tuple(row[1:]) for row in found if row[0] in ("waits", "new")} == {
            "waits": (" first ", 9, 0),
            "new": ("", 0, 0),
        }
