"""A GPU, a booking and a review as the database holds them, and what a registration says."""

from typing import NamedTuple

from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.marketplace.models import Booking, Gpu, Review


class GpuRow(NamedTuple):
    """Every column of `gpus`, in the table's order."""

    id: str
    owner_id: str
    miner_id: str
    model: str
    model_key: str
    memory_mb: int
    cards: int
    cuda_version: str
    region: str
    price_units: int
    capabilities: str
    description: str
    state: str
    booking_id: str
    bookings: int
    promised_ms: int
    served_ms: int
    reliability_bps: int
    reviews: int
    stars: int
    rating_millis: int
    registered_at_ms: int
    updated_at_ms: int


class BookingRow(NamedTuple):
    """Every column of `bookings`, in the table's order."""

    id: str
    gpu_id: str
    miner_id: str
    booker_id: str
    owner_id: str
    state: str
    detail: str
    start_ms: int
    end_ms: int
    hour_units: int
    fee_bps: int
    hold_id: str
    held_units: int
    key_id: str
    spend_period_ms: int
    grant_key_id: str
    opened: int
    up_ms: int
    counted_until_ms: int
    used_ms: int
    price_units: int
    fee_units: int
    transfer_id: str
    ended_by: str
    ended_at_ms: int | None
    clearing: int
    created_at_ms: int
    model_key: str


class ReviewRow(NamedTuple):
    """Every column of `reviews`, in the table's order."""

    id: str
    gpu_id: str
    booking_id: str
    author_id: str
    stars: int
    created_at_ms: int
    updated_at_ms: int
    text: str


class GpuSpec(NamedTuple):
    """What an owner says of its GPU. `memory_mb` of one card; `price_units` per hour, of all cards.

    `gpu_id`: the listing that it changes; None: the one of its miner, or a new one.
    """

    gpu_id: str | None
    miner_id: str
    model: str
    memory_mb: int
    cards: int
    cuda_version: str
    region: str
    price_units: int
    capabilities: tuple[str, ...]
    description: str


GPU_COLUMNS = list(table_of(Gpu).columns)
BOOKING_COLUMNS = list(table_of(Booking).columns)
REVIEW_COLUMNS = list(table_of(Review).columns)
for _row, _columns in (
    (GpuRow, GPU_COLUMNS),
    (BookingRow, BOOKING_COLUMNS),
    (ReviewRow, REVIEW_COLUMNS),
):
    if _row._fields != tuple(column.name for column in _columns):
        raise RuntimeError(f"{_row.__name__} and its table have drifted apart")
