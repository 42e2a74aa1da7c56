"""What is wrong with a request, as an error that says which fields."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from aitbc.coordinator.errors import InvalidRequest

MAX_LISTED_ERRORS = 20
"""A validation error names at most this many fields."""


class ClientGone(Exception):
    """The caller closed the connection before its answer was ready."""


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
