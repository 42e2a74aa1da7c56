"""Health, metrics and the OpenAPI document."""

import asyncio

from starlette.responses import Response

from aitbc import __version__
from aitbc.coordinator.api.native.dialect import NATIVE, errors
from aitbc.coordinator.api.native.render import reply
from aitbc.coordinator.api.plumbing import metrics
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import Router
from aitbc.coordinator.api.schemas import replies
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import ShuttingDown, StorageUnavailable
from aitbc.coordinator.parameters import service as parameters

HEALTH_S = 2.0
"""A database that takes longer for one row is not healthy, and whoever asks will not wait."""

router = Router(NATIVE, tags=["System"])


@router.get("/health", summary="Health check", response_model=replies.Health, responses=errors(503))
async def health(request: ApiRequest) -> Response:
    """200 where the database answers within 2 seconds; 503 where it does not, and while the server shuts down."""
    runtime = request.runtime
    if runtime.shutdown.is_set():
        raise ShuttingDown()
    try:
        await asyncio.wait_for(runtime.db.glance(_touch), HEALTH_S)
    except TimeoutError:
        raise StorageUnavailable("The database does not answer.") from None
    return reply(
        replies.Health(
            {
                "status": "ok",
                "version": __version__,
                "database": runtime.db.dialect,
                "chain_id": runtime.settings.chain_id,
                "uptime_s": round(runtime.clock.monotonic() - request.scope["aitbc.access"].started, 1),
                "sealing_stopped": runtime.sealing_stopped or None,
            }
        )
    )


def _touch(tx: Tx) -> None:
    parameters.get(tx, "fee_bps")


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **errors(503)},
)
async def show_metrics(request: ApiRequest) -> Response:
    """For the operator's network: not behind a key, so keep it from the internet at the proxy."""
    gauges: metrics.Gauges = request.scope["aitbc.access"].gauges
    body, media_type = metrics.expose(await gauges.now())
    return Response(body, headers={"Content-Type": media_type})
