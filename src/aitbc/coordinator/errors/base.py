"""What every error is, and those that any feature answers with."""

from __future__ import annotations

from typing import Any, ClassVar


class _Missing(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"


def filled(template: str, details: dict[str, Any]) -> str:
    """The template with the details in it; "?" for one that is not given."""
    return template.format_map(_Missing(details))


class AitbcError(Exception):
    """Base of all errors with a code. `status` is the HTTP status, `details` a JSON-ready dict."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL_ERROR"
    template: ClassVar[str] = "Something went wrong on our side; the request id names it in our logs."

    def __init__(self, message: str | None = None, **details: Any) -> None:
        self.message = filled(self.template, details) if message is None else message
        self.details = details
        super().__init__(self.message)


class InternalError(AitbcError):
    """An unexpected failure. The cause is logged under the request id, never sent."""


class InvalidRequest(AitbcError):
    status = 400
    code = "INVALID_REQUEST"
    template = "The request is not valid."


class Forbidden(AitbcError):
    status = 403
    code = "FORBIDDEN"
    template = "This key may not do that."


class NotFound(AitbcError):
    status = 404
    code = "NOT_FOUND"
    template = "There is nothing here."


class MethodNotAllowed(AitbcError):
    status = 405
    code = "METHOD_NOT_ALLOWED"
    template = "This path does not take {method}."


class IdempotencyConflict(AitbcError):
    status = 409
    code = "IDEMPOTENCY_CONFLICT"
    template = "This Idempotency-Key was used before with another body."


def _all_errors(base: type[AitbcError]) -> list[type[AitbcError]]:
    found = [base]
    for sub in base.__subclasses__():
        found += _all_errors(sub)
    return found


def error_table() -> list[tuple[int, str, str]]:
    """(status, code, message template) of every code, by status then code; the docs list this.

    A class without a code of its own says the same in other words, as where more is known; it has no row.
    """
    coded = [error for error in _all_errors(AitbcError) if "code" in vars(error)]
    rows = {(error.status, error.code, error.template) for error in coded}
    return sorted(rows)
