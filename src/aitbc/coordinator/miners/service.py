"""Miners: registration, ownership, signs of life, and the offers that jobs are matched against."""

import json
import secrets
from collections import OrderedDict
from typing import Any

from sqlalchemy import bindparam, case, delete, func, literal_column, select, update
from sqlalchemy import text as sql

from aitbc.coordinator.chain import counters
from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.errors import (
    Forbidden,
    MinerIdInUse,
    MinerInactive,
    MinerNotFound,
    MinerSessionReplaced,
    TooManyMiners,
    TooManyOffers,
)
from aitbc.coordinator.miners import sessions, standing, uptime
from aitbc.coordinator.miners.models import GONE, Miner, Offer
from aitbc.coordinator.miners.rows import MinerRow, MinerSpec, ModelSpec, OfferRow, select_miners
from aitbc.core.ids import new_id
from aitbc.core.jobspec import ANY_MODEL

_miners: Any = table_of(Miner)
_offers: Any = table_of(Offer)
_m = _miners.c
_o = _offers.c
_own = _m.id == bindparam("miner")

LATEST = ":latest"
DEFAULT_JOB_TYPES = ("llm_inference",)
TOUCH_MS = 5_000  # a sign of life is written down at most this often, but for a booked machine
MAX_MINERS = 256  # of one account; for one more, the one that has been gone for longest is forgotten
MAX_OFFERS = 1_024  # of one registration: models (also without their tag `latest`) times job types
MAX_OFFERS_OF_ACCOUNT = 16_384
KEPT_OFFERS = 8192  # miners whose offers are remembered between claims

INSERT_MINER = insert_into(Miner)
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
        **uptime.HEARD,
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
                "session_id",
                "installation_id",
            )
        },
    )
)
DELETE_OFFERS = statement(delete(_offers).where(_o.miner_id == bindparam("miner")))
TOUCH = statement(
    update(_miners)
    .where(_own)
    .values(
        last_heartbeat_ms=bindparam("seen"),
        status=bindparam("after"),
        deregistered=bindparam("left"),
        **uptime.HEARD,
    )
)
SET_LOAD = statement(update(_miners).where(_own).values(load=bindparam("reported")))
_heard_shifted = _m.last_heartbeat_ms + bindparam("shift")
SHIFT_HEARTBEATS = statement(
    update(_miners)
    .where(
        _m.status != literal_column("'inactive'"),
        # After a step back, who is not ahead of the clock was heard of since.
        (_heard_shifted >= _m.last_heartbeat_ms) | (_m.last_heartbeat_ms > bindparam("now")),
    )
    .values(
        last_heartbeat_ms=case((_heard_shifted > bindparam("now"), bindparam("now")), else_=_heard_shifted)
    )
)
LAPSE = statement(
    update(_miners)
    .where(_m.status != literal_column("'inactive'"), _m.last_heartbeat_ms < bindparam("before"))
    .values(status=literal_column("'inactive'"), lapsed_at_ms=bindparam("ran"))
)

_of_account = (_m.account_id == bindparam("account"), _m.revision != literal_column("0"))
COUNT_OF_ACCOUNT = statement(
    select(func.count().label("count")).select_from(
        select(_m.id).where(*_of_account).limit(bindparam("most")).subquery()
    )
)
OFFERS_OF_ACCOUNT = statement(
    select(func.count().label("count")).select_from(
        select(_o.model)
        .join(_miners, _m.id == _o.miner_id)
        .where(_m.account_id == bindparam("account"), _o.miner_id != bindparam("miner"))
        .limit(bindparam("most"))
        .subquery()
    )
)
LONGEST_GONE = statement(
    select_miners().where(*_of_account, sql(GONE)).order_by(_m.last_heartbeat_ms).limit(1), MinerRow
)
GONE_BEFORE = statement(
    select_miners()
    .where(sql(GONE), _m.last_heartbeat_ms < bindparam("before"))
    .order_by(_m.last_heartbeat_ms)
    .limit(bindparam("count")),
    MinerRow,
)
STRIP = statement(
    update(_miners)
    .where(_own)
    .values(
        revision=0,
        deregistered=1,
        capabilities="[]",
        job_types="[]",
        gpus="[]",
        load="{}",
        region="",
        memory_mb=0,
        address="",
        endpoint="",
        session_id="",
        installation_id="",
    )
)
REMOVE = statement(delete(_miners).where(_own))

_offers_of: OrderedDict[tuple[str, int], tuple[OfferRow, ...]] = OrderedDict()


def register(tx: Tx, known: MinerRow | None, account_id: str, spec: MinerSpec, price_units: int) -> MinerRow:
    """Writes the miner and its offers; `known` (of `for_registration`) is updated.

    `price_units`: where the miner names none.
    """
    miner_id = spec.miner_id or new_id(tx.now_ms)
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
        "session_id": sessions.after(known, spec),
        "installation_id": spec.installation_id,
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
            **standing.NEW,
            **values,
        )
    else:
        said = {f"new_{name}": value for name, value in values.items()}
        tx.run(REREGISTER, miner=miner_id, seen=tx.now_ms, ran=uptime.ran_ms(tx, known), **said)
        tx.run(DELETE_OFFERS, miner=miner_id)
        tx.signal(("miner", miner_id))
    rows = offer_rows(job_types, spec.models, price_units)
    _require_offers(tx, account_id, miner_id, len(rows))
    tx.many(INSERT_OFFER, [{"miner_id": miner_id, **row._asdict()} for row in rows])
    registered = get(tx, miner_id)
    if registered is None:
        raise MinerNotFound(miner_id=miner_id)
    return registered


def _require_offers(tx: Tx, account_id: str, miner_id: str, count: int) -> None:
    """Raises TooManyOffers where a registration would make so many that it, or its account, has too many."""
    if count > MAX_OFFERS:
        raise TooManyOffers(offers=count, limit=MAX_OFFERS, of="one miner")
    others = tx.one(OFFERS_OF_ACCOUNT, account=account_id, miner=miner_id, most=MAX_OFFERS_OF_ACCOUNT).count
    if others + count > MAX_OFFERS_OF_ACCOUNT:
        raise TooManyOffers(offers=others + count, limit=MAX_OFFERS_OF_ACCOUNT, of="all miners of an account")


def to_make_room(tx: Tx, account_id: str) -> MinerRow | None:
    """The account's miner that has to be forgotten before one more registers; None where there is room.

    That is the one that has been gone for longest. Raises TooManyMiners where all of them are alive.
    """
    if tx.one(COUNT_OF_ACCOUNT, account=account_id, most=MAX_MINERS).count < MAX_MINERS:
        return None
    row: MinerRow | None = tx.one(LONGEST_GONE, account=account_id)
    if row is None:
        raise TooManyMiners(alive=MAX_MINERS, limit=MAX_MINERS)
    return row


def gone(tx: Tx, before_ms: int, count: int) -> list[MinerRow]:
    """Miners not heard of since `before_ms` of which more than the row is kept, the longest gone first."""
    return tx.all(GONE_BEFORE, before=before_ms, count=count)


def strip(tx: Tx, miner: MinerRow) -> None:
    """Keeps the miner's row and key, and nothing else that it said: it has to register again."""
    tx.run(DELETE_OFFERS, miner=miner.id)
    tx.run(STRIP, miner=miner.id)
    tx.signal(("miner", miner.id))


def remove(tx: Tx, miner: MinerRow) -> None:
    """Takes a miner off the books, that nothing refers to. Whoever registers its id next owns it."""
    tx.run(DELETE_OFFERS, miner=miner.id)
    standing.forget_failures(tx, miner.id)
    tx.run(REMOVE, miner=miner.id)
    tx.signal(("miner", miner.id))


def for_registration(tx: Tx, account_id: str, spec: MinerSpec, lapse_ms: int) -> MinerRow | None:
    """The miner of this id as it was registered before, locked; None for a new one.

    Raises Forbidden for another account's, and for one that is alive elsewhere MinerIdInUse or
    MinerSessionReplaced, unless the registration takes it over. `lapse_ms`: silence after which none is alive.
    """
    if spec.miner_id is None:
        return None
    known: MinerRow | None = tx.one(LOCK_MINER, miner=spec.miner_id)
    if known is None:
        return None
    if known.account_id != account_id:
        raise Forbidden("This miner_id belongs to another account.", miner_id=known.id)
    if is_alive(known) and not spec.takeover:
        if spec.session_id and spec.session_id != known.session_id:
            raise MinerSessionReplaced(miner_id=known.id)
        if not sessions.is_same_machine(known, spec):
            key_differs = spec.public_key != known.public_key
            raise MinerIdInUse(
                miner_id=known.id,
                by="with another signing key" if key_differs else "on another machine",
                reason="KEY_DIFFERS" if key_differs else "MACHINE_DIFFERS",
                lapses_in_s=max(0, known.last_heartbeat_ms + lapse_ms - tx.now_ms) / 1000,
            )
    return known


def is_alive(miner: MinerRow) -> bool:
    """Neither lapsed nor deregistered."""
    return miner.status != "inactive"


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


def _heard(tx: Tx, miner: MinerRow, status: str, *, left: int = 0) -> None:
    ran = uptime.ran_ms(tx, miner)
    tx.run(TOUCH, miner=miner.id, seen=tx.now_ms, ran=ran, after=status, left=left)


def touch(tx: Tx, miner: MinerRow) -> MinerRow:
    """Writes down that the miner was heard of; one that had lapsed is active again.

    Raises MinerInactive for a miner that deregistered: it has to register again.
    """
    if miner.deregistered:
        raise MinerInactive(miner_id=miner.id)
    due_ms = 1 if miner.reservation else TOUCH_MS  # a booking is paid from the first sign of its machine
    if miner.status == "inactive" or tx.now_ms - miner.last_heartbeat_ms >= due_ms:
        status = "active" if miner.status == "inactive" else miner.status
        _heard(tx, miner, status)
        return miner._replace(status=status, last_heartbeat_ms=tx.now_ms)
    return miner


def heartbeat(tx: Tx, miner: MinerRow, status: str, load: dict[str, Any] | None) -> MinerRow:
    """A heartbeat with its status (active or draining) and load. Raises MinerInactive once deregistered."""
    if miner.deregistered:
        raise MinerInactive(miner_id=miner.id)
    _heard(tx, miner, status)
    if load is not None:
        tx.run(SET_LOAD, miner=miner.id, reported=json.dumps(load))
    return miner._replace(status=status, last_heartbeat_ms=tx.now_ms)


def deregister(tx: Tx, miner: MinerRow) -> None:
    """The miner leaves; it stays in the books and may register again."""
    _heard(tx, miner, "inactive", left=1)
    tx.signal(("miner", miner.id))


def follow_clock(tx: Tx, by_ms: int) -> None:
    """The clock jumped: who was heard of just before it was heard of just now."""
    tx.run(SHIFT_HEARTBEATS, shift=by_ms, now=tx.now_ms)


def lapse(tx: Tx, before_ms: int) -> int:
    """Marks miners not heard of since `before_ms` inactive, and missing from now on; how many."""
    return tx.run(LAPSE, before=before_ms, ran=counters.read(tx, counters.RAN).value)
