"""Reads over all miners: who serves what, for listings, explanations and quotes."""

from typing import Any

from sqlalchemy import bindparam, func, literal_column, select

from aitbc.database import Tx, statement
from aitbc.miners.models import Miner, Offer
from aitbc.miners.rows import COLUMNS, MinerRow, OfferRow

_m: Any = Miner.__table__.c  # type: ignore[attr-defined]
_o: Any = Offer.__table__.c  # type: ignore[attr-defined]
_ACTIVE = _m.status == literal_column("'active'")

OTHERS_SERVE = statement(
    select(_o.miner_id)
    .join(Miner.__table__, _m.id == _o.miner_id)  # type: ignore[attr-defined]
    .where(
        _o.job_type == bindparam("job_type"),
        _o.model.in_([bindparam("model"), literal_column("'*'")]),
        _o.miner_id != bindparam("miner"),
        _ACTIVE,
    )
    .limit(1)
)
COUNT_BY_STATUS = statement(select(_m.status, func.count().label("count")).group_by(_m.status))
SERVING_TYPE = statement(
    select(*COLUMNS)
    .where(_m.status != literal_column("'inactive'"))
    .order_by(_m.id)
    .limit(bindparam("count")),
    MinerRow,
)
OFFERS_OF_LIVE = statement(
    select(_o.miner_id, *(_o[name] for name in OfferRow._fields))
    .join(Miner.__table__, _m.id == _o.miner_id)  # type: ignore[attr-defined]
    .where(_m.status != literal_column("'inactive'"))
)
MAX_LIVE = 5_000  # miners that an explanation or a quote looks at


def others_serve(tx: Tx, job_type: str, model: str, miner_id: str) -> bool:
    """Whether an active miner other than this one offers the model."""
    return tx.one(OTHERS_SERVE, job_type=job_type, model=model, miner=miner_id) is not None


def count_by_status(tx: Tx) -> dict[str, int]:
    """How many miners are active, draining and inactive."""
    return {row.status: int(row.count) for row in tx.all(COUNT_BY_STATUS)}


def live(tx: Tx) -> list[tuple[MinerRow, tuple[OfferRow, ...]]]:
    """Miners that are active or draining, with their offers; at most MAX_LIVE."""
    offers: dict[str, list[OfferRow]] = {}
    for row in tx.all(OFFERS_OF_LIVE):
        offers.setdefault(row[0], []).append(OfferRow._make(row[1:]))
    rows: list[MinerRow] = tx.all(SERVING_TYPE, count=MAX_LIVE)
    return [(row, tuple(offers.get(row.id, ()))) for row in rows]


def page(
    tx: Tx, *, status: str | None = None, account_id: str | None = None, limit: int = 100, offset: int = 0
) -> list[MinerRow]:
    """Miners, most recently heard of first."""
    query = select(*COLUMNS).order_by(_m.last_heartbeat_ms.desc(), _m.id).limit(limit).offset(offset)
    if status is not None:
        query = query.where(_m.status == status)
    if account_id is not None:
        query = query.where(_m.account_id == account_id)
    return [MinerRow._make(row) for row in tx.query(query)]
