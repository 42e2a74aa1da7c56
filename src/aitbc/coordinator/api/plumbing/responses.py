"""What the OpenAPI document says of errors: which statuses an operation has, all with the one body."""

from typing import Any

from aitbc.coordinator.api.schemas.replies import Error

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


def errors(*statuses: int) -> Responses:
    """`responses=` of an operation."""
    return {status: {"model": Error, "description": _DESCRIPTIONS[status]} for status in statuses}


READ = errors(400, 401, 403, 429, 503)
READ_ONE = errors(400, 401, 403, 404, 429, 503)
PUBLIC = errors(400, 503)
PUBLIC_ONE = errors(400, 404, 503)
CREATE = errors(400, 401, 402, 403, 409, 413, 429, 503)
CHANGE = errors(400, 401, 403, 404, 409, 413, 429, 503)

IDEMPOTENT: dict[str, Any] = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
            "description": "Repeating a request with the same key and body gives the first answer again.",
        }
    ]
}
"""`openapi_extra=` of an operation that takes an Idempotency-Key."""
