"""GPUs by the hour: what is on offer, listing one's own, booking, releasing, and one's orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from aitbc.core.money import ait_number, parse_ait
from aitbc.sdk.answers import id_path
from aitbc.sdk.errors import Conflict
from aitbc.sdk.fields import Fields
from aitbc.sdk.requests import Money
from aitbc.sdk.transport import Answer, Call, Flow, send


@dataclass(frozen=True)
class GpuOffer:
    """A GPU that is let by the hour. Money is Decimal in AIT; `memory_gb` of one card.

    status: available, booked or offline. `booked`: when it is taken, (from, until), where that was asked for.
    """

    gpu_id: str
    owner: str
    miner_id: str | None
    model: str
    memory_gb: float
    count: int
    cuda_version: str
    region: str
    price_per_hour: Decimal
    capabilities: tuple[str, ...]
    description: str
    status: str
    rating: float
    reviews: int
    reliability: float
    booked: tuple[tuple[datetime, datetime], ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> GpuOffer:
        get = Fields("GPU", data)
        rating = Fields("rating", get.mapping("rating"))
        busy = [Fields("booked", one) for one in get.items("booked") or ()]
        return cls(
            gpu_id=get.text("gpu_id"),
            owner=get.text("owner"),
            miner_id=get.opt_text("miner_id"),
            model=get.text("model"),
            memory_gb=get.opt_number("memory_gb") or 0.0,
            count=get.integer("count"),
            cuda_version=get.text("cuda_version"),
            region=get.text("region"),
            price_per_hour=get.money("price_per_hour"),
            capabilities=tuple(str(one) for one in get.items("capabilities") or ()),
            description=get.text("description"),
            status=get.text("status"),
            rating=rating.opt_number("average") or 0.0,
            reviews=rating.integer("count"),
            reliability=get.opt_number("reliability") or 0.0,
            booked=tuple((one.time("from"), one.time("until")) for one in busy),
            raw=get.data,
        )


@dataclass(frozen=True)
class Order:
    """A booking of a GPU. Money is Decimal in AIT; `total_price` is of the whole time, `price` of what was used.

    status: active, completed or cancelled; detail: waiting, running, paused, released, ran_out, cancelled or no_show.
    `api_key`: submits jobs to the GPU and does nothing else; only where it was just made. '' for the `booking_id` of
    a dry run.
    """

    booking_id: str
    gpu_id: str
    miner_id: str
    booker: str
    owner: str
    status: str
    detail: str
    start_time: datetime
    end_time: datetime
    price_per_hour: Decimal
    total_price: Decimal
    price: Decimal
    fee: Decimal | None
    refunded: Decimal | None
    used_seconds: int
    ended_by: str | None
    ended_at: datetime | None
    api_key: str | None = field(default=None, repr=False)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> Order:
        get = Fields("order", data)
        access = get.mapping("access")
        return cls(
            booking_id=get.text("booking_id"),
            gpu_id=get.text("gpu_id"),
            miner_id=get.text("miner_id"),
            booker=get.text("booker"),
            owner=get.text("owner"),
            status=get.text("status"),
            detail=get.text("detail"),
            start_time=get.time("start_time"),
            end_time=get.time("end_time"),
            price_per_hour=get.money("price_per_hour"),
            total_price=get.money("total_price"),
            price=get.money("price"),
            fee=get.opt_money("fee"),
            refunded=get.opt_money("refunded"),
            used_seconds=get.integer("used_seconds"),
            ended_by=get.opt_text("ended_by"),
            ended_at=get.opt_time("ended_at"),
            api_key=None if access is None else Fields("access", access).opt_text("api_key"),
            raw=get.data,
        )


@dataclass(frozen=True)
class GpuPage:
    """A page of GPUs; `next_cursor` names the next one, None for the last."""

    items: tuple[GpuOffer, ...]
    next_cursor: str | None


@dataclass(frozen=True)
class OrderPage:
    """A page of orders, newest first; `next_cursor` names the next one, None for the last."""

    items: tuple[Order, ...]
    next_cursor: str | None


def register_gpu(
    model: str,
    memory_gb: Money,
    price_per_hour: Money,
    *,
    miner_id: str | None = None,
    gpu_id: str | None = None,
    count: int = 1,
    cuda_version: str = "",
    region: str = "",
    capabilities: Sequence[str] = (),
    description: str = "",
    idempotency_key: str | None = None,
) -> Flow[GpuOffer]:
    """List a GPU, or change what is said of one: that of `gpu_id`, else the one of the miner. Without a miner it is
    offline. Raises `Conflict` where it is booked and its miner would change."""
    body = {
        "model": model,
        "memory_gb": float(memory_gb),
        "price_per_hour": ait_number(parse_ait(price_per_hour)),
        "miner_id": miner_id,
        "gpu_id": gpu_id,
        "count": count,
        "cuda_version": cuda_version,
        "region": region,
        "capabilities": list(capabilities),
        "description": description,
    }
    return send(
        Call(
            "POST",
            "/v1/marketplace/gpu/register",
            _gpu,
            body=body,
            creates=True,
            idempotency_key=idempotency_key,
        )
    )


def gpus(
    *,
    available: bool | None = None,
    model: str | None = None,
    region: str | None = None,
    min_price: Money | None = None,
    max_price: Money | None = None,
    memory_gb: float | None = None,
    rating: float | None = None,
    reliability: float | None = None,
    owner: str | None = None,
    sort: str = "price",
    limit: int = 20,
    cursor: str | None = None,
) -> Flow[GpuPage]:
    """GPUs on offer. `model` however it is written; memory, rating and reliability at the least; `sort`: price, memory,
    rating, reliability (a minus turns it round) or newest."""
    query = {
        "available": None if available is None else str(available).lower(),
        "model": model,
        "region": region,
        "min_price": None if min_price is None else str(min_price),
        "max_price": None if max_price is None else str(max_price),
        "memory": memory_gb,
        "rating": rating,
        "reliability": reliability,
        "owner": owner,
        "sort": sort,
        "limit": limit,
        "cursor": cursor,
    }
    return send(Call("GET", "/v1/marketplace/gpu/list", _gpu_page, query=query))


def gpu(gpu_id: str) -> Flow[GpuOffer]:
    """A GPU, with the times in which it is booked."""
    return send(Call("GET", id_path("/v1/marketplace/gpu/{}", gpu_id), _gpu))


def book_gpu(
    gpu_id: str,
    hours: Money,
    *,
    start: datetime | None = None,
    max_price: Money | None = None,
    dry_run: bool = False,
    idempotency_key: str | None = None,
) -> Flow[Order]:
    """Book a GPU: the price of the whole time is held, and `api_key` submits jobs to it alone.

    `start` left out: now. `max_price` for the whole time: above it nothing is booked. `dry_run`: only what it would
    cost. Raises `PaymentRequired`, and `Conflict` where it is offline, booked in that time, or your own.
    """
    body = {
        "duration_hours": float(hours),
        "start_time": None if start is None else start.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "max_price": None if max_price is None else ait_number(parse_ait(max_price)),
        "dry_run": dry_run,
    }
    order = yield from send(
        Call(
            "POST",
            id_path("/v1/marketplace/gpu/{}/book", gpu_id),
            _order,
            body=body,
            creates=not dry_run,
            idempotency_key=None if dry_run else idempotency_key,
        )
    )
    if order.booking_id and order.api_key is None and idempotency_key is None:
        # The answer to an earlier try of this very call was lost, and with it the key, which nobody else has.
        fresh = yield from new_gpu_key(order.booking_id)
        return replace(order, api_key=fresh)
    return order


def new_gpu_key(booking_id: str) -> Flow[str]:
    """A new key for a booking, in the place of the one before, which ends."""
    path = id_path("/v1/marketplace/orders/{}/access", booking_id)
    return send(Call("POST", path, lambda answer: Fields("access", answer.data).text("api_key")))


def release_gpu(gpu_id: str, booking_id: str | None = None) -> Flow[Order]:
    """End a booking now: the time that was used is paid, the rest goes back. Raises `Conflict` where it has ended.

    `booking_id` left out: your next booking of the GPU, or as its owner the one that has it.
    """
    path = id_path("/v1/marketplace/gpu/{}/release", gpu_id)
    try:
        return (yield from send(Call("POST", path, _order, query={"booking_id": booking_id})))
    except Conflict:
        # An earlier try of this very call may have released it: then all is as wished.
        if booking_id is None:
            raise
        found = yield from gpu_order(booking_id)
        if found.detail == "released":
            return found
        raise


def gpu_order(booking_id: str) -> Flow[Order]:
    """One booking, for its booker and its GPU's owner."""
    return send(Call("GET", id_path("/v1/marketplace/orders/{}", booking_id), _order))


def gpu_orders(
    *,
    status: str | None = None,
    as_owner: bool = False,
    gpu_id: str | None = None,
    limit: int = 20,
    cursor: str | None = None,
) -> Flow[OrderPage]:
    """Your bookings, or with `as_owner` those of your GPUs, newest first."""
    query = {
        "status": status,
        "role": "owner" if as_owner else "booker",
        "gpu_id": gpu_id,
        "limit": limit,
        "cursor": cursor,
    }
    return send(Call("GET", "/v1/marketplace/orders", _order_page, query=query))


def _gpu(answer: Answer) -> GpuOffer:
    return GpuOffer.from_json(answer.data)


def _gpu_page(answer: Answer) -> GpuPage:
    get = Fields("GPUs", answer.data)
    return GpuPage(
        tuple(GpuOffer.from_json(one) for one in get.items("gpus") or ()), get.opt_text("next_cursor")
    )


def _order(answer: Answer) -> Order:
    return Order.from_json(answer.data)


def _order_page(answer: Answer) -> OrderPage:
    get = Fields("orders", answer.data)
    return OrderPage(
        tuple(Order.from_json(one) for one in get.items("orders") or ()), get.opt_text("next_cursor")
    )
