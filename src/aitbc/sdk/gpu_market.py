"""What bookers say of GPUs, and what the GPUs of a model cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from aitbc.sdk.answers import id_path
from aitbc.sdk.fields import Fields
from aitbc.sdk.transport import Answer, Call, Flow, send


@dataclass(frozen=True)
class GpuReview:
    """What a booker says of a GPU: `rating` of 1 to 5 stars. Its author may post it anew until `editable_until`."""

    review_id: str
    gpu_id: str
    booking_id: str
    author: str
    rating: int
    text: str
    created_at: datetime
    updated_at: datetime
    editable_until: datetime
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> GpuReview:
        get = Fields("review", data)
        return cls(
            review_id=get.text("review_id"),
            gpu_id=get.text("gpu_id"),
            booking_id=get.text("booking_id"),
            author=get.text("author"),
            rating=get.integer("rating"),
            text=get.text("text"),
            created_at=get.time("created_at"),
            updated_at=get.time("updated_at"),
            editable_until=get.time("editable_until"),
            raw=get.data,
        )


@dataclass(frozen=True)
class GpuReviewPage:
    """A page of reviews, newest first; `rating` is the prior-weighted mean of all `count`, in stars."""

    items: tuple[GpuReview, ...]
    rating: float
    count: int
    next_cursor: str | None


@dataclass(frozen=True)
class GpuPricing:
    """What an hour of a GPU model costs, Decimal in AIT. `utilisation`: of the last 24 hours, 0 to 1."""

    model: str
    min_price: Decimal
    max_price: Decimal
    median_price: Decimal
    average_price: Decimal
    suggested_price: Decimal
    available: int
    total: int
    utilisation: float
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> GpuPricing:
        get = Fields("pricing", data)
        return cls(
            model=get.text("model"),
            min_price=get.money("min_price"),
            max_price=get.money("max_price"),
            median_price=get.money("median_price"),
            average_price=get.money("average_price"),
            suggested_price=get.money("suggested_price"),
            available=get.integer("available"),
            total=get.integer("total"),
            utilisation=get.opt_number("utilisation") or 0.0,
            raw=get.data,
        )


def review_gpu(
    gpu_id: str,
    rating: int,
    text: str = "",
    *,
    booking_id: str | None = None,
    idempotency_key: str | None = None,
) -> Flow[GpuReview]:
    """Say how a GPU was that you booked, 1 to 5 stars; again within a week, it takes the place of what you said.

    `booking_id` left out: your newest booking of it that has ended and was used. Raises `Forbidden` where you never
    booked it, and `Conflict` for a booking that has not ended or was not used, and after a week.
    """
    body = {"rating": rating, "text": text, "booking_id": booking_id}
    return send(
        Call(
            "POST",
            id_path("/v1/marketplace/gpu/{}/reviews", gpu_id),
            lambda answer: GpuReview.from_json(answer.data),
            body=body,
            creates=True,
            idempotency_key=idempotency_key,
        )
    )


def gpu_reviews(gpu_id: str, *, limit: int = 20, cursor: str | None = None) -> Flow[GpuReviewPage]:
    """What is said of a GPU, newest first."""
    query = {"limit": limit, "cursor": cursor}
    return send(Call("GET", id_path("/v1/marketplace/gpu/{}/reviews", gpu_id), _reviews, query=query))


def gpu_pricing(model: str) -> Flow[GpuPricing]:
    """What GPUs of a model cost, however its name is written. Raises `NotFound` where none is listed."""
    path = id_path("/v1/marketplace/pricing/{}", model)
    return send(Call("GET", path, lambda answer: GpuPricing.from_json(answer.data)))


def _reviews(answer: Answer) -> GpuReviewPage:
    get = Fields("reviews", answer.data)
    rating = Fields("rating", get.mapping("rating"))
    return GpuReviewPage(
        tuple(GpuReview.from_json(one) for one in get.items("reviews") or ()),
        rating.opt_number("average") or 0.0,
        rating.integer("count"),
        get.opt_text("next_cursor"),
    )
