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
    """A lease or its run ran out: the job is tried again, or failed where its attempts are used up.

    TIMEOUT where the run took too long, as if its miner had said so. Returns the cause that was recorded.
    """
    if job.run_ends_at_ms <= tx.now_ms:
        cause, words = "TIMEOUT", f"it ran for longer than {job.max_run_ms / 1000:g} s"
    else:
        cause, words = "LEASE_EXPIRED", ""
    retry_or_fail(tx, ctx, job, cause, "coordinator", words, again=True)
    return cause


def expire(tx: Tx, job: JobRow) -> str:
    """A job's time to wait ran out before a miner took it: it fails and all money goes back."""
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
