"""The miner's side of the coordinator's HTTP API (the dialect by role, and one job's `complete` and
`fail`)."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from aitbc.core.canonical import MAX_INTEGER, CanonicalError, encode, loads_strict, sha256_hex
from aitbc.core.money import parse_ait
from aitbc.miner.engines.base import clean_text, is_loopback

CONNECT_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 30.0
JOB_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
KEEPALIVE_S = 2.0
"""Shorter than servers keep an idle connection, so that none is closed just as it is used again."""

MAX_TOLD_S = 86_400
"""A coordinator that tells longer times is not believed."""

MAX_TOLD_RUN_S = 604_800
"""The same for what is left of a run; the longest that a coordinator can be set to."""

LARGE_RESULT_BYTES = 512 * 1024
MAX_BATCH = 64
MAX_KNOWN_CHARS = 8192
"""Room in a poll for the jobs that we hold. One left out comes again and is recognised."""

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
        attempt=_count(data.get("attempt")) or 1,
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


class CoordinatorClient:
    """One coordinator, one miner key. Every call but `complete` and `fail` raises CoordinatorUnreachable or
    Refused. `session_id` is what the last registration gave; calls show it, so that a copy of this miner is
    noticed."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/")
        self.session_id: str | None = None
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={"X-Api-Key": key, "Accept": "application/json"},
            timeout=httpx.Timeout(CALL_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=None, keepalive_expiry=KEEPALIVE_S),
            verify=self.url.startswith("https://"),
            trust_env=not is_loopback(self.url),
        )

    @property
    def host(self) -> str:
        """The coordinator's host and port, for people."""
        return urlsplit(self.url).netloc or self.url

    async def register(self, body: Mapping[str, Any]) -> Registration:
        data = await self._post("/v1/miner/register", self._in_session(body))
        session_id = data.get("session_id")
        self.session_id = session_id if isinstance(session_id, str) else None
        return Registration(
            miner_id=str(data.get("miner_id") or body["miner_id"]),
            chain_id=str(data.get("chain_id") or ""),
            network_id=str(data.get("network_id") or ""),
            heartbeat_interval_s=_seconds(data.get("heartbeat_interval_s"), 15.0),
            lease_s=_seconds(data.get("lease_s"), 60.0),
            session_id=self.session_id,
            default_max_price_units=_units(data.get("default_max_price_per_1k")),
        )

    async def heartbeat(
        self,
        miner_id: str,
        status: str,
        load: Mapping[str, Any],
        jobs: Collection[str],
        progress: Mapping[str, int],
    ) -> set[str]:
        """Extends the leases of `jobs`; gives those of them that this miner no longer holds. `progress`: tokens
        generated so far, by job, which are paid for where a job is cancelled."""
        body = {
            "miner_id": miner_id,
            "status": status,
            "load": load,
            "jobs": sorted(jobs),
            "progress": dict(progress),
        }
        data = await self._post("/v1/miner/heartbeat", self._in_session(body))
        cancelled = data.get("cancelled") or []
        return {job_id for job_id in cancelled if isinstance(job_id, str)}

    async def take(self, miner_id: str, max_jobs: int, wait_s: float, known: Collection[str]) -> Taken:
        """Lease up to `max_jobs`, waiting up to `wait_s` for the first."""
        query = {"miner_id": miner_id, "max": str(max_jobs), "wait": f"{wait_s:g}"}
        if self.session_id is not None:
            query["session_id"] = self.session_id
        if known:
            named = ",".join(sorted(known))
            query["known"] = (
                named if len(named) <= MAX_KNOWN_CHARS else named[:MAX_KNOWN_CHARS].rpartition(",")[0]
            )
        data = await self._call("GET", "/v1/miner/jobs", params=query, timeout_s=wait_s + CALL_TIMEOUT_S)
        jobs = data.get("jobs")
        if not isinstance(jobs, list):
            raise CoordinatorUnreachable("the answer to GET /v1/miner/jobs has no jobs in it")
        return Taken(
            [_assignment_or_reason(job) for job in jobs],
            clean_text(str(data.get("reason") or ""), 64),
            clean_text(str(data.get("message") or "")),
            _seconds(data.get("retry_after_s"), 0.0),
        )

    async def complete(self, bodies: Sequence[Mapping[str, Any]]) -> list[Delivered]:
        """Hand in results; gives for each, in order, its receipt or why there is none. Raises nothing of its
        own.

        Several go together in one request. A large one (embeddings) goes by itself, by the route for batches,
        which has more room than the one for a single result.
        """
        outcomes: list[Delivered] = []
        for group in _groups(bodies):
            try:
                outcomes += await self._complete_group(group)
            except CoordinatorUnreachable as error:
                outcomes += [error] * len(group)
            except Refused as refusal:
                if len(group) > 1 and (refusal.is_final or refusal.status == 500):
                    outcomes += [each for body in group for each in await self.complete([body])]
                else:
                    outcomes += [refusal] * len(group)
        return outcomes

    async def _complete_group(self, group: Sequence[Mapping[str, Any]]) -> list[Delivered]:
        contents = [_encode(body) for body in group]
        if len(group) == 1 and len(contents[0]) <= LARGE_RESULT_BYTES:
            path = f"/v1/jobs/{group[0]['job_id']}/complete"
            return [await self._call("POST", path, content=contents[0])]
        batch = b'{"miner_id":%b,"results":[%b]}' % (_encode(group[0]["miner_id"]), b",".join(contents))
        data = await self._call("POST", "/v1/miner/results", content=batch)
        items = data.get("items")
        if not isinstance(items, list) or len(items) != len(group):
            raise CoordinatorUnreachable(
                "the answer to POST /v1/miner/results has not an item for each result"
            )
        return [_outcome_of(item) for item in items]

    async def fail(self, job_id: str, body: Mapping[str, Any]) -> Delivered:
        """Report that a job failed here; gives the coordinator's answer or the error. Raises nothing of its
        own."""
        try:
            return await self._post(f"/v1/jobs/{job_id}/fail", body)
        except (CoordinatorUnreachable, Refused) as error:
            return error

    async def state(self, miner_id: str | None) -> dict[str, Any]:
        """How the miner stands at the coordinator; without an id, the account's only one."""
        query = {} if miner_id is None else {"miner_id": miner_id}
        return await self._call("GET", "/v1/miner/status", params=query)

    async def deregister(self, miner_id: str) -> int:
        """Leave; gives how many jobs went back to the queue."""
        data = await self._post("/v1/miner/deregister", self._in_session({"miner_id": miner_id}))
        return _count(data.get("requeued")) or 0

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _in_session(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        return body if self.session_id is None else {**body, "session_id": self.session_id}

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self._call("POST", path, content=_encode(body))

    async def _call(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        params: Mapping[str, str] | None = None,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> dict[str, Any]:
        try:
            reply = await self._http.request(
                method,
                path,
                content=content,
                headers=None if content is None else {"Content-Type": "application/json"},
                params=params,
                timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
            )
        except httpx.HTTPError as error:
            raise CoordinatorUnreachable(str(error) or type(error).__name__) from error
        if reply.is_success:
            data = _json_object(reply.content)
            if data is None:
                raise CoordinatorUnreachable(f"{path} did not answer with a JSON object")
            return data
        raise _refusal(reply)


def _refusal(reply: httpx.Response) -> Exception:
    """Only an error body of the API itself can be final: a proxy's 404 says nothing about a job."""
    data = _json_object(reply.content) or {}
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


def _assignment_or_reason(data: Any) -> Assignment | BadAssignment:
    try:
        return parse_assignment(data)
    except BadAssignment as bad:
        return bad


def _encode(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _groups(bodies: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Results that go together: no more than fit comfortably into one request."""
    group: list[Mapping[str, Any]] = []
    group_bytes = 0
    for body in bodies:
        size = len(_encode(body))
        if group and (len(group) == MAX_BATCH or group_bytes + size > LARGE_RESULT_BYTES):
            yield group
            group, group_bytes = [], 0
        group.append(body)
        group_bytes += size
    if group:
        yield group


def _outcome_of(item: Any) -> Delivered:
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


def _json_object(content: bytes) -> dict[str, Any] | None:
    try:
        data = loads_strict(content)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def _units(value: Any) -> int | None:
    try:
        return None if value is None else parse_ait(value)
    except (ValueError, TypeError):
        return None


def _seconds(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) and 0 < value <= MAX_TOLD_S else default


def _run_left_s(value: Any) -> float | None:
    """None where the coordinator names no bound; 0 where the run's time is over already."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value <= MAX_TOLD_RUN_S:
        return None
    return float(max(0, value))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 < value <= MAX_INTEGER else None
