"""Listed GPUs in the database: guarded moves, each checked by its row count.

Who books a GPU, or begins or ends a booking of it, changes its row first: so no two do it at once.
"""

import json
from typing import Any

from sqlalchemy import bindparam, func, literal_column, select, update

from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.errors import GpuNotFound
from aitbc.coordinator.marketplace.models import PRIOR_RATING_MILLIS, PRIOR_RELIABILITY_BPS, Gpu
from aitbc.coordinator.marketplace.rows import GPU_COLUMNS, GpuRow, GpuSpec
from aitbc.core.gpu_names import model_key
from aitbc.core.ids import new_id
from aitbc.core.money import BPS
from aitbc.core.rental import HOUR_MS

MAX_GPUS = 256  # of one account
PRIOR_MS = 10 * HOUR_MS
"""What a GPU is taken to have promised before its first booking, and kept PRIOR_RELIABILITY_BPS of."""

_g: Any = table_of(Gpu).c
_own = _g.id == bindparam("gpu")
_now: Any = bindparam("now")

INSERT_GPU = insert_into(Gpu)
SELECT_GPU = statement(select(*GPU_COLUMNS).where(_own), GpuRow)
LOCK_GPU = statement(select(*GPU_COLUMNS).where(_own).with_for_update(key_share=True), GpuRow)
SELECT_OF_MINER = statement(
    select(*GPU_COLUMNS).where(_g.miner_id == bindparam("miner"), _g.miner_id != literal_column("''")), GpuRow
)
COUNT_OF_OWNER = statement(
    select(func.count().label("count")).select_from(
        select(_g.id).where(_g.owner_id == bindparam("owner")).limit(bindparam("most")).subquery()
    )
)
SAID = (
    "miner_id",
    "model",
    "model_key",
    "memory_mb",
    "cards",
    "cuda_version",
    "region",
    "price_units",
    "capabilities",
    "description",
)
"""What an owner says, and may say anew."""

CHANGE = statement(
    update(Gpu)
    .where(_own)
    .values(updated_at_ms=_now, state=bindparam("after"), **{name: bindparam(f"new_{name}") for name in SAID})
)
COUNT_BOOKING = statement(update(Gpu).where(_own).values(bookings=_g.bookings + 1))
BEGIN = statement(
    update(Gpu)
    .where(_own, _g.booking_id == literal_column("''"))
    .values(state=literal_column("'booked'"), booking_id=bindparam("booking"))
)
END = statement(
    update(Gpu)
    .where(_own, _g.booking_id == bindparam("booking"))
    .values(state=bindparam("after"), booking_id=literal_column("''"))
)
SET_SERVED = statement(
    update(Gpu)
    .where(_own)
    .values(
        promised_ms=_g.promised_ms + bindparam("promised"),
        served_ms=_g.served_ms + bindparam("served"),
        reliability_bps=bindparam("reliability"),
    )
)


def register(tx: Tx, owner_id: str, known: GpuRow | None, spec: GpuSpec, *, here: bool) -> GpuRow:
    """Writes a listing, `known` or new. `here`: its miner is registered and works."""
    said: dict[str, Any] = {
        **{name: getattr(spec, name) for name in SAID if name not in ("model_key", "capabilities")},
        "model_key": model_key(spec.model),
        "capabilities": json.dumps(spec.capabilities),
    }
    free = "available" if here else "offline"
    if known is not None:
        after = "booked" if known.booking_id else free
        tx.run(CHANGE, gpu=known.id, now=tx.now_ms, after=after, **{f"new_{k}": v for k, v in said.items()})
        return locked(tx, known.id)
    gpu_id = new_id(tx.now_ms)
    tx.run(
        INSERT_GPU,
        id=gpu_id,
        owner_id=owner_id,
        state=free,
        booking_id="",
        bookings=0,
        promised_ms=0,
        served_ms=0,
        reliability_bps=PRIOR_RELIABILITY_BPS,
        reviews=0,
        stars=0,
        rating_millis=PRIOR_RATING_MILLIS,
        registered_at_ms=tx.now_ms,
        updated_at_ms=tx.now_ms,
        **said,
    )
    return locked(tx, gpu_id)


def get(tx: Tx, gpu_id: str) -> GpuRow | None:
    row: GpuRow | None = tx.one(SELECT_GPU, gpu=gpu_id)
    return row


def locked(tx: Tx, gpu_id: str) -> GpuRow:
    """The GPU, kept from changing until this transaction ends. Raises GpuNotFound."""
    row: GpuRow | None = tx.one(LOCK_GPU, gpu=gpu_id)
    if row is None:
        raise GpuNotFound(gpu_id=gpu_id)
    return row


def of_miner(tx: Tx, miner_id: str) -> GpuRow | None:
    """The listing that names this miner; a miner has one at most."""
    row: GpuRow | None = tx.one(SELECT_OF_MINER, miner=miner_id)
    return row


def has_room(tx: Tx, owner_id: str) -> bool:
    """Whether the account may list one GPU more."""
    return bool(tx.one(COUNT_OF_OWNER, owner=owner_id, most=MAX_GPUS).count < MAX_GPUS)


def count_booking(tx: Tx, gpu: GpuRow) -> None:
    """One more booking was made of it."""
    tx.run(COUNT_BOOKING, gpu=gpu.id)


def begin(tx: Tx, gpu_id: str, booking_id: str) -> bool:
    """The booking has the GPU from now on. False where the one before it has not ended yet."""
    return tx.run(BEGIN, gpu=gpu_id, booking=booking_id) == 1


def end(tx: Tx, gpu_id: str, booking_id: str, *, here: bool) -> None:
    """The booking has the GPU no more, if it had. `here`: the GPU's miner is, so that another may book it."""
    tx.run(END, gpu=gpu_id, booking=booking_id, after="available" if here else "offline")


def set_served(tx: Tx, gpu: GpuRow, promised_ms: int, served_ms: int) -> None:
    """So much more time was promised to a booking, and so much of it kept."""
    promised, served = gpu.promised_ms + promised_ms, gpu.served_ms + served_ms
    tx.run(
        SET_SERVED,
        gpu=gpu.id,
        promised=promised_ms,
        served=served_ms,
        reliability=reliability_bps(promised, served),
    )


def reliability_bps(promised_ms: int, served_ms: int) -> int:
    """The part of the promised time that was kept, in basis points, weighted with PRIOR_MS; rounded down."""
    kept = served_ms * BPS + PRIOR_MS * PRIOR_RELIABILITY_BPS
    return kept // (promised_ms + PRIOR_MS)
