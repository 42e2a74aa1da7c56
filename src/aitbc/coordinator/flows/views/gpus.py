"""GPUs, bookings, reviews and prices as they are shown."""

from typing import NamedTuple

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import BookingNotFound, GpuModelNotFound, GpuNotFound
from aitbc.coordinator.flows.shared import rentals
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.marketplace import bookings, gpus, queries, reviews
from aitbc.coordinator.marketplace import pricing as prices
from aitbc.coordinator.marketplace.pricing import ModelPrices
from aitbc.coordinator.marketplace.queries import After, GpuFilter
from aitbc.coordinator.marketplace.rows import BookingRow, GpuRow, ReviewRow
from aitbc.core.gpu_names import model_key


class ListedGpus(NamedTuple):
    """A page of GPUs, and where the next one begins (None: nowhere)."""

    rows: list[GpuRow]
    next_after: After | None


class GpuState(NamedTuple):
    """A GPU, and when it is booked: (start, end) in ms."""

    row: GpuRow
    busy: list[tuple[int, int]]


class GpuReviews(NamedTuple):
    """A page of what is said of a GPU, newest first."""

    gpu: GpuRow
    rows: list[ReviewRow]


class Order(NamedTuple):
    """A booking as its parties see it. `detail` says paused where its machine is away; `due_units` so far."""

    row: BookingRow
    detail: str
    due_units: int


def listed(tx: Tx, wanted: GpuFilter, sort: str, limit: int, after: After | None) -> ListedGpus:
    """A page of the GPUs that fit."""
    rows = queries.listed(tx, wanted, sort, limit, after)
    last = rows[-1] if len(rows) == limit else None
    return ListedGpus(rows, None if last is None else After(queries.sort_value(last, sort), last.id))


def show(tx: Tx, gpu_id: str) -> GpuState:
    """Raises GpuNotFound."""
    row = gpus.get(tx, gpu_id)
    if row is None:
        raise GpuNotFound(gpu_id=gpu_id)
    return GpuState(row, bookings.busy(tx, gpu_id))


def reviews_of(tx: Tx, gpu_id: str, before_id: str | None, limit: int) -> GpuReviews:
    """Raises GpuNotFound."""
    row = gpus.get(tx, gpu_id)
    if row is None:
        raise GpuNotFound(gpu_id=gpu_id)
    return GpuReviews(row, reviews.page(tx, gpu_id, before_id, limit))


def pricing(tx: Tx, model: str) -> ModelPrices:
    """What GPUs of this model cost, however its name is written. Raises GpuModelNotFound."""
    key = model_key(model)
    found = prices.of_model(tx, key) if key else None
    if found is None:
        raise GpuModelNotFound(model=model)
    return found


def orders(
    tx: Tx,
    ctx: FlowContext,
    principal: Principal,
    *,
    as_owner: bool = False,
    gpu_id: str | None = None,
    state: str | None = None,
    before_id: str | None = None,
    limit: int = 20,
) -> list[Order]:
    """The caller's bookings, or those of its GPUs; everybody's for an admin. Newest first."""
    mine = None if principal.is_admin else principal.account_id
    rows = queries.orders(
        tx,
        booker_id=None if as_owner else mine,
        owner_id=mine if as_owner else None,
        gpu_id=gpu_id,
        state=state,
        before_id=before_id,
        limit=limit,
    )
    return [seen(tx, ctx, row) for row in rows]


def order(tx: Tx, ctx: FlowContext, principal: Principal, booking_id: str) -> Order:
    """One booking for its booker, its GPU's owner or an admin. Raises BookingNotFound for anybody else."""
    row = bookings.get(tx, booking_id)
    if row is None or not (principal.is_admin or principal.account_id in (row.booker_id, row.owner_id)):
        raise BookingNotFound(booking_id=booking_id)
    return seen(tx, ctx, row)


def seen(tx: Tx, ctx: FlowContext, row: BookingRow) -> Order:
    """The booking as it stands now."""
    if row.state != "active":
        return Order(row, row.detail, row.price_units)
    late_ms = tx.now_ms - row.counted_until_ms - ctx.grace_ms
    detail = "paused" if row.detail == "running" and late_ms > 0 and row.end_ms > tx.now_ms else row.detail
    return Order(row, detail, rentals.due_units(row))
