"""From GPUs and bookings to the JSON that goes out."""

import json
from collections.abc import Sequence

from aitbc.coordinator.api.native.amounts import ait
from aitbc.coordinator.api.schemas import market as schemas
from aitbc.coordinator.flows.views.gpus import Order
from aitbc.coordinator.marketplace.pricing import ModelPrices
from aitbc.coordinator.marketplace.reviews import EDITABLE_MS
from aitbc.coordinator.marketplace.rows import GpuRow, ReviewRow
from aitbc.core.clock import rfc3339
from aitbc.core.rental import HOUR_MS

MB_OF_GB = 1024


def gpu_json(row: GpuRow) -> schemas.Gpu:
    """A GPU as everybody sees it."""
    return {
        "gpu_id": row.id,
        "id": row.id,
        "owner": row.owner_id,
        "miner_id": row.miner_id or None,
        "model": row.model,
        "memory_gb": row.memory_mb / MB_OF_GB,
        "count": row.cards,
        "cuda_version": row.cuda_version,
        "region": row.region,
        "price_per_hour": ait(row.price_units),
        "capabilities": json.loads(row.capabilities),
        "description": row.description,
        "status": row.state,
        "available": row.state == "available",
        "rating": rating_json(row),
        "reliability": row.reliability_bps / 10_000,
        "bookings": row.bookings,
        "registered_at": rfc3339(row.registered_at_ms),
        "updated_at": rfc3339(row.updated_at_ms),
    }


def rating_json(row: GpuRow) -> schemas.Rating:
    """What a GPU's reviews come to."""
    return {"average": row.rating_millis / 1000, "count": row.reviews}


def review_json(row: ReviewRow) -> schemas.Review:
    """A review as everybody sees it."""
    return {
        "review_id": row.id,
        "id": row.id,
        "gpu_id": row.gpu_id,
        "booking_id": row.booking_id,
        "author": row.author_id,
        "rating": row.stars,
        "text": row.text,
        "created_at": rfc3339(row.created_at_ms),
        "updated_at": rfc3339(row.updated_at_ms),
        "editable_until": rfc3339(row.created_at_ms + EDITABLE_MS),
    }


def pricing_json(model: str, prices: ModelPrices) -> schemas.ModelPricing:
    """What the GPUs of a model cost; `model` as it was asked for."""
    return {
        "model": model,
        "min_price": ait(prices.least_units),
        "max_price": ait(prices.most_units),
        "median_price": ait(prices.median_units),
        "average_price": ait(prices.mean_units),
        "available": prices.available,
        "total": prices.total,
        "utilisation": prices.utilisation_bps / 10_000,
        "suggested_price": ait(prices.suggested_units),
    }


def page_json(rows: Sequence[GpuRow], cursor: str | None) -> schemas.GpuPage:
    """A page of GPUs."""
    return {"gpus": [gpu_json(row) for row in rows], "next_cursor": cursor}


def order_json(order: Order) -> schemas.Order:
    """A booking as its parties see it."""
    row = order.row
    ended = row.ended_at_ms is not None
    return {
        "booking_id": row.id,
        "id": row.id,
        "gpu_id": row.gpu_id,
        "miner_id": row.miner_id,
        "booker": row.booker_id,
        "owner": row.owner_id,
        "status": row.state,
        "detail": order.detail,
        "start_time": rfc3339(row.start_ms),
        "end_time": rfc3339(row.end_ms),
        "duration_hours": round((row.end_ms - row.start_ms) / HOUR_MS, 8),
        "price_per_hour": ait(row.hour_units),
        "total_price": ait(row.held_units),
        "price": ait(order.due_units),
        "fee": ait(row.fee_units) if ended else None,
        "refunded": ait(row.held_units - row.price_units) if ended else None,
        "used_seconds": row.used_ms // 1000,
        "ended_by": row.ended_by or None,
        "ended_at": None if row.ended_at_ms is None else rfc3339(row.ended_at_ms),
        "transfer_id": row.transfer_id or None,
        "created_at": rfc3339(row.created_at_ms),
    }
