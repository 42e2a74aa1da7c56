"""A job's append-only history: one line for each move."""

from typing import Any

from sqlalchemy import bindparam, func, literal_column, select

from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.jobs.lifecycle import status_after
from aitbc.coordinator.jobs.models import JobEvent

_e: Any = table_of(JobEvent).c
_put_back = (_e.job_id == bindparam("job"), _e.type == literal_column("'requeued'"))
SELECT_FAILURES = statement(select(_e.miner_id, _e.cause).where(*_put_back).order_by(_e.seq))
SELECT_PUT_BACK = statement(select(func.max(_e.at_ms).label("at_ms")).where(*_put_back))
INSERT_EVENT = insert_into(JobEvent, "job_id", "seq", "at_ms", "type", "status", "actor", "cause", "miner_id")


def record(
    tx: Tx,
    job_id: str,
    seq: int,
    event: str,
    actor: str,
    cause: str = "",
    miner_id: str = "",
) -> None:
    """Writes the job's `seq`-th event (from 1), with the state in which it left the job."""
    tx.add(INSERT_EVENT, (job_id, seq, tx.now_ms, event, status_after(event), actor, cause, miner_id))


def failures(tx: Tx, job_id: str) -> list[tuple[str, str]]:
    """(miner, cause) of each time that the job was put back, oldest first."""
    return [(row.miner_id, row.cause) for row in tx.all(SELECT_FAILURES, job=job_id)]


def put_back_ms(tx: Tx, job_id: str) -> int:
    """When the job was put back last; 0 for never."""
    return int(tx.one(SELECT_PUT_BACK, job=job_id).at_ms or 0)
