"""The miner's side of the coordinator's HTTP API (the dialect by role, and one job's `complete` and
`fail`)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from aitbc.miner.answers import (
    CoordinatorUnreachable,
    Delivered,
    Refused,
    Registration,
    Taken,
    assignment_or_reason,
    count,
    json_object,
    outcome_of,
    refusal,
    seconds,
    units,
)
from aitbc.miner.engines.base import clean_text, is_loopback

CONNECT_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 30.0
KEEPALIVE_S = 2.0
"""Shorter than servers keep an idle connection, so that none is closed just as it is used again."""

LARGE_RESULT_BYTES = 512 * 1024
MAX_BATCH = 64
MAX_KNOWN_CHARS = 8192
"""Room in a poll for the jobs that we hold. One left out comes again and is recognised."""


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
            heartbeat_interval_s=seconds(data.get("heartbeat_interval_s"), 15.0),
            lease_s=seconds(data.get("lease_s"), 60.0),
            session_id=self.session_id,
            default_max_price_units=units(data.get("default_max_price_per_1k")),
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
            [assignment_or_reason(job) for job in jobs],
            clean_text(str(data.get("reason") or ""), 64),
            clean_text(str(data.get("message") or "")),
            seconds(data.get("retry_after_s"), 0.0),
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
        return [outcome_of(item) for item in items]

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
        return count(data.get("requeued")) or 0

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
            data = json_object(reply.content)
            if data is None:
                raise CoordinatorUnreachable(f"{path} did not answer with a JSON object")
            return data
        raise refusal(reply)


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


async def quietly(call: Coroutine[Any, Any, Any], limit_s: float) -> None:
    """The last courtesy to a coordinator that may not be there: nothing depends on it."""
    try:
        async with asyncio.timeout(limit_s):
            await call
    except (CoordinatorUnreachable, Refused, TimeoutError):
        return  # the leases end by themselves
