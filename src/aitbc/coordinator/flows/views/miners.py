"""Miners as everybody sees them, and one's own as its owner does: with the jobs that they run."""

from typing import NamedTuple

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import MinerNotFound
from aitbc.coordinator.flows.shared import trust
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.flows.shared.trust import Room
from aitbc.coordinator.jobs import queries as job_queries
from aitbc.coordinator.jobs import service as jobs
from aitbc.coordinator.jobs.rows import JobRow
from aitbc.coordinator.miners import queries, standing, uptime
from aitbc.coordinator.miners import service as miners
from aitbc.coordinator.miners.rows import MinerRow, OfferRow
from aitbc.coordinator.parameters import service as parameters


class ListedMiner(NamedTuple):
    """A miner as everybody sees it; `running`: how many jobs it runs."""

    row: MinerRow
    offers: tuple[OfferRow, ...]
    running: int


class MinerState(NamedTuple):
    """How one's own miner stands: the jobs that it holds, and whether it gets more. `cap_units`: what clients pay
    at most by default, per 1000 tokens."""

    listed: ListedMiner
    held: list[JobRow]
    room: Room
    cap_units: int
    now_ms: int


class MinerRecord(NamedTuple):
    """A miner as everybody sees it, with what it did: failures by cause, and `facts` for its reputation."""

    listed: ListedMiner
    facts: MinerRow
    failures: dict[str, int]


class MinerPage(NamedTuple):
    """Part of the list, and the id after which the rest follows; None at its end."""

    miners: list[ListedMiner]
    next_after: str | None


def state(tx: Tx, ctx: FlowContext, principal: Principal, miner_id: str | None) -> MinerState:
    """How one's own miner stands: what it offers and holds, and what clients pay by default."""
    miner = miners.owned(tx, principal.account_id, miner_id)
    held = jobs.held_by(tx, miner.id)
    return MinerState(
        ListedMiner(miner, miners.offers(tx, miner), len(held)),
        held,
        trust.room(tx, ctx, miner, len(held)),
        parameters.get(tx, "default_max_price_per_1k_tokens"),
        tx.now_ms,
    )


def record(tx: Tx, miner_id: str) -> MinerRecord:
    """A miner, and what it did until now. Raises MinerNotFound."""
    row = miners.get(tx, miner_id)
    if row is None:
        raise MinerNotFound(miner_id=miner_id)
    running = len(jobs.held_by(tx, row.id))
    facts = row._replace(away_ms=uptime.away_now_ms(tx, row))
    return MinerRecord(
        ListedMiner(row, miners.offers(tx, row), running), facts, standing.failures(tx, row.id)
    )


def listed(tx: Tx, *, status: str | None, limit: int, offset: int, after_id: str | None) -> MinerPage:
    """Miners as everybody sees them, a page of them."""
    rows = queries.page(tx, status=status, limit=limit, offset=offset, after_id=after_id)
    running = job_queries.running_by_miner(tx)
    shown = [ListedMiner(row, miners.offers(tx, row), running.get(row.id, 0)) for row in rows]
    return MinerPage(shown, rows[-1].id if len(rows) == limit else None)
