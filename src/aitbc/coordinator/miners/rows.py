"""A miner as the database holds it, and what a registration says of one."""

from typing import Any, NamedTuple

from sqlalchemy import bindparam, func, literal, select

from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.miners.models import Miner, Offer, Provider


class MinerRow(NamedTuple):
    """Every column of `miners`, in the table's order, and then what is known of its account (`providers`)."""

    id: str
    account_id: str
    status: str
    revision: int
    deregistered: int
    capabilities: str
    job_types: str
    gpus: str
    load: str
    region: str
    memory_mb: int
    concurrency: int
    public_key: str
    address: str
    endpoint: str
    registered_at_ms: int
    last_heartbeat_ms: int
    session_id: str
    installation_id: str
    strikes: int
    paused_until_ms: int
    delivered: int
    failed: int
    run_ms: int
    units: int
    deposit_hold_id: str
    deposit_units: int
    reservation: str
    up_ms: int
    away_ms: int
    lapsed_at_ms: int
    promised_ms: int
    served_ms: int
    approval: str
    allowance: int
    account_strikes: int
    account_paused_until_ms: int


_miners: Any = table_of(Miner)
_providers: Any = table_of(Provider)
_p = _providers.c
COLUMNS = [
    *_miners.columns,
    _p.approval,
    _p.allowance,
    _p.strikes.label("account_strikes"),
    _p.paused_until_ms.label("account_paused_until_ms"),
]
if MinerRow._fields != tuple(column.name for column in COLUMNS):
    raise RuntimeError("MinerRow and its tables have drifted apart")


def select_miners() -> Any:
    """SELECT of miners as MinerRows."""
    return select(*COLUMNS).join_from(_miners, _providers, _p.account_id == _miners.c.account_id)


def models_in_order(most: int) -> Any:
    """A common table of `model`: those that are offered for a job type, each once, and then NULL; `most` rows.

    It goes from one to the next by the index, so it costs the same however many miners offer each.
    """
    offer = table_of(Offer).alias("offer")
    kind = offer.c.job_type == bindparam("job_type")
    named = select(
        select(func.min(offer.c.model)).where(kind).scalar_subquery().label("model"), literal(1).label("step")
    ).cte("named", recursive=True)
    following = select(func.min(offer.c.model)).where(kind, offer.c.model > named.c.model).scalar_subquery()
    return named.union_all(
        select(following, named.c.step + 1).where(named.c.model.is_not(None), named.c.step < most)
    )


class OfferRow(NamedTuple):
    """One offer of a miner; `model` is what jobs are matched on, `name` what the miner called it."""

    job_type: str
    model: str
    name: str
    price_units: int
    engine: str
    context_length: int
    quantisation: str


class ModelSpec(NamedTuple):
    """A model that a miner says it serves. `price_units` per 1000 tokens; None for the network's default."""

    name: str
    price_units: int | None = None
    engine: str = ""
    context_length: int = 0
    quantisation: str = ""


class GpuSpec(NamedTuple):
    name: str
    memory_mb: int


class MinerSpec(NamedTuple):
    """A validated registration, whichever dialect it came in. `miner_id` None: a new id is made.

    An empty `job_types` means llm_inference; empty `models` means any model of those job types. `session_id`
    is that of an earlier registration, `takeover` ends another machine's that is alive.
    """

    miner_id: str | None
    job_types: tuple[str, ...]
    models: tuple[ModelSpec, ...]
    gpus: tuple[GpuSpec, ...] = ()
    region: str = ""
    concurrency: int = 1
    public_key: str = ""
    address: str = ""
    endpoint: str = ""
    capabilities: tuple[Any, ...] = ()
    session_id: str = ""
    installation_id: str = ""
    takeover: bool = False
