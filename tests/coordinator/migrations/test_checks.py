"""The database itself refuses what no code would write, however its CHECKs are worded."""

import sqlite3

import psycopg
import pytest
from sqlalchemy import text

from aitbc.coordinator.database import Database
from tests.support.flows import Market, database_url, ids_of_this_time, market, memory_folder

__all__ = ["database_url", "ids_of_this_time", "market", "memory_folder"]

WRONG = (
    "UPDATE accounts SET kind = 'friend'",
    "UPDATE accounts SET kind = ''",
    "UPDATE jobs SET status = 'completed,failed'",
    "UPDATE jobs SET status = ''",
    "UPDATE jobs SET cause = 'completed'",
    "UPDATE jobs SET actor = 'nobody'",
    "UPDATE jobs SET finished_at_ms = 1",
    "UPDATE miners SET status = 'gone'",
    "INSERT INTO job_events SELECT job_id, 9, at_ms, 'renamed', status, actor, cause, miner_id FROM job_events",
    "INSERT INTO job_events SELECT job_id, 9, at_ms, type, 'renamed', actor, cause, miner_id FROM job_events",
    "INSERT INTO transfers SELECT 'x', 'gift', debit_id, credit_id, 1, NULL, '', 0 FROM transfers LIMIT 1",
    "INSERT INTO transfers SELECT 'x', 'fee', debit_id, credit_id, 1, NULL, '', 0 FROM transfers LIMIT 1",
    "INSERT INTO transfers SELECT 'x', 'hold', debit_id, credit_id, 1, 'y', '', 0 FROM transfers LIMIT 1",
)
RIGHT = (
    "UPDATE jobs SET cause = '', actor = ''",
    "UPDATE jobs SET cause = 'MINER_LEFT', actor = 'coordinator'",
    "UPDATE miners SET status = 'draining'",
)


@pytest.mark.parametrize("change", WRONG)
def test_what_no_code_would_write_is_refused(db: Database, market: Market, change: str) -> None:
    market.miner()
    market.submit(market.client())
    with pytest.raises((psycopg.errors.CheckViolation, sqlite3.IntegrityError), match=r"(?i)check"):
        db.write_sync(lambda tx: tx.change(text(change)))


@pytest.mark.parametrize("change", RIGHT)
def test_what_code_writes_is_not(db: Database, market: Market, change: str) -> None:
    market.miner()
    market.submit(market.client())
    assert db.write_sync(lambda tx: tx.change(text(change))) == 1
