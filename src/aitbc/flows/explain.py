"""Why a job waits, what would make it run, and what a job would cost: counts over miners, never their names."""

import statistics
from collections import Counter
from typing import NamedTuple

from aitbc.accounts.principal import Principal
from aitbc.core import ids
from aitbc.core.money import format_ait, price_units
from aitbc.database import Tx
from aitbc.errors import JobNotFound
from aitbc.flows import trust
from aitbc.flows.context import FlowContext
from aitbc.jobs import exclusion
from aitbc.jobs import queries as job_queries
from aitbc.jobs import service as jobs
from aitbc.jobs.lifecycle import MAX_PRIORITY, TERMINAL
from aitbc.jobs.matching import REASONS, MinerProfile, Wanted, reason_against
from aitbc.jobs.rows import JobRow, JobSpec
from aitbc.miners import queries as miner_queries
from aitbc.miners import standing
from aitbc.miners.rows import MinerRow
from aitbc.parameters import service as parameters

RECENT_MS = 24 * 3600 * 1000  # how far back speeds and prices are looked at
ASSUMED_RUN_S = 5.0  # a job's length where no recent one of the model tells


class Change(NamedTuple):
    """The smallest change of the job that some miner would then take it with."""

    change: str
    text: str


class Explanation(NamedTuple):
    """Where a job stands. `reasons` counts live miners by what keeps each from the job now."""

    status: str
    eligible_miners: int
    registered_miners: int
    reasons: dict[str, int]
    nearest_change: Change | None
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


class _Live(NamedTuple):
    row: MinerRow
    profile: MinerProfile
    kept_off: str


def explain(tx: Tx, ctx: FlowContext, principal: Principal, job_id: str) -> Explanation:
    """Raises JobNotFound for anybody but the job's client and admins."""
    job = jobs.get(tx, job_id)
    if job is None or (job.client_id != principal.account_id and not principal.is_admin):
        raise JobNotFound(job_id=job_id)
    wanted = jobs.wanted_by(job)
    miners = _live(tx, ctx)
    reasons, eligible, _asks = _count(miners, wanted)
    registered = sum(miner_queries.count_by_status(tx).values())
    position = job_queries.position(tx, job)
    change: Change | None = None
    if job.status == "pending" and not job.queued:
        change = Change("payment", "Open its escrow: POST /v1/payments with this job's id.")
    elif not eligible and job.status not in TERMINAL:
        change = _nearest_change(miners, wanted)
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
    wanted = Wanted(
        spec.job_type,
        spec.model,
        cap,
        spec.min_memory_mb,
        spec.region,
        spec.required_miner_id,
        "",
        spec.min_context,
        spec.prompt_bound + spec.completion_bound,
    )
    miners = _live(tx, ctx)
    reasons, eligible, asks = _count(miners, wanted)
    units = spec.prompt_bound + spec.completion_bound
    recent = job_queries.recent(tx, spec.job_type, spec.model, ids.floor_id(max(0, tx.now_ms - RECENT_MS)))
    median = int(statistics.median(asks)) if asks else 0
    return Quote(
        eligible,
        (min(asks), max(asks), median) if asks else None,
        units,
        price_units(units, cap),
        int(statistics.median(row.price_units for row in recent)) if recent else None,
        _expected_wait_s(tx, spec, miners, wanted, recent) if eligible else None,
        reasons,
    )


def _expected_wait_s(
    tx: Tx, spec: JobSpec, miners: list[_Live], wanted: Wanted, recent: list[object]
) -> float:
    fit = [miner for miner in miners if not reason_against(miner.profile, wanted)]
    ahead = job_queries.ahead_of_new(tx, spec.job_type, spec.model, MAX_PRIORITY - spec.priority)
    if ahead == 0 and any(not miner.kept_off for miner in fit):
        return 0.0
    runs = [(r.finished_at_ms - r.started_at_ms) / 1000 for r in recent if r.started_at_ms is not None]  # type: ignore[attr-defined]
    run_s = statistics.median(runs) if runs else ASSUMED_RUN_S
    places = max(1, sum(miner.row.concurrency for miner in fit))
    return round((ahead + 1) * run_s / places, 1)


def _live(tx: Tx, ctx: FlowContext) -> list[_Live]:
    running = job_queries.running_by_miner(tx)
    rows = miner_queries.live(tx)
    leases: Counter[str] = Counter()
    for row, _offers in rows:
        leases[row.account_id] += running.get(row.id, 0)
    return [
        _Live(row, trust.profile_of(row, offers), _kept_off(tx, ctx, row, running, leases))
        for row, offers in rows
    ]


def _kept_off(tx: Tx, ctx: FlowContext, row: MinerRow, running: dict[str, int], leases: Counter[str]) -> str:
    """Why the miner takes nothing at all now, as `trust.room` has it; '' where it does."""
    if row.status != "active":
        return "MINER_INACTIVE"
    if not standing.admitted(row, ctx.only_approved):
        return "NOT_APPROVED"
    if standing.paused_until_ms(row, tx.now_ms):
        return "PAUSED"
    if running.get(row.id, 0) >= row.concurrency:
        return "BUSY"
    return "TRUST" if leases[row.account_id] >= standing.lease_limit(row) else ""


def _count(miners: list[_Live], wanted: Wanted) -> tuple[dict[str, int], int, list[int]]:
    """Reasons by count, how many could take the job (now or when free), and what those ask."""
    reasons: Counter[str] = Counter()
    asks: list[int] = []
    for miner in miners:
        never = miner.kept_off in ("MINER_INACTIVE", "NOT_APPROVED")
        reason = miner.kept_off if never else reason_against(miner.profile, wanted)
        ask = miner.profile.ask_for(wanted)
        if not reason and ask is not None:
            asks.append(ask.price_units)
            reason = miner.kept_off
        if reason:
            reasons[reason] += 1
    return {name: reasons[name] for name in REASONS if reasons[name]}, len(asks), asks


def _nearest_change(miners: list[_Live], wanted: Wanted) -> Change | None:
    """Tries one change at a time, the easiest for a client first."""
    active = [miner.profile for miner in miners if miner.kept_off not in ("MINER_INACTIVE", "NOT_APPROVED")]

    def fits(changed: Wanted) -> list[MinerProfile]:
        return [profile for profile in active if not reason_against(profile, changed)]

    if fits(wanted._replace(excluded="")):
        hopeless = exclusion.awaits_opinion(wanted.excluded)
        then = (
            "unless another comes in a few seconds, the job fails" if hopeless else "they may try again soon"
        )
        return Change("wait", f"Only miners that failed it are here; {then}.")
    if longer := fits(wanted._replace(min_context=0)):
        most = max(ask.context for profile in longer if (ask := profile.ask_for(wanted)))
        return Change(
            "max_tokens",
            f"Shorten the prompt or lower max_tokens: the job needs {wanted.min_context} tokens of context or"
            f" more, the most on offer is {most}.",
        )
    if any_price := fits(wanted._replace(max_price_units=2**62)):
        asks = [ask.price_units for profile in any_price if (ask := profile.ask_for(wanted))]
        price = format_ait(min(asks))
        return Change("max_price", f"Raise max_price to {price} AIT per 1000 tokens.")
    if wanted.required_miner_id and fits(wanted._replace(required_miner_id="")):
        return Change("miner_id", "Leave miner_id out: other miners could run it.")
    if wanted.region and (regions := fits(wanted._replace(region=""))):
        return Change("region", f"Leave the region out: {len(regions)} miner(s) elsewhere could run it.")
    if wanted.min_memory_mb and (smaller := fits(wanted._replace(min_memory_mb=0))):
        most = max(profile.needs.memory_mb for profile in smaller)
        return Change("min_memory_gb", f"Lower min_memory_gb to {most / 1024:g}.")
    models = Counter(
        ask.model for profile in active for ask in profile.asks if ask.job_type == wanted.job_type
    )
    if models:
        model, count = models.most_common(1)[0]
        return Change("model", f"Ask for the model {model}: {count} miner(s) serve it.")
    return None


def _summary(
    job: JobRow,
    eligible: int,
    registered: int,
    reasons: dict[str, int],
    change: Change | None,
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
        kept_off = sum(reasons.get(name, 0) for name in ("PAUSED", "TRUST", "BUSY"))
        state = f"{eligible - kept_off} of them free"
        if kept_off >= eligible:
            state = "all of them busy" if busy >= eligible else "none of them free"
        return f"{eligible} miner(s) could run the job, {state}{place}."
    if not registered:
        return "No miner has registered yet, so the job waits for the first one that serves its model."
    return "No miner that is here now could run the job." + (f" {change.text}" if change else "")
