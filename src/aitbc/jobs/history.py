"""A job's append-only history: one line for each move."""

from aitbc.database import Tx, insert_into
from aitbc.jobs.models import JobEvent

INSERT_EVENT = insert_into(JobEvent, "job_id", "seq", "at_ms", "type", "status", "actor", "cause", "miner_id")


def record(
    tx: Tx,
    job_id: str,
    seq: int,
    event: str,
    status: str,
    actor: str,
    cause: str = "",
    miner_id: str = "",
) -> None:
    """Writes the job's `seq`-th event (from 1), which left it in `status`."""
    tx.add(INSERT_EVENT, (job_id, seq, tx.now_ms, event, status, actor, cause, miner_id))
