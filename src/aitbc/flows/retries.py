"""A lease that ended without a result: the job is tried again, or fails and its money goes back.

Shared by the flows in which that happens (a miner gives up or leaves, a lease or a job runs out).
"""

from aitbc.database import Tx
from aitbc.flows import escrow
from aitbc.flows.context import FlowContext
from aitbc.jobs import service as jobs
from aitbc.jobs.rows import JobRow
from aitbc.miners import queries as miner_queries

EXCLUDE_FOR_MS = 30_000  # how long a failed job is kept for miners other than the one that failed it


def expire_lease(tx: Tx, ctx: FlowContext, job: JobRow) -> str:
    """A lease ran out: the job is tried again, or failed where its time or its attempts are used up.

    Returns the cause that was recorded.
    """
    if job.expires_at_ms <= tx.now_ms:
        return expire(tx, job)
    retry_or_fail(tx, ctx, job, "LEASE_EXPIRED", "coordinator", "", again=True)
    return "LEASE_EXPIRED"


def expire(tx: Tx, job: JobRow) -> str:
    """A job's time ran out before it was answered: it fails and all money goes back."""
    if jobs.end(tx, job, "failed", "expired", "EXPIRED", "coordinator"):
        escrow.give_back(tx, job)
    return "EXPIRED"


def retry_or_fail(
    tx: Tx, ctx: FlowContext, job: JobRow, cause: str, actor: str, message: str, *, again: bool
) -> None:
    """Requeues the job, for other miners first, while `again` holds and attempts are left; else it fails."""
    if again and job.attempts < ctx.max_attempts:
        others = miner_queries.others_serve(tx, job.job_type, job.model, job.miner_id)
        jobs.requeue(tx, job, cause, actor, message, exclude_for_ms=EXCLUDE_FOR_MS if others else 0)
    elif jobs.end(tx, job, "failed", "failed", cause, actor, message):
        escrow.give_back(tx, job)
