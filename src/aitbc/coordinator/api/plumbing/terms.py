"""What the coordinator's connections are held to: its settings, its dialects' error bodies, its metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from aitbc.connections.limits import Answer, Bounds, Why
from aitbc.coordinator.api.plumbing.dialect import Dialect
from aitbc.coordinator.config import Settings
from aitbc.coordinator.errors import AitbcError, HeadTooLarge, InvalidRequest, RequestTimeout, ServerBusy
from aitbc.coordinator.metrics import CONNECTIONS, REFUSED
from aitbc.core.ids import new_id

MAX_HEADERS = 128


class CoordinatorTerms:
    """`connections.limits.Terms` of one coordinator."""

    always_open = (b"/health", b"/api/health", b"/metrics", b"/api/metrics")

    def __init__(self, settings: Settings, dialect_at: Callable[[str], Dialect]) -> None:
        self._dialect_at = dialect_at
        self.bounds = Bounds(
            connections=settings.max_connections,
            connections_of_peer=settings.max_connections_per_address,
            head_bytes=settings.max_head_bytes,
            headers=MAX_HEADERS,
            pipelined=settings.max_pipelined,
            head_s=settings.head_timeout_s,
            body_s=settings.body_timeout_s,
            answer_s=settings.answer_timeout_s,
            idle_s=settings.keep_alive_s,
            rate=settings.min_bytes_per_s,
            discarded_bytes=settings.max_batch_body_bytes,
            unsent_bytes=settings.max_unsent_bytes,
        )
        self.trusted: Any = ProxyHeadersMiddleware(_nowhere, settings.trusted_proxies).trusted_hosts

    def answer(self, why: Why, target: bytes) -> Answer:
        """The error body of the dialect that the target is of."""
        dialect = self._dialect_at(unquote(target.partition(b"?")[0].decode("latin-1")))
        error = self._error(why)
        request_id = new_id()
        retry = ((b"retry-after", b"1"),) if error.status == 503 else ()
        return Answer(
            error.status,
            (
                (b"content-type", dialect.media_type.encode()),
                (b"cache-control", b"no-store"),
                (b"x-request-id", request_id.encode()),
                *retry,
            ),
            dialect.error_body(error, request_id),
        )

    def _error(self, why: Why) -> AitbcError:
        if why is Why.HEAD_SIZE:
            return HeadTooLarge(max_head_bytes=self.bounds.head_bytes, max_headers=MAX_HEADERS)
        if why is Why.TIME:
            return RequestTimeout()
        if why is Why.BUSY:
            return ServerBusy()
        return InvalidRequest(
            "This is not HTTP/1.1." if why is Why.MALFORMED else "The body is mostly framing."
        )

    def opened(self, connections: int) -> None:
        CONNECTIONS.set(connections)

    def refused(self, reason: str) -> None:
        REFUSED.labels(reason).inc()


async def _nowhere(*_: Any) -> None:
    """No application: only the list of proxies is wanted."""
