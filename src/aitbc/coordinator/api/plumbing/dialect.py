"""What makes a dialect: the words in which a family of clients is spoken to, wherever a request goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from aitbc.coordinator.errors import AitbcError

_DESCRIPTIONS = {
    400: "Invalid request",
    401: "Authentication required",
    402: "Not enough money, or the key's spending limit would be exceeded",
    403: "The key may not do that",
    404: "Resource not found",
    409: "The resource's state does not allow it",
    413: "Request body too large",
    429: "Too many requests, or too many jobs waiting",
    503: "The database is not available, the log is not served (LOG_REFUSED), or the server is shutting down",
}

Responses = dict[int | str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Dialect:
    """One of the ways in which the API is spoken. Each router is of one, and with it its routes.

    Whatever refuses a request of such a route, or a path that lies below such routes alone, says so in
    `error_body(error, request_id)`: its handler, the limits, the check of keys, the reading of bodies, the
    connection. What a success looks like its handlers say themselves. `error_form` is what the OpenAPI document
    says of the error body; the status and the headers of an error are HTTP's, and the same in all dialects.
    """

    error_body: Callable[[AitbcError, str], bytes]
    error_form: Any
    media_type: str = "application/json"

    def refusal(self, error: AitbcError, request_id: str, headers: dict[str, str] | None = None) -> Response:
        """An error as an HTTP answer, with Retry-After where the error says when to come again."""
        extra = dict(headers or {})
        if error.status == 401:
            extra["WWW-Authenticate"] = 'Bearer realm="aitbc"'
        if "retry_after_s" in error.details:
            extra["Retry-After"] = str(error.details["retry_after_s"])
        elif error.status in (429, 503):
            extra["Retry-After"] = "1"
        body = self.error_body(error, request_id)
        return Response(body, error.status, headers=extra, media_type=self.media_type)

    def errors(self, *statuses: int) -> Responses:
        """`responses=` of an operation: which errors it has."""
        return {
            status: {"model": self.error_form, "description": _DESCRIPTIONS[status]} for status in statuses
        }
