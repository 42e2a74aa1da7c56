"""The coordinator's application: routes, their OpenAPI document, and the gateway in front of them."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from aitbc import __version__
from aitbc.coordinator.api import docs, governance, system
from aitbc.coordinator.api.account import exchange, payments, statements, users
from aitbc.coordinator.api.chain import explorer, log, rpc
from aitbc.coordinator.api.dialects.by_resource import jobs, mining, records
from aitbc.coordinator.api.dialects.by_role import client, miner
from aitbc.coordinator.api.market import bookings, gpus, reviews
from aitbc.coordinator.api.native.dialect import NATIVE
from aitbc.coordinator.api.plumbing.dialect import Dialect
from aitbc.coordinator.api.plumbing.gateway import Gateway
from aitbc.coordinator.api.plumbing.routing import Router, off_the_loop
from aitbc.coordinator.errors import AitbcError, InternalError, InvalidRequest, MethodNotAllowed, NotFound
from aitbc.coordinator.metrics import WRITER_BATCH_SIZE
from aitbc.coordinator.process import background
from aitbc.coordinator.process.runtime import Runtime

ROUTERS: tuple[Router, ...] = (
    system.router,
    jobs.router,
    mining.router,
    records.router,
    client.router,
    miner.router,
    payments.router,
    statements.router,
    exchange.router,
    users.router,
    gpus.router,
    bookings.router,
    reviews.router,
    governance.router,
    rpc.router,
    explorer.router,
    log.router,
    docs.router,
)


DESCRIPTION = """A marketplace for AI compute: every answer comes with a receipt that anyone can check.

Send an API key as `X-Api-Key` or `Authorization: Bearer`, a wallet's session as `X-Session-Token`.
Money is in AIT, times are UTC. Every error has
the same body with a stable code. The same API is served at `/` and at `/api`."""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


class _Application(FastAPI):
    """Whose document is of the routers' endpoints, which it does not serve itself: the gateway does."""

    routers: tuple[Router, ...] = ()

    def openapi(self) -> dict[str, Any]:
        """FastAPI's document without its 422: here an invalid request is a 400 in the common body."""
        if self.openapi_schema is None:
            document = get_openapi(
                title=self.title,
                version=self.version,
                description=self.description,
                servers=self.servers,
                routes=[*(route for one in self.routers for route in one.documented()), *self.routes],
                separate_input_output_schemas=False,
            )
            for operations in document["paths"].values():
                for operation in operations.values():
                    operation["responses"].pop("422", None)
            for name in ("HTTPValidationError", "ValidationError"):
                document["components"]["schemas"].pop(name, None)
            self.openapi_schema = document
        return self.openapi_schema


def create_app(runtime: Runtime, routers: Iterable[Router] = ROUTERS) -> Gateway:
    """The ASGI application over an opened runtime. Its lifespan starts and stops the runtime."""
    app = _Application(
        title="AITBC Coordinator API",
        version=__version__,
        description=DESCRIPTION,
        servers=[{"url": "/", "description": "Here"}, {"url": "/api", "description": "Under /api"}],
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=_lifespan(runtime),
        exception_handlers={
            HTTPException: _http_error,
            AitbcError: _aitbc_error,
            Exception: _unexpected_error,
        },
    )
    app.routers = (*routers, _document(app))
    return Gateway(app, runtime, (route for one in app.routers for route in one.routes), NATIVE)


def _lifespan(runtime: Runtime) -> Lifespan:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        runtime.db.backend.on_batch = WRITER_BATCH_SIZE.observe
        await runtime.start()
        loops = background.start(runtime)
        try:
            yield
        finally:
            runtime.begin_shutdown()
            await background.stop(loops)
            await runtime.stop()

    return lifespan


def _document(app: FastAPI) -> Router:
    """The route of the OpenAPI document, which is made when it is first asked for."""
    router = Router(NATIVE, include_in_schema=False)
    made: list[bytes] = []

    @router.get("/openapi.json")
    async def openapi_json() -> Response:
        """The OpenAPI document of all operations."""
        if not made:  # it takes half a second
            made.append(await off_the_loop(lambda: orjson.dumps(app.openapi())))
        return Response(made[0], media_type="application/json")

    return router


async def _http_error(request: Request, error: Exception) -> Response:
    """What FastAPI itself refuses: an unknown path, or a method of a mounted application."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers) if error.headers else None
    found: AitbcError
    if error.status_code == 404:
        found = NotFound()
    elif error.status_code == 405:
        found = MethodNotAllowed(method=request.method)
    elif error.status_code < 500:
        found = InvalidRequest()
    else:
        found = InternalError()
    return _refusal(request, found, headers)


async def _aitbc_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AitbcError)
    return _refusal(request, error)


async def _unexpected_error(request: Request, error: Exception) -> Response:
    """The gateway logs the cause."""
    return _refusal(request, InternalError())


def _refusal(request: Request, error: AitbcError, headers: dict[str, str] | None = None) -> Response:
    dialect: Dialect = request.state.dialect  # both are of the gateway
    return dialect.refusal(error, request.state.request_id, headers)
