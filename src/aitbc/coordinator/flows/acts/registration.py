"""Miners come, say that they are alive, and keep their leases."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.flows.shared import parting, retries
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.jobs import service as jobs
from aitbc.coordinator.miners import service as miners
from aitbc.coordinator.miners import sessions
from aitbc.coordinator.miners.rows import MinerRow, MinerSpec, OfferRow
from aitbc.coordinator.parameters import service as parameters


class Heartbeat(NamedTuple):
    """The answer to a heartbeat: the ends of extended leases (ms) by job, and jobs that are no longer its own."""

    miner: MinerRow
    leases: list[tuple[str, int]]
    cancelled: list[str]
    at_ms: int


def register(
    tx: Tx, ctx: FlowContext, principal: Principal, spec: MinerSpec
) -> tuple[MinerRow, tuple[OfferRow, ...]]:
    """Registers or updates a miner of the caller's account. One that is alive on another machine stays as it is,
    unless it is taken over: what it runs is then tried again elsewhere.

    Its deposit is held from its account, where the operator wants one and has not approved the account.
    Raises Forbidden for another account's miner, MinerIdInUse, MinerSessionReplaced, InsufficientFunds,
    TooManyMiners, TooManyOffers.
    """
    price_units = parameters.get(tx, "default_price_per_1k_tokens")
    known = miners.for_registration(tx, principal.account_id, spec, ctx.lapse_ms)
    if known is None or not known.revision:
        gone = miners.to_make_room(tx, principal.account_id)
        if gone is not None:
            parting.forget(tx, gone)
    miner = miners.register(tx, known, principal.account_id, spec, price_units)
    changed = known is not None and known.session_id != miner.session_id
    if known is not None and changed and (spec.takeover or known.public_key != miner.public_key):
        for job in jobs.held_by(tx, miner.id):
            retries.retry_or_fail(tx, ctx, job, "MINER_LEFT", "miner", "")
    if ctx.deposit_units and not miner.deposit_hold_id and miner.approval != "approved":
        parting.take_deposit(tx, miner, ctx.deposit_units)
    tx.after_commit(ctx.on_offer.miner_came)
    return miner, miners.offers(tx, miner)


def heartbeat(
    tx: Tx,
    ctx: FlowContext,
    principal: Principal,
    *,
    miner_id: str | None,
    status: str = "active",
    load: dict[str, Any] | None = None,
    running: Collection[str] | None = None,
    session: str | None = None,
    progress: Mapping[str, int] | None = None,
) -> Heartbeat:
    """Extends the leases of the jobs that the miner says it runs (of all that it holds where it says nothing).

    `progress`: tokens generated so far, by job; what is paid for them should they be cancelled.
    Raises MinerNotFound, Forbidden, MinerInactive, MinerSessionReplaced.
    """
    miner = miners.owned(tx, principal.account_id, miner_id)
    sessions.hold(miner, session)
    miner = miners.heartbeat(tx, miner, status, load)
    held = {job.id: job for job in jobs.held_by(tx, miner.id) if jobs.is_of_session(job, session)}
    kept = held.keys() if running is None else held.keys() & set(running)
    said = progress or {}
    leases = [
        (job_id, jobs.extend_lease(tx, held[job_id], ctx.lease_ms, said.get(job_id)))
        for job_id in sorted(kept)
    ]
    cancelled = [job_id for job_id in running or () if job_id not in held]
    return Heartbeat(miner, leases, cancelled, tx.now_ms)
