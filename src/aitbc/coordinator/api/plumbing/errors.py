"""The one error body, and how anything that goes wrong becomes it."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import ValidationError
from starlette.responses import Response

from aitbc.coordinator.api.render import details_json
from aitbc.coordinator.errors import AitbcError, InvalidRequest

MAX_LISTED_ERRORS = 20
"""A validation error names at most this many fields."""


class ClientGone(Exception):
    """The caller closed the connection before its answer was ready."""


def error_body(error: AitbcError, request_id: str) -> bytes:
    """The JSON body of an error, as both documents have it."""
    return orjson.dumps(
        {
            "detail": error.message,
            "error_code": error.code,
            "error": {"code": error.code, "message": error.message, "details": details_json(error)},
            "request_id": request_id,
        },
        default=str,
    )


def error_response(error: AitbcError, request_id: str, headers: dict[str, str] | None = None) -> Response:
    """An error as an HTTP answer, with Retry-After where the error says when to come again."""
    extra = dict(headers or {})
    if error.status == 401:
        extra["WWW-Authenticate"] = 'Bearer realm="aitbc"'
    if "retry_after_s" in error.details:
        extra["Retry-After"] = str(error.details["retry_after_s"])
    elif error.status in (429, 503):
        extra["Retry-After"] = "1"
    return Response(error_body(error, request_id), error.status, headers=extra, media_type="application/json")


def invalid_fields(error: ValidationError, where: str = "") -> InvalidRequest:
    """Pydantic's complaints as INVALID_REQUEST: which fields, and what each should be (never what it was)."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    return field_errors(
        [
            (where + ".".join(map(str, item["loc"])), item["msg"].removeprefix("Value error, "))
            for item in found
        ]
    )


def field_errors(found: list[tuple[str, str]]) -> InvalidRequest:
    """INVALID_REQUEST over (field, what it should be) pairs; an empty field is the body as a whole."""
    listed: list[dict[str, Any]] = [
        {"field": field, "message": message} for field, message in found[:MAX_LISTED_ERRORS]
    ]
    first = f"{found[0][0]}: {found[0][1]}" if found[0][0] else found[0][1]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return InvalidRequest(f"The request is not valid: {first}{more}", fields=listed)
