"""Reads over all miners: who serves what, for listings, explanations and quotes."""

from typing import Any, NamedTuple

from sqlalchemy import Text, bindparam, func, literal_column, select

from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.miners.models import Miner, Offer, Provider
from aitbc.coordinator.miners.rows import MinerRow, models_in_order, select_miners
from aitbc.coordinator.miners.standing import PROVEN_LEASES

_miners: Any = table_of(Miner)
_providers: Any = table_of(Provider)
_offers: Any = table_of(Offer)
_m = _miners.c
_o = _offers.c
_p = _providers.c
_ACTIVE = _m.status == literal_column("'active'")

COUNT_BY_STATUS = statement(select(_m.status, func.count().label("count")).group_by(_m.status))
_served = (
    _o.job_type == bindparam("job_type"),
    _o.model.in_([bindparam("model"), literal_column("'*'")]),
    _ACTIVE,
)
_fits = (  # an offer of the model that a job's constraints allow ('' and 0: none)
    *_served,
    _o.price_units <= bindparam("cap"),
    _m.memory_mb >= bindparam("memory"),
    (_o.context_length == 0) | (_o.context_length >= bindparam("context")),
    (bindparam("region") == literal_column("''")) | (_m.region == bindparam("region")),
    (bindparam("miner") == literal_column("''")) | (_m.id == bindparam("miner")),
)
SERVES = statement(select(_o.miner_id).join(_miners, _m.id == _o.miner_id).where(*_served).limit(1))
CHEAPEST = statement(
    select(func.min(_o.price_units).label("price")).join(_miners, _m.id == _o.miner_id).where(*_served)
)
COULD_RUN = statement(
    select(_o.miner_id)
    .join(_miners, _m.id == _o.miner_id)
    .where(
        *_fits,
    )
    .limit(1)
)
LARGEST = statement(
    select(func.max(_o.context_length).label("context")).join(_miners, _m.id == _o.miner_id).where(*_served)
)


def _is_not_in_set(name: Any) -> Any:
    kept_from = bindparam("kept_from", type_=Text)
    return func.replace(kept_from, name, literal_column("''")) == kept_from


def _others(proven: bool) -> Any:
    """As `could_run`, of those that may have work, have proven themselves or not, and are not in the set."""
    trusted = (_p.approval == literal_column("'approved'")) | (_p.allowance >= PROVEN_LEASES)
    return (
        select(_o.miner_id)
        .join(_miners, _m.id == _o.miner_id)
        .join(_providers, _p.account_id == _m.account_id)
        .where(
            *_fits,
            _p.approval != literal_column("'revoked'"),
            (bindparam("only_approved") == 0) | (_p.approval == literal_column("'approved'")),
            _m.paused_until_ms <= bindparam("soon"),
            _p.paused_until_ms <= bindparam("soon"),
            _is_not_in_set(literal_column("' '") + _m.id + literal_column("' '")),
            _is_not_in_set(literal_column("' @'") + _m.account_id + literal_column("' '")),
            trusted if proven else ~trusted,
        )
        .limit(1)
    )


OTHERS = {proven: statement(_others(proven)) for proven in (True, False)}


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
    found = select(here.label("name")).where(steps.c.model != literal_column("'*'")).subquery()
    return select(found.c.name).where(found.c.name.is_not(None)).limit(bindparam("count"))


SOON_MS = 5_000  # a miner that pauses for longer is not waited for
MAX_STEPS = 1_000  # names that a look for models on offer goes through
MODELS_ON_OFFER = statement(_models_on_offer())


class Others(NamedTuple):
    """Whether miners are here that could try a job which others failed, and some that have proven themselves."""

    here: bool
    proven: bool


def others(
    tx: Tx,
    *,
    job_type: str,
    model: str,
    cap: int,
    memory: int,
    region: str,
    miner: str,
    context: int,
    kept_from: str,
    only_approved: bool,
) -> Others:
    """Whether active miners that a job is not kept from could run it, busy or not (`kept_from`: a set as
    `jobs.exclusion` has it)."""
    wants = {
        "job_type": job_type,
        "model": model,
        "cap": cap,
        "memory": memory,
        "region": region,
        "miner": miner,
        "context": context,
        "kept_from": kept_from,
        "only_approved": 1 if only_approved else 0,
        "soon": tx.now_ms + SOON_MS,
    }
    if tx.one(OTHERS[True], **wants) is not None:
        return Others(True, True)
    # Newcomers that the set keeps away are no others.
    newcomers = " ? " not in kept_from and tx.one(OTHERS[False], **wants) is not None
    return Others(newcomers, False)


def serves(tx: Tx, job_type: str, model: str) -> bool:
    """Whether an active miner offers the model, by name or among all."""
    return tx.one(SERVES, job_type=job_type, model=model) is not None


def could_run(
    tx: Tx, *, job_type: str, model: str, cap: int, memory: int, region: str, miner: str, context: int
) -> bool:
    """Whether an active miner offers the model within a job's constraints ('' and 0: none)."""
    found = tx.one(
        COULD_RUN,
        job_type=job_type,
        model=model,
        cap=cap,
        memory=memory,
        region=region,
        miner=miner,
        context=context,
    )
    return found is not None


def cheapest(tx: Tx, job_type: str, model: str) -> int | None:
    """The lowest price of an active miner for the model, base units per 1000 tokens; None without one."""
    price = tx.one(CHEAPEST, job_type=job_type, model=model).price
    return None if price is None else int(price)


def largest_context(tx: Tx, job_type: str, model: str) -> int:
    """The most context that an active miner offers the model with, tokens; 0 where none says."""
    return int(tx.one(LARGEST, job_type=job_type, model=model).context or 0)


def models_on_offer(tx: Tx, job_type: str, count: int) -> list[str]:
    """Names of models that active miners offer for the job type, each once, in order; at most `count`."""
    # An alias without its tag stands beside the name itself, so up to twice as many rows.
    rows = tx.all(MODELS_ON_OFFER, job_type=job_type, count=2 * count)
    return list(dict.fromkeys(str(row.name) for row in rows))[:count]


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
