"""What the SDK raises. Every error carries `code`, `message`, `details` and, where one arrived, `request_id`.

`AitbcClientError`
├── `ApiError`                 the coordinator answered with an error
│   ├── `InvalidRequest`       400, 405, 413
│   ├── `AuthenticationError`  401
│   ├── `PermissionDenied`     403
│   ├── `PaymentRequired`      402: too little money, or the key's limit is reached
│   ├── `NotFound`             404
│   ├── `Conflict`             409
│   ├── `RateLimited`          429, with `retry_after_s`
│   └── `ServerError`          5xx
├── `CoordinatorUnreachable`   no answer at all (code `UNREACHABLE`)
├── `UnexpectedAnswer`         an answer that is not this API's (code `UNEXPECTED_ANSWER`)
├── `WaitTimeout`              the job was not done in the time given (code `WAIT_TIMEOUT`), with `job`
└── `JobFailed`                the job ended without a result (code: the job's cause), with `job`
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aitbc.sdk.job_models import Job


class AitbcClientError(Exception):
    """Base of all that the SDK raises on its own account."""

    def __init__(
        self,
        code: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.details: dict[str, Any] = dict(details or {})
        self.request_id = request_id


class ApiError(AitbcClientError):
    """The coordinator refused or failed; `status` is the HTTP status, `retry_after_s` its Retry-After."""

    def __init__(
        self,
        code: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        *,
        status: int = 0,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(code, message, details, request_id)
        self.status = status
        self.retry_after_s = retry_after_s


class InvalidRequest(ApiError):
    """The request was malformed, too large, or named something that does not exist as an operation."""


class AuthenticationError(ApiError):
    """No key, or one that is unknown, revoked, expired or rotated: `reason` says which ("missing", …)."""

    @property
    def reason(self) -> str | None:
        value = self.details.get("reason")
        return value if isinstance(value, str) else None


class PaymentRequired(ApiError):
    """The account cannot cover the worst case, or the key's spending limit is reached.

    Amounts in AIT, None where the refusal is not about them: `needed` now; `available` of the account's
    `balance`, of which `held` is held, or of the key's `limit`, of which `reserved` is spent or reserved.
    """

    @property
    def needed(self) -> Decimal | None:
        return self._amount("needed")

    @property
    def available(self) -> Decimal | None:
        return self._amount("available")

    @property
    def balance(self) -> Decimal | None:
        return self._amount("balance")

    @property
    def held(self) -> Decimal | None:
        return self._amount("held")

    @property
    def limit(self) -> Decimal | None:
        return self._amount("limit")

    @property
    def reserved(self) -> Decimal | None:
        return self._amount("reserved")

    def _amount(self, name: str) -> Decimal | None:
        value = self.details.get(name)
        return Decimal(value) if isinstance(value, int | Decimal) else None


class PermissionDenied(ApiError):
    """A good key of the wrong role or owner."""


class NotFound(ApiError):
    """No such thing, or it is somebody else's."""


class Conflict(ApiError):
    """The thing is no longer in a state that allows this."""


class RateLimited(ApiError):
    """Too many requests, or the queue is full: `waiting` jobs (else None) where `limit` may."""

    @property
    def limit(self) -> int | None:
        return self._count("limit")

    @property
    def waiting(self) -> int | None:
        return self._count("waiting")

    def _count(self, name: str) -> int | None:
        value = self.details.get(name)
        return value if isinstance(value, int) else None


class ServerError(ApiError):
    """The coordinator could not serve a request that may have been fine."""


class CoordinatorUnreachable(AitbcClientError):
    """No connection, or it broke before an answer came."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__("UNREACHABLE", f"no answer from {url}: {reason}", {"url": url, "reason": reason})


class UnexpectedAnswer(AitbcClientError):
    """Something answered that does not speak this API."""

    def __init__(
        self, message: str, details: Mapping[str, Any] | None = None, request_id: str | None = None
    ) -> None:
        super().__init__("UNEXPECTED_ANSWER", message, details, request_id)


class WaitTimeout(AitbcClientError):
    """The job is still under way; it goes on without us. `job` is its last known state, with its warnings."""

    def __init__(self, job: Job, timeout_s: float) -> None:
        why = "".join(f": {warning.message.rstrip('.')}" for warning in job.warnings)
        super().__init__(
            "WAIT_TIMEOUT",
            f"job {job.job_id} is still {job.status} after {timeout_s:g} s{why}",
            {"job_id": job.job_id, "status": job.status, **_warned(job)},
        )
        self.job = job


class JobFailed(AitbcClientError):
    """The job failed, expired or was cancelled; nothing was charged but what a cancelled run had cost.

    `code`: its cause; `job`: its end.

    `waited`: its last state before it ended, whose warnings say why it waited, where it was seen.
    """

    def __init__(self, job: Job, waited: Job | None = None) -> None:
        message = job.error or f"job {job.job_id} {job.status}"
        details = {"job_id": job.job_id, "status": job.status}
        if waited is not None and job.cause == "EXPIRED":
            message += "".join(f": {warning.message.rstrip('.')}" for warning in waited.warnings)
            details |= _warned(waited)
        super().__init__(job.cause or job.status.upper(), message, details)
        self.job = job


def _warned(job: Job) -> dict[str, Any]:
    """The codes of a job's warnings, and the models on offer, for an error's details; {} without any."""
    if not job.warnings:
        return {}
    models = [name for warning in job.warnings for name in warning.models]
    return {"warnings": [warning.code for warning in job.warnings], "models": models}


_BY_STATUS: dict[int, type[ApiError]] = {
    400: InvalidRequest,
    401: AuthenticationError,
    402: PaymentRequired,
    403: PermissionDenied,
    404: NotFound,
    405: InvalidRequest,
    409: Conflict,
    413: InvalidRequest,
    429: RateLimited,
}


def api_error(
    status: int,
    code: str,
    message: str,
    details: Mapping[str, Any] | None = None,
    request_id: str | None = None,
    retry_after_s: float | None = None,
) -> ApiError:
    """The exception for an error answer, chosen by HTTP status."""
    kind = _BY_STATUS.get(status, ServerError if status >= 500 else InvalidRequest)
    return kind(code, message, details, request_id, status=status, retry_after_s=retry_after_s)
