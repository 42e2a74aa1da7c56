"""Offers and claims: how a job gets to a miner. Guarded updates decide; wake-ups only say when to look."""

import heapq
from collections.abc import Collection
from typing import NamedTuple

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import JobNotAvailable, JobNotFound, MinerInactive
from aitbc.coordinator.flows.shared import rights, trust
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.flows.shared.trust import Room
from aitbc.coordinator.jobs import claims
from aitbc.coordinator.jobs import service as jobs
from aitbc.coordinator.jobs import texts as job_texts
from aitbc.coordinator.jobs.matching.constraints import Ask, MinerNeeds
from aitbc.coordinator.jobs.matching.rules import RULES, MinerProfile
from aitbc.coordinator.jobs.rows import JobRow
from aitbc.coordinator.metrics import DISPATCH_LATENCY
from aitbc.coordinator.miners import service as miners
from aitbc.coordinator.miners import sessions
from aitbc.coordinator.miners.rows import MinerRow
from aitbc.core.ids import new_id

MAX_TAKE_BYTES = 16 << 20
"""The most bytes of input that one ask for work gets, but for a single larger job."""

FEW = 16
"""So many jobs are within MAX_TAKE_BYTES whatever they are, while MAX_BODY_BYTES is as it comes."""


class Assignment(NamedTuple):
    """A leased job and its request (canonical JSON)."""

    job: JobRow
    request_text: str


class Taken(NamedTuple):
    """What a look for work found. `profile` is what to wait with where it found nothing.

    `room` says whether the miner could have had any, and if not, why.
    """

    assignments: list[Assignment]
    profile: MinerProfile
    room: Room

    @property
    def may_wait(self) -> bool:
        """Whether a job that comes now could be for this miner."""
        return self.room.reason == ""


class Offered(NamedTuple):
    """A job that the miner could claim now; None where there is none. Without its request: that takes a lease.

    `profile` and `room` as in `Taken`.
    """

    job: JobRow | None
    profile: MinerProfile
    room: Room

    @property
    def may_wait(self) -> bool:
        """Whether a job that comes now could be for this miner."""
        return self.room.reason == ""


def profile_of(tx: Tx, miner: MinerRow) -> MinerProfile:
    """The miner's side of the match."""
    return trust.profile_of(miner, miners.offers(tx, miner))


def take(
    tx: Tx,
    ctx: FlowContext,
    principal: Principal,
    miner_id: str | None,
    max_jobs: int,
    known: Collection[str] = (),
    session: str | None = None,
) -> Taken:
    """Leases up to `max_jobs` jobs to the miner, those that it already holds and does not name first.

    A miner that signs gets those again only in the session that was given them: its copy shall not run them.

    Raises Unauthorized for a key that has ended meanwhile, MinerNotFound, Forbidden, MinerInactive,
    MinerSessionReplaced.
    """
    if miner_id is not None:
        jobs.ahead(tx, held_by=miner_id)
        trust.ahead(tx, principal.account_id, miner_id)
    rights.require(tx, principal)
    # Locked, so that a miner that asks twice at once gets no more than it has places for.
    miner = miners.owned(tx, principal.account_id, miner_id, lock=True)
    sessions.hold(miner, session)
    miner = miners.touch(tx, miner)
    profile = profile_of(tx, miner)
    held = jobs.held_by(tx, miner.id)
    mine = [] if miner.public_key and session is None else held
    again = _that_fit(
        [job for job in mine if job.id not in known and jobs.is_of_session(job, session)][:max_jobs]
    )
    requests = job_texts.request_texts(tx, [job.id for job in again])
    taken = [Assignment(job, requests.get(job.id, "{}")) for job in again]
    room = trust.room(tx, ctx, miner, len(held))
    free = min(max_jobs - len(taken), room.free)
    bytes_left = MAX_TAKE_BYTES - sum(job.prompt_bound for job in again)
    if free > 0 and bytes_left > 0:
        with tx.together():
            taken += _claim_heads(
                tx, ctx, profile, free, miner.session_id, bytes_left=bytes_left, always_one=not taken
            )
    return Taken(taken, profile, room)


def offer(
    tx: Tx, ctx: FlowContext, principal: Principal, miner_id: str, session: str | None = None
) -> Offered:
    """The job that the miner would get next, without leasing it."""
    rights.require(tx, principal)
    miner = miners.owned(tx, principal.account_id, miner_id)
    sessions.hold(miner, session)
    miner = miners.touch(tx, miner)
    profile = profile_of(tx, miner)
    room = trust.room(tx, ctx, miner, len(jobs.held_by(tx, miner.id)))
    found = [head for ask in profile.asks for head in claims.heads(tx, profile.needs, ask, 1, lock=False)]
    best = min(found, default=None)
    job = jobs.get(tx, best[1]) if best and not room.reason else None
    return Offered(job, profile, room)


def claim(
    tx: Tx, ctx: FlowContext, principal: Principal, job_id: str, miner_id: str, session: str | None = None
) -> Assignment:
    """Leases one job to the miner. Raises JobNotFound, JobNotAvailable (taken, ended, or not for this miner)."""
    rights.require(tx, principal)
    miner = miners.owned(tx, principal.account_id, miner_id, lock=True)
    sessions.hold(miner, session)
    miner = miners.touch(tx, miner)
    if miner.status != "active":
        raise MinerInactive(miner_id=miner.id)
    job = jobs.get(tx, job_id)
    if job is None:
        raise JobNotFound(job_id=job_id)
    profile = profile_of(tx, miner)
    wanted = RULES.wanted_by(job)
    ask = profile.ask_for(wanted)
    reason = RULES.reason_against(profile, wanted) if job.status == "pending" else "TAKEN"
    if not reason:
        reason = trust.room(tx, ctx, miner, len(jobs.held_by(tx, miner.id))).reason
    claimed = [] if reason or ask is None else _claim(tx, ctx, profile.needs, ask, [job_id], miner.session_id)
    if not claimed:
        raise JobNotAvailable(job_id=job_id, reason=reason or "TAKEN")
    return claimed[0]


def _that_fit(held: list[JobRow]) -> list[JobRow]:
    """The first of these jobs whose inputs are MAX_TAKE_BYTES together, and always one."""
    total = 0
    for number, job in enumerate(held):
        total += job.prompt_bound
        if number and total > MAX_TAKE_BYTES:
            return held[:number]
    return held


def _claim_heads(
    tx: Tx,
    ctx: FlowContext,
    profile: MinerProfile,
    count: int,
    session: str,
    *,
    bytes_left: int = MAX_TAKE_BYTES,
    always_one: bool = True,
) -> list[Assignment]:
    """Claims the best `count` jobs over all the miner's asks: by priority, then age.

    Of more than FEW, those whose inputs are `bytes_left` together (`always_one`: one, however large).
    """
    if len(profile.asks) == 1 and count <= FEW:  # as most have: what is found first is what is claimed
        lease_id = new_id(tx.now_ms)
        found = claims.claim_first(tx, profile.needs, profile.asks[0], count, lease_id, ctx.lease_ms, session)
        return sorted(_assigned(tx, found), key=_place)
    queues = [
        [(rank, job_id, size, index) for rank, job_id, size in claims.heads(tx, profile.needs, ask, count)]
        for index, ask in enumerate(profile.asks)
    ]
    chosen: dict[str, int] = {}
    for _rank, job_id, size, index in heapq.merge(*queues):
        if job_id in chosen:  # it may also stand under '*' or another of the miner's names
            continue
        if len(chosen) == count or (size > bytes_left and (chosen or not always_one)):
            break
        bytes_left -= size
        chosen[job_id] = index
    claimed: list[Assignment] = []
    for index, ask in enumerate(profile.asks):
        of_ask = [job_id for job_id, chosen_index in chosen.items() if chosen_index == index]
        if of_ask:
            claimed += _claim(tx, ctx, profile.needs, ask, of_ask, session)
    claimed.sort(key=_place)
    if chosen and tx.dialect == "postgresql":
        claims.announce(tx, {job_id for queue in queues for _, job_id, _, _ in queue} - chosen.keys())
    return claimed


def _claim(
    tx: Tx, ctx: FlowContext, needs: MinerNeeds, ask: Ask, job_ids: list[str], session: str
) -> list[Assignment]:
    return _assigned(tx, claims.claim(tx, job_ids, needs, ask, new_id(tx.now_ms), ctx.lease_ms, session))


def _assigned(tx: Tx, claimed: list[claims.Claimed]) -> list[Assignment]:
    tx.after_commit(_observe_latency, [job for job, _ in claimed], tx.now_ms)
    return [Assignment(job, request or "{}") for job, request in claimed]


def _place(assignment: Assignment) -> tuple[int, str]:
    """Where the job stood in the queue."""
    return assignment.job.rank, assignment.job.id


def _observe_latency(claimed: list[JobRow], now_ms: int) -> None:
    for job in claimed:
        if job.attempts == 1:
            DISPATCH_LATENCY.observe(max(0, now_ms - job.created_at_ms) / 1000)
