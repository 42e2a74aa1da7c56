"""Miners: registration, ownership, signs of life, and the offers that jobs are matched against."""

import json
import secrets
from collections import OrderedDict
from typing import Any

from sqlalchemy import bindparam, delete, literal_column, select, update

from aitbc.core.ids import new_id
from aitbc.database import Tx, insert_into, statement
from aitbc.errors import Forbidden, MinerInactive, MinerNotFound
from aitbc.miners import standing
from aitbc.miners.models import Miner, Offer
from aitbc.miners.rows import MinerRow, MinerSpec, ModelSpec, OfferRow, select_miners

_miners: Any = Miner.__table__  # type: ignore[attr-defined]
_offers: Any = Offer.__table__  # type: ignore[attr-defined]
_m = _miners.c
_o = _offers.c
_own = _m.id == bindparam("miner")

ANY_MODEL = "*"
LATEST = ":latest"
DEFAULT_JOB_TYPES = ("llm_inference",)
TOUCH_MS = 5_000  # a sign of life is written down at most this often
KEPT_OFFERS = 8192  # miners whose offers are remembered between claims

INSERT_MINER = insert_into(
    Miner,
    "id",
    "account_id",
    "status",
    "revision",
    "deregistered",
    "capabilities",
    "job_types",
    "gpus",
    "load",
    "region",
    "memory_mb",
    "concurrency",
    "public_key",
    "address",
    "endpoint",
    "registered_at_ms",
    "last_heartbeat_ms",
)
INSERT_OFFER = insert_into(Offer)
_by_id = select_miners().where(_own)
_by_account = select_miners().where(_m.account_id == bindparam("account")).order_by(_m.id).limit(2)
SELECT_MINER = statement(_by_id, MinerRow)
SELECT_OF_ACCOUNT = statement(_by_account, MinerRow)
LOCK_MINER = statement(_by_id.with_for_update(key_share=True, of=_miners), MinerRow)
LOCK_OF_ACCOUNT = statement(_by_account.with_for_update(key_share=True, of=_miners), MinerRow)
SELECT_OFFERS = statement(
    select(*(_o[name] for name in OfferRow._fields))
    .where(_o.miner_id == bindparam("miner"))
    .order_by(_o.job_type, _o.model),
    OfferRow,
)
REREGISTER = statement(
    update(_miners)
    .where(_own)
    .values(
        status=literal_column("'active'"),
        deregistered=0,
        **{
            name: bindparam(f"new_{name}")
            for name in (
                "revision",
                "capabilities",
                "job_types",
                "gpus",
                "region",
                "memory_mb",
                "concurrency",
                "public_key",
                "address",
                "endpoint",
                "last_heartbeat_ms",
            )
        },
    )
)
DELETE_OFFERS = statement(delete(_offers).where(_o.miner_id == bindparam("miner")))
TOUCH = statement(
    update(_miners)
    .where(_own)
    .values(last_heartbeat_ms=bindparam("seen"), status=bindparam("after"), deregistered=bindparam("left"))
)
SET_LOAD = statement(update(_miners).where(_own).values(load=bindparam("reported")))
LAPSE = statement(
    update(_miners)
    .where(_m.status != literal_column("'inactive'"), _m.last_heartbeat_ms < bindparam("before"))
    .values(status=literal_column("'inactive'"))
)

_offers_of: OrderedDict[tuple[str, int], tuple[OfferRow, ...]] = OrderedDict()


def register(tx: Tx, account_id: str, spec: MinerSpec, default_price_units: int) -> MinerRow:
    """Writes the miner and its offers; a known id is updated. Raises Forbidden for another account's id."""
    miner_id = spec.miner_id or new_id(tx.now_ms)
    known = get(tx, miner_id)
    if known is not None and known.account_id != account_id:
        raise Forbidden("This miner_id belongs to another account.", miner_id=miner_id)
    job_types = spec.job_types or DEFAULT_JOB_TYPES
    values: dict[str, Any] = {
        "revision": secrets.randbits(62),
        "capabilities": json.dumps(spec.capabilities),
        "job_types": json.dumps(job_types),
        "gpus": json.dumps([gpu._asdict() for gpu in spec.gpus]),
        "region": spec.region,
        "memory_mb": sum(gpu.memory_mb for gpu in spec.gpus),
        "concurrency": spec.concurrency,
        "public_key": spec.public_key,
        "address": spec.address,
        "endpoint": spec.endpoint,
        "last_heartbeat_ms": tx.now_ms,
    }
    standing.open_provider(tx, account_id)
    if known is None:
        tx.run(
            INSERT_MINER,
            id=miner_id,
            account_id=account_id,
            status="active",
            deregistered=0,
            load="{}",
            registered_at_ms=tx.now_ms,
            **values,
        )
    else:
        tx.run(REREGISTER, miner=miner_id, **{f"new_{name}": value for name, value in values.items()})
        tx.run(DELETE_OFFERS, miner=miner_id)
    rows = offer_rows(job_types, spec.models, default_price_units)
    tx.many(INSERT_OFFER, [{"miner_id": miner_id, **row._asdict()} for row in rows])
    registered = get(tx, miner_id)
    if registered is None:
        raise MinerNotFound(miner_id=miner_id)
    return registered


def offer_rows(
    job_types: tuple[str, ...], models: tuple[ModelSpec, ...], default_price_units: int
) -> list[OfferRow]:
    """The offers of a registration: each model for each job type, also under its name without `:latest`."""
    named = models or (ModelSpec(ANY_MODEL),)
    rows: dict[tuple[str, str], OfferRow] = {}
    for spec in named:
        price = default_price_units if spec.price_units is None else spec.price_units
        aliases = [spec.name, spec.name.removesuffix(LATEST)]
        for job_type in job_types:
            for model in aliases:
                rows.setdefault(
                    (job_type, model),
                    OfferRow(
                        job_type, model, spec.name, price, spec.engine, spec.context_length, spec.quantisation
                    ),
                )
    return list(rows.values())


def get(tx: Tx, miner_id: str) -> MinerRow | None:
    row: MinerRow | None = tx.one(SELECT_MINER, miner=miner_id)
    return row


def owned(tx: Tx, account_id: str, miner_id: str | None, *, lock: bool = False) -> MinerRow:
    """The account's miner; without an id, its only one. Raises MinerNotFound, Forbidden for another's.

    `lock`: until this transaction ends, others that lock it wait (SQLite has one writer anyway).
    """
    if miner_id is None:
        rows = tx.all(LOCK_OF_ACCOUNT if lock else SELECT_OF_ACCOUNT, account=account_id)
        if len(rows) != 1:
            raise MinerNotFound(
                "Name the miner: this key's account has none or several.", miner_id=miner_id or ""
            )
        only: MinerRow = rows[0]
        return only
    miner: MinerRow | None = tx.one(LOCK_MINER if lock else SELECT_MINER, miner=miner_id)
    if miner is None:
        raise MinerNotFound(miner_id=miner_id)
    if miner.account_id != account_id:
        raise Forbidden("This miner_id belongs to another account.", miner_id=miner_id)
    return miner


def offers(tx: Tx, miner: MinerRow) -> tuple[OfferRow, ...]:
    """What the miner offers. Remembered by revision, which no two registrations share."""
    key = (miner.id, miner.revision)
    found = _offers_of.get(key)
    if found is None:
        found = tuple(tx.all(SELECT_OFFERS, miner=miner.id))
        _offers_of[key] = found
        if len(_offers_of) > KEPT_OFFERS:
            _offers_of.popitem(last=False)
    return found


def context_of(tx: Tx, miner: MinerRow, job_type: str, model: str) -> int:
    """The context that the miner offers the model with, tokens; 0 where it does not say."""
    served = {offer.model: offer for offer in offers(tx, miner) if offer.job_type == job_type}
    offer = served.get(model) or served.get(ANY_MODEL)
    return 0 if offer is None else offer.context_length


def touch(tx: Tx, miner: MinerRow) -> MinerRow:
    """Writes down that the miner was heard of; one that had lapsed is active again.

    Raises MinerInactive for a miner that deregistered: it has to register again.
    """
    if miner.deregistered:
        raise MinerInactive(miner_id=miner.id)
    if miner.status == "inactive" or tx.now_ms - miner.last_heartbeat_ms >= TOUCH_MS:
        status = "active" if miner.status == "inactive" else miner.status
        tx.run(TOUCH, miner=miner.id, seen=tx.now_ms, after=status, left=0)
        return miner._replace(status=status, last_heartbeat_ms=tx.now_ms)
    return miner


def heartbeat(tx: Tx, miner: MinerRow, status: str, load: dict[str, Any] | None) -> MinerRow:
    """A heartbeat with its status (active or draining) and load. Raises MinerInactive once deregistered."""
    if miner.deregistered:
        raise MinerInactive(miner_id=miner.id)
    tx.run(TOUCH, miner=miner.id, seen=tx.now_ms, after=status, left=0)
    if load is not None:
        tx.run(SET_LOAD, miner=miner.id, reported=json.dumps(load))
    return miner._replace(status=status, last_heartbeat_ms=tx.now_ms)


def deregister(tx: Tx, miner: MinerRow) -> None:
    """The miner leaves; it stays in the books and may register again."""
    tx.run(TOUCH, miner=miner.id, seen=tx.now_ms, after="inactive", left=1)


def lapse(tx: Tx, before_ms: int) -> int:
    """Marks miners not heard of since `before_ms` inactive; how many."""
    return tx.run(LAPSE, before=before_ms)
