"""The miners that are here, seen from one job: whether any could run it, and whom an explanation and a quote count.

Which constraints there are is said in `jobs.matching.constraints`; a job's limits are parameters by their names.
Explanations and quotes are asked for often, by anybody with a key, so what they cost has a bound however many
miners there are.
"""

from typing import Any, NamedTuple

from sqlalchemy import Text, bindparam, case, exists, func, literal_column, select

from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.jobs.exclusion import NEWCOMERS, member
from aitbc.coordinator.jobs.matching.constraints import MINER_COLUMNS, OFFER_COLUMNS, Constraint, Supply
from aitbc.coordinator.jobs.matching.rules import RULES, Rules, Wanted
from aitbc.coordinator.miners.models import Miner, Offer, Provider
from aitbc.coordinator.miners.standing import PROVEN_LEASES
from aitbc.core.jobspec import ANY_MODEL

MOST_LOOKED_AT = 3_000
"""Miners that are looked at: the cheapest of those that serve the model, and as many of all that are here."""

SOON_MS = 5_000  # a miner that pauses for longer is not waited for

_miners: Any = table_of(Miner)
_providers: Any = table_of(Provider)
_offers: Any = table_of(Offer)
_m = _miners.c
_o = _offers.c
_p = _providers.c
_proven = (_p.approval == literal_column("'approved'")) | (
    _p.allowance >= PROVEN_LEASES
)  # as `is_proven` has it
_supply = Supply(_m, _o, _proven)
_any_model: Any = literal_column(f"'{ANY_MODEL}'")
_model_served = (
    _o.job_type == bindparam("job_type"),
    _o.model.in_([bindparam("model"), _any_model]),
)
_active = _m.status == literal_column("'active'")
_here = _m.status.in_([literal_column("'active'"), literal_column("'draining'")])


def _offered(*columns: Any) -> Any:
    """Offers of the model by active miners."""
    return select(*columns).join(_miners, _m.id == _o.miner_id).where(*_model_served, _active)


def could_run_statement(rules: Rules) -> Any:
    """An offer that a job's own constraints allow."""
    return statement(_offered(_o.miner_id).where(*rules.here(_supply, of_client=True)).limit(1))


def _others(proven: bool) -> Any:
    """Offers that all constraints allow, of miners that may have work, and have proven themselves or not."""
    return (
        _offered(_o.miner_id)
        .join(_providers, _p.account_id == _m.account_id)
        .where(
            *RULES.here(_supply),
            _p.approval != literal_column("'revoked'"),
            (bindparam("only_approved") == 0) | (_p.approval == literal_column("'approved'")),
            _m.paused_until_ms <= bindparam("soon"),
            _p.paused_until_ms <= bindparam("soon"),
            _proven if proven else ~_proven,
        )
        .limit(1)
    )


COULD_RUN = could_run_statement(RULES)
OTHERS = {proven: statement(_others(proven)) for proven in (True, False)}
SHORTAGES = {
    one.column: statement(_offered(one.shortage.best(_supply).label("best")))
    for one in RULES.constraints
    if one.shortage is not None
}

SERVING = statement(
    select(
        _m.id,
        _m.account_id,
        _m.status,
        _m.concurrency,
        _m.paused_until_ms,
        _p.approval,
        _p.allowance,
        _p.paused_until_ms.label("account_paused_until_ms"),
        *(_m[name] for name in MINER_COLUMNS),
        *(_o[name] for name in OFFER_COLUMNS),
    )
    .select_from(_offers)
    .join(_miners, _m.id == _o.miner_id)
    .join(_providers, _p.account_id == _m.account_id)
    .where(_o.job_type == bindparam("job_type"), _o.model == bindparam("model"), _here)
    .order_by(_o.price_units)
    .limit(bindparam("count"))
)
Serving = Any
"""A row of SERVING: a live miner that serves the model, with its offer and what `standing` goes by."""


class Lacking(NamedTuple):
    """So many live miners that do not serve the model: whether they serve its job type, and the columns of the
    constraints that they meet of those that are asked before that."""

    status: str
    approval: str
    serves_type: bool
    meets: frozenset[str]
    miners: int


def _lacking() -> Any:
    some = (
        select(_m.id, _m.account_id, _m.status, _m.job_types, *(_m[name] for name in MINER_COLUMNS))
        .where(_here)
        .limit(bindparam("count"))
        .subquery()
    )
    supply = Supply(some.c, _o, _proven)
    named: Any = bindparam("named", type_=Text)
    serves_type = func.replace(some.c.job_types, named, literal_column("''")) != some.c.job_types
    columns: list[Any] = [
        some.c.status,
        _p.approval,
        case((serves_type, 1), else_=0).label("serves_type"),
        *(
            case((one.here(one.parameter(), supply), 1), else_=0).label(one.column)
            for one in RULES.before_offer
        ),
    ]
    return (
        select(*columns, func.count().label("count"))
        .join_from(some, _providers, _p.account_id == some.c.account_id)
        .where(~exists().where(_o.miner_id == some.c.id, *_model_served))
        .group_by(*(literal_column(str(number + 1)) for number in range(len(columns))))
    )


LACKING = statement(_lacking())


class Others(NamedTuple):
    """Whether miners are here that could try a job which others failed, and some that have proven themselves."""

    here: bool
    proven: bool


def could_run(tx: Tx, job_type: str, model: str, limits: dict[str, Any]) -> bool:
    """Whether an active miner offers the model within what a job's client asks for (`Rules.limits_of_client`)."""
    return tx.one(COULD_RUN, job_type=job_type, model=model, **limits) is not None


def others(tx: Tx, wanted: Wanted, *, only_approved: bool) -> Others:
    """Whether active miners that a job is not kept from could run it, busy or not."""
    asked = {
        "job_type": wanted.job_type,
        "model": wanted.model,
        **wanted.limits,
        "only_approved": 1 if only_approved else 0,
        "soon": tx.now_ms + SOON_MS,
    }
    if tx.one(OTHERS[True], **asked) is not None:
        return Others(True, True)
    # Newcomers that the set keeps away are no others.
    kept_away = member(NEWCOMERS) in wanted.limits["excluded"]
    return Others(not kept_away and tx.one(OTHERS[False], **asked) is not None, False)


def best_on_offer(tx: Tx, constraint: Constraint, job_type: str, model: str) -> int | None:
    """What the most generous active miner of the model has, for a constraint with a `shortage`; None without one."""
    best = tx.one(SHORTAGES[constraint.column], job_type=job_type, model=model).best
    return None if best is None else int(best)


def serving(tx: Tx, job_type: str, model: str) -> list[Serving]:
    """Live miners that serve the model by name, or any model; of each kind the cheapest, MOST_LOOKED_AT at most."""
    found: dict[str, Serving] = {}
    for name in (ANY_MODEL, model):  # who offers both serves it at the price that it named
        rows = tx.all(SERVING, job_type=job_type, model=name, count=MOST_LOOKED_AT)
        found.update((row.id, row) for row in rows)
    return list(found.values())


def lacking(tx: Tx, wanted: Wanted) -> list[Lacking]:
    """Live miners that do not serve the model, counted by what they lack; of MOST_LOOKED_AT live ones."""
    before = [one.column for one in RULES.before_offer]
    rows = tx.all(
        LACKING,
        job_type=wanted.job_type,
        named=f'"{wanted.job_type}"',
        model=wanted.model,
        count=MOST_LOOKED_AT,
        **{column: wanted.limits[column] for column in before},
    )
    return [
        Lacking(
            row.status,
            row.approval,
            bool(row.serves_type),
            frozenset(column for column in before if getattr(row, column)),
            int(row.count),
        )
        for row in rows
    ]
