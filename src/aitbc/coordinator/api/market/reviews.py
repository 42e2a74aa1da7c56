"""What bookers say of GPUs, and what the GPUs of a model cost."""

from functools import partial
from typing import Annotated

import orjson
from fastapi import Query
from starlette.responses import Response

from aitbc.coordinator.api.market.render import pricing_json, rating_json, review_json
from aitbc.coordinator.api.native.dialect import CHANGE, IDEMPOTENT, NATIVE, PUBLIC_ONE
from aitbc.coordinator.api.native.render import reply
from aitbc.coordinator.api.plumbing.auth import Client
from aitbc.coordinator.api.plumbing.once import Form, perform
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import Router
from aitbc.coordinator.api.schemas import market as schemas
from aitbc.coordinator.flows.acts import gpu_review
from aitbc.coordinator.flows.views import gpus
from aitbc.coordinator.marketplace.rows import ReviewRow

router = Router(NATIVE, tags=["Marketplace"])


@router.get(
    "/v1/marketplace/gpu/{gpu_id}/reviews",
    summary="Reviews of a GPU",
    response_model=schemas.ReviewPage,
    responses=PUBLIC_ONE,
)
async def list_reviews(
    request: ApiRequest, gpu_id: str, query: Annotated[schemas.ReviewList, Query()]
) -> Response:
    """Public, newest first, with the rating that they come to."""
    found = await request.runtime.db.read(gpus.reviews_of, gpu_id, query.cursor, query.limit)
    cursor = found.rows[-1].id if len(found.rows) == query.limit else None
    page = schemas.ReviewPage(
        gpu_id=found.gpu.id,
        rating=rating_json(found.gpu),
        reviews=[review_json(row) for row in found.rows],
        next_cursor=cursor,
    )
    return reply(page)


@router.post(
    "/v1/marketplace/gpu/{gpu_id}/reviews",
    summary="Add a review",
    status_code=201,
    response_model=schemas.Review,
    responses=CHANGE,
    openapi_extra=IDEMPOTENT,
)
async def add_review(
    request: ApiRequest, principal: Client, gpu_id: str, body: schemas.ReviewGpu
) -> Response:
    """Of a booking of yours that has ended and was used, one of each. Posted anew within a week, it takes the place of
    the one before."""
    act = partial(
        gpu_review.review,
        principal=principal,
        gpu_id=gpu_id,
        booking_id=body.booking_id,
        stars=body.rating,
        text=body.text,
    )
    return await perform(request, principal, act, Form(201, _body))


def _body(row: ReviewRow) -> bytes:
    return orjson.dumps(review_json(row))


@router.get(
    "/v1/marketplace/pricing/{model}",
    summary="Pricing for a GPU model",
    response_model=schemas.ModelPricing,
    responses=PUBLIC_ONE,
)
async def model_pricing(request: ApiRequest, model: str) -> Response:
    """Public. The model however it is written: "RTX 4090" finds "NVIDIA GeForce RTX 4090"."""
    return reply(pricing_json(model, await request.runtime.db.read(gpus.pricing, model)))
