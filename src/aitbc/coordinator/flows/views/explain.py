"""Why a job waits, what would make it run, and what a job would cost: counts over miners, never their names."""

import statistics
from collections import Counter
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import bindparam, select

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.flows.shared import own_jobs, supply, trust
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.flows.shared.supply import Lacking, Serving
from aitbc.coordinator.jobs import queries as job_queries
from aitbc.coordinator.jobs.lifecycle import MAX_PRIORITY, TERMINAL
from aitbc.coordinator.jobs.matching.constraints import (
    MINER_COLUMNS,
    OFFER_COLUMNS,
    Advice,
    Candidate,
    ask_of,
    needs_of,
)
from aitbc.coordinator.jobs.matching.rules import NEVER, NOT_NOW, RULES, MinerProfile, Wanted
from aitbc.coordinator.jobs.models import Job
from aitbc.coordinator.jobs.rows import JobRow, JobSpec
from aitbc.coordinator.miners import queries as miner_queries
from aitbc.coordinator.miners import standing
from aitbc.coordinator.parameters import service as parameters
from aitbc.coordinator.receipts.models import Receipt
from aitbc.core import ids
from aitbc.core.money import price_units

RECENT_MS = 24 * 3600 * 1000  # how far back speeds and prices are looked at
ASSUMED_RUN_S = 5.0  # a job's length where no recent one of the model tells


RECENT = 50  # answers of the model that speeds and prices are taken from

_ALIKE = attrgetter(*MINER_COLUMNS, *OFFER_COLUMNS)
"""What tells miners apart to a constraint that is not personal."""

_j: Any = table_of(Job).c
_r: Any = table_of(Receipt).c
# By the receipts' index of the model: among the jobs they would have to be looked for.
_answers = (
    select(_r.id, _r.job_id)
    .where(_r.model == bindparam("model"), _r.id > bindparam("since"))
    .order_by(_r.id.desc())
    .limit(RECENT)
    .subquery()
)
RECENT_OF_MODEL = statement(
    select(_j.started_at_ms, _j.finished_at_ms, _j.price_units)
    .join_from(_answers, Job, _j.id == _answers.c.job_id)
    .where(_j.job_type == bindparam("job_type"))
    .order_by(_answers.c.id.desc())
)


class Explanation(NamedTuple):
    """Where a job stands. `reasons` counts live miners by what keeps each from the job now."""

    status: str
    eligible_miners: int
    registered_miners: int
    reasons: dict[str, int]
    nearest_change: Advice | None
    queue_position: int | None
    summary: str


class Quote(NamedTuple):
    """What a job would cost. Prices in base units (per 1000 tokens, or for the job); waits in seconds."""

    eligible_miners: int
    asks_units: tuple[int, int, int] | None
    max_units: int
    worst_case_units: int
    typical_units: int | None
    expected_wait_s: float | None
    reasons: dict[str, int]


class _Counted(NamedTuple):
    """The live miners, seen from one job. `reasons` of them all by count; of those that serve the model: which
    could run it (now or when they are free), how many of these are free now, and which ones something about the
    job keeps from it, by the first such reason."""

    reasons: dict[str, int]
    fit: list[Serving]
    free: int
    kept: dict[str, list[Serving]]


def explain(tx: Tx, ctx: FlowContext, principal: Principal, job_id: str) -> Explanation:
    """Raises JobNotFound for anybody but the job's client and admins."""
    job = own_jobs.owned(tx, principal, job_id)
    wanted = RULES.wanted_by(job)
    counted = _count(tx, ctx, wanted)
    reasons, eligible = counted.reasons, len(counted.fit)
    registered = sum(miner_queries.count_by_status(tx).values())
    position = job_queries.position(tx, job)
    change: Advice | None = None
    if job.status == "pending" and not job.queued:
        change = Advice("payment", "Open its escrow: POST /v1/payments with this job's id.")
    elif not eligible and job.status not in TERMINAL:
        change = _nearest_change(tx, counted.kept, wanted)
    return Explanation(
        job.status,
        eligible,
        registered,
        reasons,
        change,
        position,
        _summary(job, eligible, registered, reasons, change, position),
    )


def quote(tx: Tx, ctx: FlowContext, spec: JobSpec) -> Quote:
    """What the job would cost with the miners that are here now, and how long it would wait."""
    cap = spec.max_price_units
    if cap is None:
        cap = parameters.get(tx, "default_max_price_per_1k_tokens")
    wanted = RULES.wanted_of(spec, max_price_units=cap)
    counted = _count(tx, ctx, wanted)
    asks = [miner.price_units for miner in counted.fit]
    units = spec.prompt_bound + spec.completion_bound
    since = ids.floor_id(max(0, tx.now_ms - RECENT_MS))
    recent = tx.all(RECENT_OF_MODEL, job_type=spec.job_type, model=spec.model, since=since)
    median = int(statistics.median(asks)) if asks else 0
    return Quote(
        len(asks),
        (min(asks), max(asks), median) if asks else None,
        units,
        price_units(units, cap),
        int(statistics.median(row.price_units for row in recent)) if recent else None,
        _expected_wait_s(tx, spec, counted, recent) if asks else None,
        counted.reasons,
    )


def _expected_wait_s(tx: Tx, spec: JobSpec, counted: _Counted, recent: list[Any]) -> float:
    ahead = job_queries.ahead_of_new(tx, spec.job_type, spec.model, MAX_PRIORITY - spec.priority)
    if ahead == 0 and counted.free:
        return 0.0
    runs = [(r.finished_at_ms - r.started_at_ms) / 1000 for r in recent if r.started_at_ms is not None]
    run_s = statistics.median(runs) if runs else ASSUMED_RUN_S
    places: int = max(1, sum(miner.concurrency for miner in counted.fit))
    return round((ahead + 1) * run_s / places, 1)


def _kept_off(tx: Tx, ctx: FlowContext, row: Serving, running: int, leases: int) -> str:
    """Why the miner takes nothing at all now, as `trust.room` has it; '' where it does."""
    if row.status != "active":
        return "MINER_INACTIVE"
    if not standing.admitted(row, ctx.only_approved):
        return "NOT_APPROVED"
    if standing.paused_until_ms(row, tx.now_ms):
        return "PAUSED"
    if running >= row.concurrency:
        return "BUSY"
    return "TRUST" if leases >= standing.lease_limit(row) else ""


class _Match:
    """Why miners that serve the model may not run one job. Most are alike, and are looked at once."""

    def __init__(self, wanted: Wanted, passing: str = "") -> None:
        self._wanted = wanted
        self._passing = passing
        self._personal = any(
            one.personal and wanted.limits[one.column] != one.nothing for one in RULES.constraints
        )
        self._known: dict[object, str] = {}

    def against(self, miner: Serving, proven: bool) -> str:
        """As `reason_against`."""
        if self._personal:
            return self._reason(miner, proven)
        alike = _ALIKE(miner)
        reason = self._known.get(alike)
        if reason is None:
            reason = self._known[alike] = self._reason(miner, proven)
        return reason

    def candidate(self, miner: Serving, proven: bool) -> Candidate:
        return Candidate(needs_of(miner, proven), ask_of(self._wanted.job_type, self._wanted.model, miner))

    def _reason(self, miner: Serving, proven: bool) -> str:
        needs, ask = self.candidate(miner, proven)
        return RULES.reason_against(MinerProfile(needs, (ask,)), self._wanted, self._passing)


def _count(tx: Tx, ctx: FlowContext, wanted: Wanted) -> _Counted:
    rows = supply.serving(tx, wanted.job_type, wanted.model)
    running, leases = trust.running(tx) if rows else ({}, Counter())
    match = _Match(wanted)
    reasons: Counter[str] = Counter()
    fit: list[Serving] = []
    kept: dict[str, list[Serving]] = {}
    free = 0
    for row in rows:
        reason = _kept_off(tx, ctx, row, running.get(row.id, 0), leases[row.account_id])
        if reason not in NEVER:
            against = match.against(row, standing.is_proven(row))
            if against:
                kept.setdefault(against, []).append(row)
                reason = against
            else:
                fit.append(row)
                free += not reason
        reasons[reason] += 1
    for some in supply.lacking(tx, wanted):
        reasons[_lack(ctx, some)] += some.miners
    return _Counted({name: reasons[name] for name in RULES.reasons if reasons[name]}, fit, free, kept)


def _lack(ctx: FlowContext, some: Lacking) -> str:
    """The reason against miners that do not serve the model, as `_kept_off` and `reason_against` have it."""
    if some.status != "active":
        return "MINER_INACTIVE"
    if not standing.admitted(some, ctx.only_approved):
        return "NOT_APPROVED"
    for one in RULES.before_offer:
        if one.column not in some.meets:
            return one.reason
    return "MODEL_NOT_SERVED" if some.serves_type else "JOB_TYPE_NOT_SERVED"


def _nearest_change(tx: Tx, kept: dict[str, list[Serving]], wanted: Wanted) -> Advice | None:
    """Tries one change at a time, the easiest for a client first. What one change mends is kept by one reason."""
    for one in RULES.by_ease:
        match = _Match(wanted, passing=one.column)
        would = [
            match.candidate(row, proven)
            for row in kept.get(one.reason, ())
            if not match.against(row, proven := standing.is_proven(row))
        ]
        if would:
            return one.advise(wanted.limits[one.column], would)
    best = miner_queries.most_served(tx, wanted.job_type)
    if best is not None:
        more = " or more" if best.miners >= miner_queries.MOST_COUNTED else ""
        return Advice("model", f"Ask for the model {best.model}: {best.miners}{more} miner(s) serve it.")
    return None


def _summary(
    job: JobRow,
    eligible: int,
    registered: int,
    reasons: dict[str, int],
    change: Advice | None,
    position: int | None,
) -> str:
    if job.status in TERMINAL:
        return f"The job has ended: {job.status}" + (f" ({job.cause})." if job.cause else ".")
    if job.status == "running":
        return "A miner is running the job."
    if not job.queued:
        return f"The job waits for its payment. {change.text if change else ''}".strip()
    if eligible:
        place = f"; it is number {position} in its queue" if position else ""
        busy = reasons.get("BUSY", 0)
        kept_off = sum(reasons.get(name, 0) for name in NOT_NOW)
        state = f"{eligible - kept_off} of them free"
        if kept_off >= eligible:
            state = "all of them busy" if busy >= eligible else "none of them free"
        return f"{eligible} miner(s) could run the job, {state}{place}."
    if not registered:
        return "No miner has registered yet, so the job waits for the first one that serves its model."
    return "No miner that is here now could run the job." + (f" {change.text}" if change else "")
