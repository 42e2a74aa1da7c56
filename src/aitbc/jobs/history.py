"""A job's append-only history: one line for each move."""

from aitbc.database import Tx, insert_into
from aitbc.jobs.models import JobEvent

INSERT_EVENT = insert_into(JobEvent)


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
    tx.add(
        INSERT_EVENT,
        job_id=job_id,
        seq=seq,
        at_ms=tx.now_ms,
        type=event,
        status=status,
        actor=actor,
        cause=cause,
        miner_id=miner_id,
    )
