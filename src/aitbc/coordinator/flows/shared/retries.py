"""A lease that ended without a result: the job is tried again, or fails and its money goes back.

Shared by the flows in which that happens (a miner gives up or leaves, a lease or a job runs out).

A miner's word alone ends no job while another could try it. A job ends where miners of two accounts say the same
of it, or have used up its tries between them, and one of these miners has proven itself or no proven one is
left to ask; or where nobody is there who has not failed it. Each next try goes to a miner that has not.
"""

from typing import NamedTuple

from aitbc.coordinator.database import Tx
from aitbc.coordinator.flows.shared import escrow, supply
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.flows.shared.supply import Others
from aitbc.coordinator.jobs import exclusion, history
from aitbc.coordinator.jobs import service as jobs
from aitbc.coordinator.jobs.matching.rules import RULES
from aitbc.coordinator.jobs.rows import JobRow
from aitbc.coordinator.miners import service as miners
from aitbc.coordinator.miners import standing
from aitbc.coordinator.miners.rows import MinerRow
from aitbc.core import causes

OPINION_MS = 3_000
"""How long a job that a miner called hopeless waits for another miner, where none is here that could try it."""

RECHECK_MS = 5_000
"""How often it is looked at again whether miners are still here that have not failed a waiting job."""

FIRST_WAIT_MS = 1_000
MAX_WAIT_MS = 30_000
"""Where nobody else could try it, a job waits before those may that failed it: 1 s, doubled with each try."""

ACCOUNT_IDS = 2
"""With so many of its miners having failed a job, an account is kept from it as a whole."""

PATIENCE_MS = 30_000
"""How long a job waits for miners that are here and do not come for it, before those may that failed it."""

GOING = frozenset({causes.Cause.SHUTTING_DOWN.value, "MINER_LEFT"})
"""Causes that say nothing of the job: its miner goes. That counts as one failure, however many jobs it drops."""


class Report(NamedTuple):
    """One failed try, and the miner that had it."""

    miner: MinerRow
    cause: str


def expire_lease(tx: Tx, ctx: FlowContext, job: JobRow, *, blame: bool = True) -> str:
    """A lease or its run ran out: the job is tried again, or failed where its tries are used up.

    TIMEOUT where the run took too long, as if its miner had said so. `blame` False: nobody is to be punished
    for it. Returns the cause that was recorded.
    """
    if job.run_ends_at_ms <= tx.now_ms:
        cause, words = causes.Cause.TIMEOUT.value, f"it ran for longer than {job.max_run_ms / 1000:g} s"
    else:
        cause, words = "LEASE_EXPIRED", ""
    retry_or_fail(tx, ctx, job, cause, "coordinator", words, blame=blame)
    return cause


def expire(tx: Tx, job: JobRow) -> str:
    """A job's time to wait ran out before a miner took it: it fails and all money goes back."""
    if jobs.end(tx, job, "expired", "EXPIRED", "coordinator"):
        escrow.give_back(tx, job)
    return "EXPIRED"


def retry_or_fail(
    tx: Tx,
    ctx: FlowContext,
    job: JobRow,
    cause: str,
    actor: str,
    message: str,
    *,
    retryable: bool | None = None,
    blame: bool = True,
) -> None:
    """A try of the running job failed: it fails for good where that is settled, else it waits for the next.

    `retryable` is the miner's word on whether another try could help; None: it follows from the cause.
    """
    miner = miners.get(tx, job.miner_id)
    if miner is None:
        raise RuntimeError(f"job {job.id} was leased to no miner")
    reports = [*_earlier(tx, job), Report(miner, cause)]
    hopeless = cause in causes.FINAL if retryable is None else not retryable
    context = 0
    if cause == causes.Cause.CONTEXT_LENGTH_EXCEEDED:
        context = miners.context_of(tx, miner, job.job_type, job.model)
        hopeless = hopeless and not 0 < job.max_units <= context  # it would have fitted in any case
    if cause in GOING:
        blame = blame and not standing.paused_until_ms(miner, tx.now_ms)
    if blame and not (hopeless and _is_believed(reports[-1])):
        standing.struck(tx, miner, cause)
    needed = context + 1 if context and hopeless else 0
    kept_from = _kept_from(reports)
    others = _others(tx, ctx, job, exclusion.set_of(kept_from), max(job.min_context, needed))
    if _settled(ctx, job, reports, others, cause, hopeless):
        _fail(tx, job, reports, cause, actor, message)
        return
    if hopeless:
        kept_from.append(exclusion.SECOND_OPINION)
    if others.proven and sum(not standing.is_proven(report.miner) for report in reports) > 1:
        kept_from.append(exclusion.NEWCOMERS)  # they have had their say
    if others.here:
        wait_ms = RECHECK_MS
    else:
        wait_ms = OPINION_MS if hopeless else min(MAX_WAIT_MS, FIRST_WAIT_MS << min(job.attempts - 1, 16))
    jobs.requeue(
        tx,
        job,
        cause,
        actor,
        message,
        excluded=exclusion.set_of(kept_from),
        review_at_ms=tx.now_ms + wait_ms,
        min_context=needed,
    )


def review(tx: Tx, ctx: FlowContext, job: JobRow, known: dict[object, Others]) -> None:
    """A waiting job that is kept from some: it goes on waiting for others while these are here and come for it.
    Else it ends, where it was called hopeless, or may be tried again by all. `known`: what this round has found
    already."""
    what = RULES.wanted_by(job).key
    if what not in known:
        known[what] = _others(tx, ctx, job, job.excluded, job.min_context)
    if known[what].here:
        _wait_on(tx, job, known[what])
    elif exclusion.awaits_opinion(job.excluded):
        _fail(tx, job, _earlier(tx, job), job.cause, "miner", job.message)
    else:
        jobs.keep_from(tx, job, "", 0)


def _wait_on(tx: Tx, job: JobRow, others: Others) -> None:
    """Others are here that could try the job. They may be busy, or never come, so that is not waited for without
    an end: after PATIENCE_MS a proven miner's word stands against newcomers that do not come, and a job goes back
    to proven miners that failed it, or to all where none here has proven itself."""
    kept_from: str | None = job.excluded
    if not 0 <= tx.now_ms - history.put_back_ms(tx, job.id) < PATIENCE_MS:  # also where the clock went back
        reports = _earlier(tx, job)
        proven = [report for report in reports if standing.is_proven(report.miner)]
        if not others.proven:
            said = exclusion.awaits_opinion(job.excluded) and bool(proven)
            kept_from = None if said else ""
        elif proven:
            strangers = [report.miner.id for report in reports if report not in proven]
            kept_from = exclusion.set_of([*strangers, exclusion.NEWCOMERS])
    if kept_from is None:
        _fail(tx, job, reports, job.cause, "miner", job.message)
    else:
        jobs.keep_from(tx, job, kept_from, tx.now_ms + RECHECK_MS if kept_from else 0)


def contradicted(tx: Tx, job: JobRow) -> None:
    """The job was answered. Who was believed that it is hopeless was wrong, and has failed it after all."""
    if exclusion.awaits_opinion(job.excluded):
        for report in _earlier(tx, job):
            if _is_believed(report):
                standing.struck(tx, report.miner, report.cause)


def _is_believed(report: Report) -> bool:
    """A proven miner that calls the job itself bad, which costs it nothing until another answers the job.

    Else a client could have all miners pause with requests that nobody can answer.
    """
    return report.cause in causes.FINAL and standing.is_proven(report.miner)


def _settled(
    ctx: FlowContext, job: JobRow, reports: list[Report], others: Others, cause: str, hopeless: bool
) -> bool:
    if job.attempts >= 2 * ctx.max_attempts:
        return True
    if hopeless and job.required_miner_id:
        return True  # the client asked for this miner's word
    used_up = job.attempts >= ctx.max_attempts
    if not hopeless and not used_up:
        return False
    agreeing = [
        report.miner
        for report in reports
        if report.cause not in GOING and (not hopeless or report.cause == cause)
    ]
    if len({miner.account_id for miner in agreeing}) > 1 and (
        not others.proven or any(map(standing.is_proven, agreeing))
    ):
        return True
    return used_up and not others.here


def _kept_from(reports: list[Report]) -> list[str]:
    ids: dict[str, set[str]] = {}
    for report in reports:
        ids.setdefault(report.miner.account_id, set()).add(report.miner.id)
    accounts = [exclusion.account(name) for name, miner_ids in ids.items() if len(miner_ids) >= ACCOUNT_IDS]
    return [*(report.miner.id for report in reports), *accounts]


def _earlier(tx: Tx, job: JobRow) -> list[Report]:
    if job.event_count <= 2:  # created, claimed
        return []
    tx.flush()
    found = [(miners.get(tx, miner_id), cause) for miner_id, cause in history.failures(tx, job.id)]
    return [Report(miner, cause) for miner, cause in found if miner is not None]


def _others(tx: Tx, ctx: FlowContext, job: JobRow, kept_from: str, context: int) -> Others:
    wanted = RULES.wanted_by(job).but(excluded=kept_from, min_context=context)
    return supply.others(tx, wanted, only_approved=ctx.only_approved)


def _fail(tx: Tx, job: JobRow, reports: list[Report], cause: str, actor: str, message: str) -> None:
    """The job fails, and its money goes back. It was the job's fault, then, and not that of its miners."""
    if not jobs.end(tx, job, "failed", cause, actor, message):
        return
    escrow.give_back(tx, job)
    for report in reports:
        if report.cause not in GOING and report.cause != "LEASE_EXPIRED" and not _is_believed(report):
            standing.forgiven(tx, report.miner, report.cause)
