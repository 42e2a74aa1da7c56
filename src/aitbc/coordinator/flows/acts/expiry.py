"""What time does: leases and jobs run out, silent miners lapse, old prompts are erased.

An outage is nobody's fault. Leases are lengthened by the time that the coordinator was away or its clock
jumped, and when most miners go silent at once rescheduling waits: that is the network failing, not they.
"""

from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, func, literal_column, select

from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.flows.shared import parting, retries
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.flows.shared.supply import Others
from aitbc.coordinator.jobs import deadlines
from aitbc.coordinator.jobs.models import Job, JobRequest, JobResult
from aitbc.coordinator.miners import service as miners
from aitbc.core.ids import floor_id

BATCH = 200  # rows of one transaction, so that others get their turn
FREEZE_MINERS = 5  # from so many lease holders on, the loss of most of them is an outage
ERASE_BATCH = 500
GONE_BATCH = 20
DAY_MS = 86_400_000

_c: Any = table_of(Job).c
_requests: Any = table_of(JobRequest)
_results: Any = table_of(JobResult)

HOLDERS = statement(
    select(
        func.count(_c.miner_id.distinct()).label("holders"),
    ).where(_c.status == literal_column("'running'"))
)
SILENT_HOLDERS = statement(
    select(func.count(_c.miner_id.distinct()).label("holders")).where(
        _c.status == literal_column("'running'"), _c.lease_expires_at_ms <= bindparam("now")
    )
)
ERASABLE = statement(
    select(_requests.c.job_id)
    .join(table_of(Job), _c.id == _requests.c.job_id)
    .where(_requests.c.job_id < bindparam("floor"), _c.finished_at_ms <= bindparam("before"))
    .limit(ERASE_BATCH)
)
ERASE_REQUEST = statement(delete(_requests).where(_requests.c.job_id == bindparam("job")))
ERASE_RESULT = statement(delete(_results).where(_results.c.job_id == bindparam("job")))


class Expired(NamedTuple):
    """What one look found. `causes` of ended leases; `more` where a further look is worth it at once.

    `silent`: most miners have let their leases run out; `frozen`: and rescheduling waits for them.
    """

    causes: list[str]
    silent: bool
    frozen: bool
    more: bool


def expire_due(tx: Tx, ctx: FlowContext, *, frozen_for_ms: int = 0, waiting_too: bool = True) -> Expired:
    """Ends leases and jobs whose time has come.

    `frozen_for_ms`: how long rescheduling has waited already; after one more lease it goes on regardless.
    `waiting_too`: jobs that wait as well, which then fail for good; not while the clock is in doubt.
    """
    due = tx.all(deadlines.PENDING_EXPIRED, now=tx.now_ms, count=BATCH) if waiting_too else []
    for job in due:
        retries.expire(tx, job)
    silent = most_miners_silent(tx)
    if silent and frozen_for_ms <= ctx.lease_ms:
        return Expired([], True, True, len(due) == BATCH)
    leases = tx.all(deadlines.LEASES_EXPIRED, now=tx.now_ms, count=BATCH)
    blamed: set[str] = set()
    causes = []
    for job in leases:
        # A miner that dies with all its leases failed once; one that fell silent with most others did not.
        blame = not silent and job.miner_id not in blamed
        blamed.add(job.miner_id)
        causes.append(retries.expire_lease(tx, ctx, job, blame=blame))
    reviewed = review_due(tx, ctx)
    return Expired(causes, silent, False, BATCH in (len(due), len(leases), reviewed))


def review_due(tx: Tx, ctx: FlowContext) -> int:
    """Looks again at waiting jobs that are kept from miners which failed them; how many."""
    latest_ms = tx.now_ms + max(retries.OPINION_MS, retries.RECHECK_MS, retries.MAX_WAIT_MS)
    due = tx.all(deadlines.REVIEWS_DUE, now=tx.now_ms, latest=latest_ms, count=BATCH)
    known: dict[object, Others] = {}
    for job in due:
        retries.review(tx, ctx, job, known)
    return len(due)


def most_miners_silent(tx: Tx) -> bool:
    """Whether more than half of the miners that hold leases let them run out (and these are several)."""
    silent = int(tx.one(SILENT_HOLDERS, now=tx.now_ms).holders)
    return silent >= FREEZE_MINERS and silent * 2 > int(tx.one(HOLDERS).holders)


def follow_clock(tx: Tx, ctx: FlowContext, by_ms: int) -> int:
    """The clock jumped by `by_ms` (either way): leases, runs and open jobs end no sooner for it, and
    miners lapse no sooner.

    Some leases may have been given since the jump. So none is moved back, and none lasts longer than a
    whole lease from now. Returns how many leases there are.
    """
    forward_ms = max(0, by_ms)
    if forward_ms:
        for shift_expiries in deadlines.SHIFT_EXPIRIES:
            tx.run(shift_expiries, shift=forward_ms, before=tx.now_ms - forward_ms)
    miners.follow_clock(tx, by_ms)
    return tx.run(deadlines.SHIFT_LEASES, shift=forward_ms, lease=ctx.lease_ms, now=tx.now_ms)


def renew_leases(tx: Tx, ctx: FlowContext) -> int:
    """The coordinator is back: every lease lasts its full time from now, and its run as long at least. How many."""
    return tx.run(deadlines.RENEW_LEASES, lease=ctx.lease_ms, now=tx.now_ms)


def lapse_miners(tx: Tx, ctx: FlowContext) -> int:
    """Miners not heard of for a lease and two heartbeats are inactive until they are heard of again."""
    return miners.lapse(tx, tx.now_ms - ctx.lapse_ms)


def forget_miners(tx: Tx, retention_days: float) -> int:
    """Forgets miners not heard of for longer: their offers, and all but their rows; how many."""
    rows = miners.gone(tx, max(0, tx.now_ms - int(retention_days * DAY_MS)), GONE_BATCH)
    for row in rows:
        parting.forget(tx, row)
    return len(rows)


def erase_old(tx: Tx, retention_days: float) -> int:
    """Erases prompts and results of jobs that ended longer ago; receipts, hashes and events stay."""
    before_ms = max(0, tx.now_ms - int(retention_days * DAY_MS))
    rows = tx.all(ERASABLE, floor=floor_id(before_ms), before=before_ms)
    for row in rows:
        tx.run(ERASE_REQUEST, job=row.job_id)
        tx.run(ERASE_RESULT, job=row.job_id)
    return len(rows)
