"""Reads over all miners: what is on offer, and listings. Who could run a job is for `flows.shared.supply` to say."""

from typing import Any, NamedTuple

from sqlalchemy import bindparam, func, literal_column, select

from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.miners.models import Miner, Offer
from aitbc.coordinator.miners.rows import MinerRow, models_in_order, select_miners
from aitbc.core.jobspec import ANY_MODEL

_miners: Any = table_of(Miner)
_offers: Any = table_of(Offer)
_m = _miners.c
_o = _offers.c
_ANY: Any = literal_column(f"'{ANY_MODEL}'")
_ACTIVE = _m.status == literal_column("'active'")

COUNT_BY_STATUS = statement(select(_m.status, func.count().label("count")).group_by(_m.status))
SERVES = statement(
    select(_o.miner_id)
    .join(_miners, _m.id == _o.miner_id)
    .where(_o.job_type == bindparam("job_type"), _o.model.in_([bindparam("model"), _ANY]), _ACTIVE)
    .limit(1)
)


def _models_on_offer() -> Any:
    """Each model's name once, in order: from one to the next by the index, however many miners offer it."""
    steps = models_in_order(MAX_STEPS)
    here = (
        select(_o.name)
        .join(_miners, _m.id == _o.miner_id)
        .where(_o.job_type == bindparam("job_type"), _o.model == steps.c.model, _ACTIVE)
        .limit(1)
        .scalar_subquery()
    )
    found = select(here.label("name")).where(steps.c.model != _ANY).subquery()
    return select(found.c.name).where(found.c.name.is_not(None)).limit(bindparam("count"))


MAX_STEPS = 1_000  # names that a look for models on offer goes through
MOST_NAMES = 50
MOST_COUNTED = 50
"""Models that may be named in a wrong one's place: the first so many, and so many miners of each are counted."""

MODELS_ON_OFFER = statement(_models_on_offer())


class Named(NamedTuple):
    """A model on offer, and how many active miners serve it, counted up to MOST_COUNTED."""

    model: str
    miners: int


def _with_counts() -> Any:
    """Models in order, from one to the next by the index, and how many active miners serve each, up to a bound."""
    steps = models_in_order(MOST_NAMES)
    some = (
        select(literal_column("1").label("one"))
        .select_from(_offers)
        .join(_miners, _m.id == _o.miner_id)
        .where(_o.job_type == bindparam("job_type"), _o.model == steps.c.model)
        .where(_ACTIVE)
        .limit(MOST_COUNTED)
        .correlate(steps)
        .subquery()
    )
    served = select(func.count()).select_from(some).scalar_subquery()
    return select(steps.c.model, served.label("miners")).where(steps.c.model.is_not(None))


MODELS_WITH_COUNTS = statement(_with_counts())


def serves(tx: Tx, job_type: str, model: str) -> bool:
    """Whether an active miner offers the model, by name or among all."""
    return tx.one(SERVES, job_type=job_type, model=model) is not None


def models_on_offer(tx: Tx, job_type: str, count: int) -> list[str]:
    """Names of models that active miners offer for the job type, each once, in order; at most `count`."""
    # An alias without its tag stands beside the name itself, so up to twice as many rows.
    rows = tx.all(MODELS_ON_OFFER, job_type=job_type, count=2 * count)
    return list(dict.fromkeys(str(row.name) for row in rows))[:count]


def most_served(tx: Tx, job_type: str) -> Named | None:
    """The model of the job type that most active miners serve, of the first MOST_NAMES; None where none is served."""
    rows = [Named(row.model, int(row.miners)) for row in tx.all(MODELS_WITH_COUNTS, job_type=job_type)]
    best = max(rows, key=lambda row: row.miners, default=None)
    return best if best is not None and best.miners else None


def count_by_status(tx: Tx) -> dict[str, int]:
    """How many miners are active, draining and inactive."""
    return {row.status: int(row.count) for row in tx.all(COUNT_BY_STATUS)}


def page(
    tx: Tx,
    *,
    status: str | None = None,
    account_id: str | None = None,
    limit: int = 100,
    offset: int = 0,
    after_id: str | None = None,
) -> list[MinerRow]:
    """Miners by their ids: an order that heartbeats do not change while somebody pages."""
    query = select_miners().order_by(_m.id).limit(limit).offset(offset)
    if after_id is not None:
        query = query.where(_m.id > after_id)
    if status is not None:
        query = query.where(_m.status == status)
    if account_id is not None:
        query = query.where(_m.account_id == account_id)
    return [MinerRow._make(row) for row in tx.query(query)]
