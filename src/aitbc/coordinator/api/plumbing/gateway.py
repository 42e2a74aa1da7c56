"""The outermost ASGI layer: one pass over each request for everything that all of them need.

The /api prefix, request ids, finding the endpoint, the error body, security headers, metrics and the access
log live in one place because each layer of ASGI middleware would cost every request a call, a closure and a
wrapped `send`. What is not one of our endpoints (a mounted page, an unknown path) goes on to FastAPI.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any

import structlog
from fastapi import FastAPI
from prometheus_client import Counter, Histogram
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from aitbc.coordinator.api.plumbing.auth import Access
from aitbc.coordinator.api.plumbing.dialect import Dialect
from aitbc.coordinator.api.plumbing.errors import ClientGone
from aitbc.coordinator.api.plumbing.polling import Polls
from aitbc.coordinator.api.plumbing.requests import ApiRequest, HeldBodies
from aitbc.coordinator.api.plumbing.routing import Endpoint, RouteTable
from aitbc.coordinator.errors import AitbcError, BodyTooLarge, InternalError, MethodNotAllowed, ServerBusy
from aitbc.coordinator.metrics import API_REQUEST_DURATION, API_REQUESTS
from aitbc.coordinator.process.runtime import Runtime
from aitbc.core.ids import new_id

log = structlog.get_logger("aitbc.access")

OTHER_PATH = "other"
"""The path label of requests that no endpoint took: a raw path would let callers invent labels."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_COMMON_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
_NO_STORE = (b"cache-control", b"no-store")

Observed = tuple[Counter, Histogram]


class Gateway:
    """The ASGI application of a coordinator: `endpoints`, and what `app` serves beside them.

    `usual`: the dialect of what lies in no other's paths.
    """

    def __init__(self, app: FastAPI, runtime: Runtime, endpoints: Iterable[Endpoint], usual: Dialect) -> None:
        self.app = app
        self.runtime = runtime
        self.access = Access(runtime)
        self.polls = Polls(runtime)
        self.bodies = HeldBodies(runtime.settings.max_bodies_bytes)
        self._routes = RouteTable(endpoints, usual)
        self._observed: dict[tuple[str, str, int], Observed] = {}
        self._log_all = runtime.settings.log_level == "debug"
        self._slow_s = runtime.settings.slow_request_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limits = scope.get("aitbc.limits")  # where a trusted proxy is the peer: its callers are counted here
        client = scope.get("client")
        if limits is None or client is None or client[0] in limits.trusted:
            await self._serve(scope, receive, send)
        elif limits.enter_forwarded(client[0]):
            try:
                await self._serve(scope, receive, send)
            finally:
                limits.leave_forwarded(client[0])
        else:
            refusal = self.dialect_at(scope["path"]).refusal(ServerBusy(), new_id())
            await refusal(scope, receive, send)

    def dialect_at(self, path: str) -> Dialect:
        """The dialect in which a request of this path is refused by whoever does not serve it."""
        return self._routes.dialect_at(path.removeprefix("/api"))

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        path: str = scope["path"]
        if path.startswith("/api/"):
            path = path[4:]
            scope["path"] = path
            scope["raw_path"] = path.encode()
        found = self._routes.find(path)
        request = ApiRequest(scope, receive, self.runtime, "")
        given = request.fields.get(b"x-request-id")
        request.request_id = (
            given.decode() if given is not None and _REQUEST_ID.fullmatch(given) is not None else new_id()
        )
        if found is None:
            await self._elsewhere(request, send, started)
            return
        scope["aitbc.access"] = self.access
        scope["aitbc.polls"] = self.polls
        scope["aitbc.bodies"] = self.bodies
        method: str = scope["method"]
        chosen = found[0].get(method) or (found[0].get("GET") if method == "HEAD" else None)
        if chosen is None:
            # Whatever can be read can be asked for its headers alone.
            allowed = ", ".join(sorted({*found[0], *(("HEAD",) if "GET" in found[0] else ())}))
            error = MethodNotAllowed(method=method if method in _KNOWN_METHODS else "that method")
            dialect = self._routes.dialect_at(path)
            response = dialect.refusal(error, request.request_id, {"Allow": allowed})
            await self._answer(request, response, send, OTHER_PATH, started)
            return
        endpoint, names = chosen
        try:
            response = await endpoint.respond(request, dict(zip(names, found[1], strict=True)))
        except AitbcError as error:
            response = endpoint.dialect.refusal(error, request.request_id)
        except ClientGone:
            self._observe(method, endpoint.path, 499, started, request)
            return
        except Exception as error:  # noqa: BLE001 - whatever broke: the caller gets an answer, the log the cause
            self._log_unexpected(error, request, endpoint.path)
            response = endpoint.dialect.refusal(InternalError(), request.request_id)
        finally:
            if request.held_bytes:
                self.bodies.give_back(request.caller, request.held_bytes)
        await self._answer(request, response, send, endpoint.path, started)

    async def _answer(
        self, request: ApiRequest, response: Response, send: Send, path: str, started: float
    ) -> None:
        headers = self._headers(response.raw_headers, request)
        if type(response) is Response:
            # Recorded first: once the body is sent the caller may look at /metrics.
            self._observe(request.scope["method"], path, response.status_code, started, request)
            await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
            await send({"type": "http.response.body", "body": response.body})
            return
        response.raw_headers = headers
        await response(request.scope, request.receive, send)
        self._observe(request.scope["method"], path, response.status_code, started, request)

    async def _elsewhere(self, request: ApiRequest, send: Send, started: float) -> None:
        """Hands the request to FastAPI: mounts, and the 404 of everything unknown."""
        status = 500
        begun = False
        limit = self.runtime.settings.max_body_bytes
        read = 0

        async def receive_on() -> Message:
            nonlocal read
            message = await request._receive()
            read += len(message.get("body", b""))
            if read > limit:
                raise BodyTooLarge(max_body_bytes=limit)
            return message

        async def send_on(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                begun = True
                status = message["status"]
                message = {**message, "headers": self._headers(message["headers"], request)}
            await send(message)

        dialect = self._routes.dialect_at(request.scope["path"])
        request.scope.setdefault("state", {}).update(request_id=request.request_id, dialect=dialect)
        try:
            request.check_declared(limit)
            await self.app(request.scope, receive_on, send_on)
        except BodyTooLarge as error:
            if not begun:
                await dialect.refusal(error, request.request_id)(request.scope, receive_on, send_on)
        except Exception as error:  # noqa: BLE001 - as above; FastAPI re-raises what it has answered
            self._log_unexpected(error, request, OTHER_PATH)
            if not begun:
                refusal = dialect.refusal(InternalError(), request.request_id)
                await refusal(request.scope, receive_on, send_on)
        self._observe(request.scope["method"], OTHER_PATH, status, started, request)

    def _headers(self, raw: Iterable[tuple[bytes, bytes]], request: ApiRequest) -> list[tuple[bytes, bytes]]:
        headers = [
            *raw,
            *_COMMON_HEADERS,
            (b"x-request-id", request.request_id.encode()),
            *request.limit_headers,
        ]
        if not any(name == b"cache-control" for name, _ in headers):
            headers.append(_NO_STORE)
        return headers

    @staticmethod
    def _log_unexpected(error: Exception, request: ApiRequest, path: str) -> None:
        log.error(
            "request_failed",
            request_id=request.request_id,
            method=request.scope["method"],
            path=path,
            exc_info=error,
        )

    def _observe(self, method: str, path: str, status: int, started: float, request: ApiRequest) -> None:
        took_s = time.perf_counter() - started - request.waited_s
        key = (method, path, status)
        observed = self._observed.get(key)
        if observed is None:
            label = method if method in _KNOWN_METHODS else "other"
            observed = self._observed.setdefault(
                (method if label == method else label, path, status),
                (
                    API_REQUESTS.labels(label, path, str(status)),
                    API_REQUEST_DURATION.labels(label, path),
                ),
            )
        observed[0].inc()
        observed[1].observe(took_s)
        if status >= 500 or took_s > self._slow_s:
            self._log("info", method, path, status, took_s, request)
        elif self._log_all:
            self._log("debug", method, path, status, took_s, request)

    @staticmethod
    def _log(level: str, method: str, path: str, status: int, took_s: float, request: ApiRequest) -> None:
        fields: dict[str, Any] = {
            "request_id": request.request_id,
            "method": method,
            "path": path,
            "status": status,
            "took_ms": round(took_s * 1000, 1),
        }
        getattr(log, level)("request", **fields)
