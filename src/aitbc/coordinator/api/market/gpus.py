"""GPUs on offer: /v1/marketplace/gpu."""

from functools import partial
from typing import Annotated

import orjson
from fastapi import Query, Security
from starlette.responses import Response

from aitbc.coordinator.api.market.render import gpu_json, page_json
from aitbc.coordinator.api.native.dialect import CREATE, IDEMPOTENT, NATIVE, PUBLIC, PUBLIC_ONE
from aitbc.coordinator.api.native.render import reply
from aitbc.coordinator.api.plumbing.auth import Auth
from aitbc.coordinator.api.plumbing.once import Form, perform
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import Router
from aitbc.coordinator.api.schemas import market as schemas
from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.errors import InvalidRequest
from aitbc.coordinator.flows.acts import gpu_booking
from aitbc.coordinator.flows.views import gpus
from aitbc.coordinator.marketplace.queries import After, GpuFilter
from aitbc.coordinator.marketplace.rows import GpuRow
from aitbc.core.clock import rfc3339
from aitbc.core.gpu_names import model_key
from aitbc.core.numbers import read_count

router = Router(NATIVE, tags=["Marketplace"])

Owner = Annotated[Principal, Security(Auth("miner", "user"))]
"""A miner key, or a wallet user's session."""


@router.post(
    "/v1/marketplace/gpu/register",
    summary="Register a GPU",
    status_code=201,
    response_model=schemas.Gpu,
    responses={**CREATE, **PUBLIC_ONE},
    openapi_extra=IDEMPOTENT,
)
async def register_gpu(request: ApiRequest, principal: Owner, body: schemas.RegisterGpu) -> Response:
    """Lists a GPU, or changes what is said of one. Bookings that were made keep their price."""
    act = partial(gpu_booking.register, ctx=request.runtime.context, principal=principal, spec=body.to_spec())
    return await perform(request, principal, act, Form(201, _body))


def _body(row: GpuRow) -> bytes:
    return orjson.dumps(gpu_json(row))


@router.get("/v1/marketplace/gpu/list", summary="List GPUs", response_model=schemas.GpuPage, responses=PUBLIC)
async def list_gpus(request: ApiRequest, query: Annotated[schemas.GpuList, Query()]) -> Response:
    """Public. next_cursor names the next page, in the same order."""
    after = None if query.cursor is None else _after(query.cursor, query.sort)
    page = await request.runtime.db.read(gpus.listed, _filter(query), query.sort, query.limit, after)
    beyond = page.next_after
    cursor = None if beyond is None else f"{beyond.value}~{beyond.id}"
    return reply(page_json(page.rows, cursor))


def _filter(query: schemas.GpuList) -> GpuFilter:
    caps = [cap for cap in (query.price, query.max_price) if cap is not None]
    return GpuFilter(
        available=query.available,
        model_key=None if query.model is None else model_key(query.model),
        region=query.region,
        min_memory_mb=None if query.memory is None else int(query.memory * 1024),
        min_price_units=query.min_price,
        max_price_units=min(caps, default=None),
        min_rating_millis=None if query.rating is None else round(query.rating * 1000),
        min_reliability_bps=None if query.reliability is None else round(query.reliability * 10_000),
        owner_id=query.owner,
    )


def _after(cursor: str, sort: str) -> After:
    value, mark, gpu_id = cursor.partition("~")
    number = read_count(value)
    if not mark or "\0" in gpu_id or (number is None and sort != "newest"):
        raise InvalidRequest("The cursor is not one of this list.", field="cursor")
    return After(value if number is None else number, gpu_id)


@router.get(
    "/v1/marketplace/gpu/{gpu_id}",
    summary="GPU details",
    response_model=schemas.GpuDetails,
    responses=PUBLIC_ONE,
)
async def get_gpu(request: ApiRequest, gpu_id: str) -> Response:
    """Public, with the times in which it is booked."""
    found = await request.runtime.db.read(gpus.show, gpu_id)
    busy: list[schemas.Busy] = [{"from": rfc3339(start), "until": rfc3339(end)} for start, end in found.busy]
    return reply(schemas.GpuDetails({**gpu_json(found.row), "booked": busy}))
