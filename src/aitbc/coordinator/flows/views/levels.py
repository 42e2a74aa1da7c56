"""What the gauges of /metrics show: how much is open and waiting, the miners, and the exchange."""

from typing import NamedTuple

from sqlalchemy import case, func, select

from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.exchange import standing
from aitbc.coordinator.jobs import queries
from aitbc.coordinator.miners.models import Miner

_M = table_of(Miner).c
_MINERS = statement(
    select(
        func.count().label("registered"),
        func.count(case((_M.status == "active", 1))).label("active"),
    ).where(_M.deregistered == 0)
)


class Levels(NamedTuple):
    """What the database says at one moment; ages in seconds."""

    pending: int
    running: int
    queued: int
    queue_age_s: float
    miners_registered: int
    miners_active: int
    open_topups: int
    nobodys_outputs: int
    owed_outputs: int
    bitcoin_age_s: float


def levels(tx: Tx) -> Levels:
    """Reads every gauge: counts over partial indexes, which hold open jobs only."""
    pending, running = queries.open_counts(tx)
    queue = queries.queue_state(tx)
    miners = tx.one(_MINERS)
    age_ms = 0 if queue.oldest_ms is None else max(0, tx.now_ms - queue.oldest_ms)
    bitcoin = standing.levels(tx)
    return Levels(
        pending,
        running,
        queue.depth,
        age_ms / 1000,
        int(miners.registered),
        int(miners.active),
        bitcoin.open_topups,
        bitcoin.nobodys,
        bitcoin.owed,
        bitcoin.age_ms / 1000,
    )
