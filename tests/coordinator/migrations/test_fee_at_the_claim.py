"""Jobs that run while the coordinator is upgraded have their fee from then on, and those that ended have none."""

import sqlalchemy as sa
from alembic import command

from aitbc.coordinator.schema import migrate

COLUMNS = (
    "id, client_id, key_id, spend_period_ms, job_type, model, status, queued, rank, max_price_units, prompt_bound,"
    " completion_bound, prompt_hash, created_at_ms, expires_at_ms, lease_id, finished_at_ms, hold_id, held_units,"
    " attempts, event_count, miner_id, lease_expires_at_ms, unit_price_units, price_units, cause, actor, message,"
    " receipt_id, min_memory_mb, region, required_miner_id, excluded, review_at_ms"
)


def insert(status: str) -> str:
    lease, ended = ("x" if status == "running" else ""), ("1" if status == "failed" else "NULL")
    return (
        f"INSERT INTO jobs ({COLUMNS}) VALUES ('{status}', 'a', 'k', 0, 'llm_inference', 'm', '{status}', 0, 4, 1, 1,"
        f" 1, 'h', 1, 2, '{lease}', {ended}, '', 0, 0, 0, '', 0, 0, 0, '', '', '', '', 0, '', '', '', 0)"
    )


def upgraded(url: str, *before: str) -> dict[str, int | None]:
    with migrate.open_connection(url, write=True) as connection:
        command.upgrade(migrate.alembic_config(connection), "0021")
        connection.execute(sa.text("INSERT INTO accounts VALUES ('a', 'user', 0, 0, 1)"))
        for statement in (*map(insert, ("pending", "running", "failed")), *before):
            connection.execute(sa.text(statement))
    migrate.ensure_current(url, auto=True)
    with migrate.open_connection(url, write=False) as connection:
        return {row.id: row.fee_bps for row in connection.execute(sa.text("SELECT id, fee_bps FROM jobs"))}


def test_a_running_job_gets_the_default(empty_database_url: str) -> None:
    assert upgraded(empty_database_url) == {"pending": None, "running": 250, "failed": None}


def test_a_running_job_gets_what_was_set(empty_database_url: str) -> None:
    fees = upgraded(empty_database_url, "INSERT INTO parameters VALUES ('fee_bps', 70, 1)")
    assert fees == {"pending": None, "running": 70, "failed": None}
