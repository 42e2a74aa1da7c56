"""Who serves one model now, and what the others that are here lack: what an explanation and a quote count.

Both are asked for often, by anybody with a key, so what they cost has a bound however many miners there are.
"""

from typing import Any, NamedTuple

from sqlalchemy import Text, bindparam, case, exists, func, literal_column, select

from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.miners.models import Miner, Offer, Provider
from aitbc.coordinator.miners.rows import models_in_order

MOST_LOOKED_AT = 3_000
"""Miners that are looked at: the cheapest of those that serve the model, and as many of all that are here."""

MOST_NAMES = 50
MOST_COUNTED = 50
"""Models that may be named in a wrong one's place: the first so many, and so many miners of each are counted."""

_miners: Any = table_of(Miner)
_providers: Any = table_of(Provider)
_offers: Any = table_of(Offer)
_m = _miners.c
_o = _offers.c
_p = _providers.c
_here = _m.status.in_([literal_column("'active'"), literal_column("'draining'")])


class Serving(NamedTuple):
    """A live miner that serves the model, with its offer and what `standing` goes by. `context` 0: it names none."""

    id: str
    account_id: str
    status: str
    region: str
    memory_mb: int
    concurrency: int
    paused_until_ms: int
    approval: str
    allowance: int
    account_paused_until_ms: int
    price_units: int
    context: int


class Lacking(NamedTuple):
    """So many live miners that do not serve the model: whether they serve its job type, and are the one asked for."""

    status: str
    approval: str
    serves_type: bool
    required: bool
    miners: int


class Named(NamedTuple):
    """A model on offer, and how many active miners serve it, counted up to MOST_COUNTED."""

    model: str
    miners: int


SERVING = statement(
    select(
        _m.id,
        _m.account_id,
        _m.status,
        _m.region,
        _m.memory_mb,
        _m.concurrency,
        _m.paused_until_ms,
        _p.approval,
        _p.allowance,
        _p.paused_until_ms.label("account_paused_until_ms"),
        _o.price_units,
        _o.context_length,
    )
    .select_from(_offers)
    .join(_miners, _m.id == _o.miner_id)
    .join(_providers, _p.account_id == _m.account_id)
    .where(_o.job_type == bindparam("job_type"), _o.model == bindparam("model"), _here)
    .order_by(_o.price_units)
    .limit(bindparam("count")),
    Serving,
)
_some = (
    select(_m.id, _m.account_id, _m.status, _m.job_types).where(_here).limit(bindparam("count")).subquery()
)
_named: Any = bindparam("named", type_=Text)
_serves_type = func.replace(_some.c.job_types, _named, literal_column("''")) != _some.c.job_types
_columns: Any = (
    _some.c.status,
    _p.approval,
    case((_serves_type, 1), else_=0).label("serves_type"),
    case((_some.c.id == bindparam("miner"), 1), else_=0).label("required"),
)
LACKING = statement(
    select(*_columns, func.count().label("count"))
    .join_from(_some, _providers, _p.account_id == _some.c.account_id)
    .where(
        ~exists().where(
            _o.miner_id == _some.c.id,
            _o.job_type == bindparam("job_type"),
            _o.model.in_([bindparam("model"), literal_column("'*'")]),
        )
    )
    .group_by(literal_column("1"), literal_column("2"), literal_column("3"), literal_column("4"))
)


def _on_offer() -> Any:
    """Models in order, from one to the next by the index, and how many active miners serve each, up to a bound."""
    steps = models_in_order(MOST_NAMES)
    some = (
        select(literal_column("1").label("one"))
        .select_from(_offers)
        .join(_miners, _m.id == _o.miner_id)
        .where(_o.job_type == bindparam("job_type"), _o.model == steps.c.model)
        .where(_m.status == literal_column("'active'"))
        .limit(MOST_COUNTED)
        .correlate(steps)
        .subquery()
    )
    served = select(func.count()).select_from(some).scalar_subquery()
    return select(steps.c.model, served.label("miners")).where(steps.c.model.is_not(None))


ON_OFFER = statement(_on_offer())


def serving(tx: Tx, job_type: str, model: str) -> list[Serving]:
    """Live miners that serve the model by name, or any model; of each kind the cheapest, MOST_LOOKED_AT at most."""
    found: dict[str, Serving] = {}
    for name in ("*", model):  # who offers both serves it at the price that it named
        rows: list[Serving] = tx.all(SERVING, job_type=job_type, model=name, count=MOST_LOOKED_AT)
        found.update((row.id, row) for row in rows)
    return list(found.values())


def lacking(tx: Tx, job_type: str, model: str, miner_id: str) -> list[Lacking]:
    """Live miners that do not serve the model, counted by what they lack; of MOST_LOOKED_AT live ones."""
    rows = tx.all(
        LACKING, job_type=job_type, named=f'"{job_type}"', model=model, miner=miner_id, count=MOST_LOOKED_AT
    )
    return [
        Lacking(row.status, row.approval, bool(row.serves_type), bool(row.required), int(row.count))
        for row in rows
    ]


def most_served(tx: Tx, job_type: str) -> Named | None:
    """The model of the job type that most active miners serve, of the first MOST_NAMES; None where none is served."""
    rows = [Named(row.model, int(row.miners)) for row in tx.all(ON_OFFER, job_type=job_type)]
    best = max(rows, key=lambda row: row.miners, default=None)
    return best if best is not None and best.miners else None
