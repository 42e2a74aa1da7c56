"""Bookings of GPUs: book, release, and the orders that come of it."""

from functools import partial
from typing import Annotated

import orjson
from fastapi import Query
from starlette.responses import Response

from aitbc.coordinator.api.market.render import order_json
from aitbc.coordinator.api.native.amounts import ait
from aitbc.coordinator.api.native.dialect import CHANGE, CREATE, IDEMPOTENT, NATIVE, READ, READ_ONE
from aitbc.coordinator.api.native.render import reply
from aitbc.coordinator.api.plumbing.auth import AnyKey, Client
from aitbc.coordinator.api.plumbing.once import Form, perform
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import Router
from aitbc.coordinator.api.schemas import market as schemas
from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.flows.acts import gpu_booking
from aitbc.coordinator.flows.acts.gpu_booking import Booked, Offer, Wish
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.flows.views import gpus
from aitbc.coordinator.flows.views.gpus import Order
from aitbc.core.clock import rfc3339
from aitbc.core.rental import HOUR_MS

router = Router(NATIVE, tags=["Marketplace"])


@router.post(
    "/v1/marketplace/gpu/{gpu_id}/book",
    summary="Book a GPU for a duration",
    status_code=201,
    response_model=schemas.Booked,
    responses={
        200: {"model": schemas.Booked, "description": "Of a dry run: what it would cost"},
        **CREATE,
        **READ_ONE,
    },
    openapi_extra=IDEMPOTENT,
)
async def book_gpu(request: ApiRequest, principal: Client, gpu_id: str, body: schemas.BookGpu) -> Response:
    """Holds the price of the whole time, and answers with the key that gives access: it is shown this once.

    What is paid in the end is the time in which the machine was there, by the minute; the rest goes back."""
    wish = Wish(gpu_id, body.duration_hours, body.start_time, body.max_price)
    ctx = request.runtime.context
    if body.dry_run:
        offer = await request.runtime.db.read(gpu_booking.quote, ctx, principal, wish)
        return reply(_offer_json(principal, offer))
    act = partial(gpu_booking.book, ctx=ctx, principal=principal, wish=wish)
    form = Form(201, partial(_booked, ctx, True), kept=partial(_booked, ctx, False), secret=True)
    return await perform(request, principal, act, form)


def _booked(ctx: FlowContext, with_key: bool, made: Booked) -> bytes:
    """Of an answer that is repeated the key is no part: only its hash is kept anywhere."""
    row = made.booking
    access: schemas.Access = {
        "api_key": made.key.key if with_key else None,
        "key_id": made.key.key_id,
        "expires_at": rfc3339(row.end_ms),
    }
    shown: schemas.Booked = {
        **order_json(Order(row, row.detail, row.price_units)),
        "access": access,
        "dry_run": False,
    }
    return orjson.dumps(shown)


def _offer_json(principal: Principal, offer: Offer) -> schemas.Booked:
    return {
        "booking_id": "",
        "id": "",
        "gpu_id": offer.gpu.id,
        "miner_id": offer.gpu.miner_id,
        "booker": principal.account_id,
        "owner": offer.gpu.owner_id,
        "status": "active",
        "detail": "waiting",
        "start_time": rfc3339(offer.start_ms),
        "end_time": rfc3339(offer.end_ms),
        "duration_hours": round((offer.end_ms - offer.start_ms) / HOUR_MS, 8),
        "price_per_hour": ait(offer.gpu.price_units),
        "total_price": ait(offer.price_units),
        "price": 0,
        "fee": None,
        "refunded": None,
        "used_seconds": 0,
        "ended_by": None,
        "ended_at": None,
        "transfer_id": None,
        "created_at": rfc3339(offer.start_ms),
        "access": None,
        "dry_run": True,
    }


@router.post(
    "/v1/marketplace/gpu/{gpu_id}/release",
    summary="Release a booked GPU",
    response_model=schemas.Order,
    responses=CHANGE,
)
async def release_gpu(
    request: ApiRequest, principal: AnyKey, gpu_id: str, query: Annotated[schemas.ReleaseGpu, Query()]
) -> Response:
    """For its booker, its owner or an admin. The time that was used is paid, the rest goes back."""
    ctx = request.runtime.context

    def act(tx: Tx) -> Order:
        return gpus.seen(tx, ctx, gpu_booking.release(tx, ctx, principal, gpu_id, query.booking_id))

    return reply(order_json(await request.runtime.db.write(act)))


@router.get("/v1/marketplace/orders", summary="List orders", response_model=schemas.OrderPage, responses=READ)
async def list_orders(
    request: ApiRequest, principal: AnyKey, query: Annotated[schemas.OrderList, Query()]
) -> Response:
    """Your bookings, or those of your GPUs, newest first; everybody's for an admin."""
    found = await request.runtime.db.read(
        gpus.orders,
        request.runtime.context,
        principal,
        as_owner=query.role == "owner",
        gpu_id=query.gpu_id,
        state=query.status,
        before_id=query.cursor,
        limit=query.limit,
    )
    cursor = found[-1].row.id if len(found) == query.limit else None
    return reply(schemas.OrderPage(orders=[order_json(one) for one in found], next_cursor=cursor))


@router.get(
    "/v1/marketplace/orders/{booking_id}",
    summary="One order",
    response_model=schemas.Order,
    responses=READ_ONE,
)
async def get_order(request: ApiRequest, principal: AnyKey, booking_id: str) -> Response:
    """For its booker, its GPU's owner and admins."""
    found = await request.runtime.db.read(gpus.order, request.runtime.context, principal, booking_id)
    return reply(order_json(found))


@router.post(
    "/v1/marketplace/orders/{booking_id}/access",
    summary="A new key for a booking",
    status_code=201,
    response_model=schemas.Access,
    responses=CHANGE,
)
async def new_access(request: ApiRequest, principal: Client, booking_id: str) -> Response:
    """In the place of the one before, which ends: for a booker that lost it. Shown this once."""
    made, booking = await request.runtime.db.write(
        gpu_booking.new_access, principal=principal, booking_id=booking_id
    )
    shown = schemas.Access(api_key=made.key, key_id=made.key_id, expires_at=rfc3339(booking.end_ms))
    return reply(shown, 201)
