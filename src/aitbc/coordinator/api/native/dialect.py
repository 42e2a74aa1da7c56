"""The API's own dialect: what both documented interfaces, and all that is served beside them, have in common."""

from typing import Any

import orjson

from aitbc.coordinator.api.native.render import error_json
from aitbc.coordinator.api.plumbing.dialect import Dialect, Responses
from aitbc.coordinator.api.schemas.replies import Error
from aitbc.coordinator.errors import AitbcError

__all__ = [
    "CHANGE",
    "CREATE",
    "IDEMPOTENT",
    "NATIVE",
    "PUBLIC",
    "PUBLIC_ONE",
    "READ",
    "READ_ONE",
    "Responses",
    "errors",
]


def error_body(error: AitbcError, request_id: str) -> bytes:
    """The JSON body of an error, as both documents have it."""
    body: Error = {
        "detail": error.message,
        "error_code": error.code,
        "error": error_json(error),
        "request_id": request_id,
    }
    return orjson.dumps(body, default=str)


NATIVE = Dialect(error_body, Error)
errors = NATIVE.errors

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
