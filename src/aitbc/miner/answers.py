"""What a coordinator answers a miner, read: assignments, refusals, what became of results.

What it tells is not believed beyond what a coordinator can be set to, and an answer that is not the API's is an
outage.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from aitbc.core.canonical import MAX_INTEGER, CanonicalError, encode, loads_strict, sha256_hex
from aitbc.core.money import parse_ait

JOB_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
MAX_TOLD_S = 86_400
"""A coordinator that tells longer times is not believed."""

MAX_TOLD_RUN_S = 604_800
"""The same for what is left of a run; the longest that a coordinator can be set to."""

STATUS_OF_ITEM_ERROR = {
    "INVALID_REQUEST": 400,
    "RESULT_TOO_LARGE": 413,
    "SIGNATURE_REQUIRED": 400,
    "SIGNATURE_INVALID": 400,
    "INTERNAL_ERROR": 500,
    "STORAGE_UNAVAILABLE": 503,
    "SHUTTING_DOWN": 503,
}
"""An item of a batch names its error by the code alone; every other code is a conflict that stays."""

TRANSIENT_STATUSES = frozenset({408, 425, 429})


class CoordinatorUnreachable(Exception):
    """No answer from the coordinator, or one that is not the API's: an outage, to be waited out."""


class Refused(Exception):
    """The coordinator answered with an error. `is_final`: asking again would get the same answer."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        retry_after_s: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s
        self.details = details or {}
        super().__init__(f"{code}: {message}")

    @property
    def is_final(self) -> bool:
        return 400 <= self.status < 500 and self.status not in TRANSIENT_STATUSES and self.status != 401

    def number(self, name: str, default: float) -> float:
        """A number of the error's details."""
        value = self.details.get(name)
        return float(value) if isinstance(value, int | float) else default

    @property
    def is_about_the_key(self) -> bool:
        return self.status == 401


class BadAssignment(Exception):
    """An assignment that this miner cannot run as it stands; `job_id` says which."""

    def __init__(self, job_id: str, reason: str) -> None:
        self.job_id = job_id
        self.reason = reason
        super().__init__(f"{job_id}: {reason}")


@dataclass(frozen=True, slots=True)
class Assignment:
    """A job that this miner holds the lease of. `request` is the canonical request, `prompt_hash` its
    SHA-256. `run_left_s`: how long it may still run, None where the coordinator does not say."""

    job_id: str
    job_type: str
    model: str
    request: Mapping[str, Any]
    prompt_hash: str
    lease_id: str | None
    attempt: int
    run_left_s: float | None = None


@dataclass(frozen=True, slots=True)
class Registration:
    """What the coordinator answered to `register`."""

    miner_id: str
    chain_id: str
    network_id: str
    heartbeat_interval_s: float
    lease_s: float
    session_id: str | None = None
    default_max_price_units: int | None = None
    """What clients pay at most unless they say otherwise, base units per 1000 tokens."""


def parse_assignment(data: Any) -> Assignment:
    """Raises BadAssignment where the request is missing or is not the one that its hash names."""
    job_id = data.get("job_id") if isinstance(data, Mapping) else None
    if not isinstance(job_id, str) or not JOB_ID.fullmatch(job_id):
        raise CoordinatorUnreachable("an assignment without a job id")
    request = data.get("request")
    if not isinstance(request, Mapping):
        raise BadAssignment(job_id, "it carries no request")
    wanted = ("type", "model", "input", "params")
    if not all(name in request for name in wanted):
        raise BadAssignment(job_id, "its request is not a canonical one")
    # What is signed is the answer to this very request, so its hash is computed here and not taken on trust.
    try:
        prompt_hash = sha256_hex(encode(dict(request)))
    except CanonicalError as error:
        raise BadAssignment(job_id, f"its request is not a canonical one: {error}") from None
    if data.get("prompt_hash", prompt_hash) != prompt_hash:
        raise BadAssignment(job_id, "its prompt_hash is not that of its request")
    lease_id = data.get("lease_id")
    return Assignment(
        job_id=job_id,
        job_type=str(request["type"]),
        model=str(request["model"]),
        request=request,
        prompt_hash=prompt_hash,
        lease_id=lease_id if isinstance(lease_id, str) else None,
        attempt=count(data.get("attempt")) or 1,
        run_left_s=_run_left_s(data.get("run_left_s")),
    )


@dataclass(frozen=True, slots=True)
class Taken:
    """What a poll brought. Where that is nothing for a reason of the miner's own (it pauses after failures,
    say), `reason` is its code, `message` its words, `retry_after_s` when it may end."""

    jobs: list[Assignment | BadAssignment]
    reason: str = ""
    message: str = ""
    retry_after_s: float = 0.0


Delivered = dict[str, Any] | Refused | CoordinatorUnreachable
"""What became of a result: its receipt, or the error."""


def refusal(reply: httpx.Response) -> Exception:
    """Only an error body of the API itself can be final: a proxy's 404 says nothing about a job."""
    data = json_object(reply.content) or {}
    code = data.get("error_code")
    if not isinstance(code, str):
        return CoordinatorUnreachable(f"HTTP {reply.status_code} without an error code")
    try:
        retry_after_s: float | None = float(reply.headers["Retry-After"])
    except (KeyError, ValueError):
        retry_after_s = None
    error = data.get("error")
    details = error.get("details") if isinstance(error, dict) else None
    return Refused(
        reply.status_code,
        code,
        str(data.get("detail") or code),
        retry_after_s,
        details if isinstance(details, dict) else None,
    )


def assignment_or_reason(data: Any) -> Assignment | BadAssignment:
    try:
        return parse_assignment(data)
    except BadAssignment as bad:
        return bad


def outcome_of(item: Any) -> Delivered:
    """One item of a batch's answer."""
    if isinstance(item, dict) and item.get("ok") is True:
        return dict(item.get("receipt") or {"receipt_id": item.get("receipt_id")})
    error = item.get("error") if isinstance(item, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("code"), str):
        return CoordinatorUnreachable(
            "an item of the answer to POST /v1/miner/results is neither ok nor an error"
        )
    return Refused(
        STATUS_OF_ITEM_ERROR.get(error["code"], 409), error["code"], str(error.get("message") or "")
    )


def json_object(content: bytes) -> dict[str, Any] | None:
    try:
        data = loads_strict(content)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def units(value: Any) -> int | None:
    try:
        return None if value is None else parse_ait(value)
    except (ValueError, TypeError):
        return None


def seconds(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) and 0 < value <= MAX_TOLD_S else default


def _run_left_s(value: Any) -> float | None:
    """None where the coordinator names no bound; 0 where the run's time is over already."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value <= MAX_TOLD_RUN_S:
        return None
    return float(max(0, value))


def count(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 < value <= MAX_INTEGER else None
