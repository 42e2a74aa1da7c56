"""How much work a miner may have now, and if none, why. Shared by the flows in which that is asked."""

from collections import Counter
from typing import Any, NamedTuple

from sqlalchemy import bindparam, func, select
from sqlalchemy import text as sql

from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.jobs.matching.constraints import ask_of, needs_of
from aitbc.coordinator.jobs.matching.merit import Merit
from aitbc.coordinator.jobs.matching.rules import MinerProfile
from aitbc.coordinator.jobs.models import RUNNING, Job
from aitbc.coordinator.miners import reputation, standing
from aitbc.coordinator.miners.models import Miner
from aitbc.coordinator.miners.rows import MinerRow, OfferRow

_c: Any = table_of(Job).c
_m: Any = table_of(Miner).c
LEASES_OF_OTHERS = statement(
    select(func.count().label("count"))
    .select_from(Job)
    .where(
        sql(RUNNING),
        _c.miner_id.in_(
            select(_m.id).where(_m.account_id == bindparam("account"), _m.id != bindparam("miner"))
        ),
    )
)

_busy = select(_c.miner_id, func.count().label("count")).where(sql(RUNNING)).group_by(_c.miner_id).subquery()
RUNNING_NOW = statement(
    select(_busy.c.miner_id, _m.account_id, _busy.c.count).join_from(_busy, Miner, _m.id == _busy.c.miner_id)
)

WORDS = {
    "DRAINING": "The miner drains: it takes no new jobs.",
    "NOT_APPROVED": "The operator has not approved this account for mining, so its miners get no work.",
    "PAUSED": "The miner pauses after failures, longer with each in a row, until an answer.",
    "TRUST": "The account holds as many leases as its answers so far have earned; each answer earns one more.",
    "BUSY": "All of the miner's places are in use.",
}
"""What its owner is told of a miner that gets no work, by reason."""


class Room(NamedTuple):
    """How many more leases a miner may take now; where 0, the reason (of WORDS) and when it ends (ms, 0: unknown)."""

    free: int
    reason: str = ""
    until_ms: int = 0


def ahead(tx: Tx, account_id: str, miner_id: str) -> None:
    """A hint that `room` comes soon (see `Tx.ahead`)."""
    tx.ahead(LEASES_OF_OTHERS, account=account_id, miner=miner_id)


def room(tx: Tx, ctx: FlowContext, miner: MinerRow, held: int) -> Room:
    """The miner's room while it holds `held` leases.

    Two coordinators that are asked by two miners of one account at once may each give what is left: that is
    once, and within what either of the miners might have had.
    """
    if miner.status != "active":
        return Room(0, "DRAINING")
    if not standing.admitted(miner, ctx.only_approved):
        return Room(0, "NOT_APPROVED")
    if until_ms := standing.paused_until_ms(miner, tx.now_ms):
        return Room(0, "PAUSED", until_ms)
    free = miner.concurrency - held
    if free <= 0:
        return Room(0, "BUSY")
    if miner.approval != "approved":
        others = int(tx.one(LEASES_OF_OTHERS, account=miner.account_id, miner=miner.id).count)
        free = min(free, miner.allowance - held - others)
        if free <= 0:
            return Room(0, "TRUST")
    return Room(free)


def running(tx: Tx) -> tuple[dict[str, int], Counter[str]]:
    """How many jobs run now, by miner and by miner's account."""
    by_miner: dict[str, int] = {}
    by_account: Counter[str] = Counter()
    for row in tx.all(RUNNING_NOW):
        by_miner[row.miner_id] = int(row.count)
        by_account[row.account_id] += int(row.count)
    return by_miner, by_account


def profile_of(miner: MinerRow, offers: tuple[OfferRow, ...]) -> MinerProfile:
    """The miner's side of the match."""
    asks = tuple(ask_of(offer.job_type, offer.model, offer) for offer in offers)
    proven = standing.is_proven(miner)
    return MinerProfile(
        needs_of(miner, proven),
        asks,
        Merit(
            miner.delivered,
            miner.failed,
            miner.run_ms,
            miner.units,
            proven,
            reputation.in_dispatch_bps(miner),
        ),
    )
