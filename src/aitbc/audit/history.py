"""Jobs against their own history, and what was asked and answered against its hashes."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import text

from aitbc.audit.findings import Wrong
from aitbc.coordinator.database import Tx, statement
from aitbc.core import jobspec
from aitbc.core.canonical import sha256_hex

SMALL = 4096  # characters of a text that is read with its page; larger ones are read one by one

_BETWEEN = "WHERE job_id > :after AND job_id <= :last"
EVENTS = statement(
    text(
        "SELECT job_id, seq, at_ms, type, status, actor, cause, miner_id FROM job_events"
        f" {_BETWEEN} ORDER BY job_id, seq"
    )
)
REQUESTS = statement(
    text(
        f"SELECT job_id, CASE WHEN length(request) <= {SMALL} THEN request END AS body FROM job_requests {_BETWEEN}"
    )
)
RESULTS = statement(
    text(
        f"SELECT job_id, CASE WHEN length(result) <= {SMALL} THEN result END AS body FROM job_results {_BETWEEN}"
    )
)
REQUEST = statement(text("SELECT request AS body FROM job_requests WHERE job_id = :job"))
RESULT = statement(text("SELECT result AS body FROM job_results WHERE job_id = :job"))

STATUS_AFTER = {
    "created": "pending",
    "claimed": "running",
    "requeued": "pending",
    "completed": "completed",
    "failed": "failed",
    "expired": "failed",
    "cancelled": "cancelled",
}
"""What a job is after each kind of event."""


class Histories:
    """The events and texts of the jobs of one page, `after` < id <= `last`."""

    def __init__(self, tx: Tx, after: str, last: str) -> None:
        self._tx = tx
        self._events: dict[str, list[Any]] = {}
        for event in tx.all(EVENTS, after=after, last=last):
            self._events.setdefault(event.job_id, []).append(event)
        self._requests = {row.job_id: row.body for row in tx.all(REQUESTS, after=after, last=last)}
        self._results = {row.job_id: row.body for row in tx.all(RESULTS, after=after, last=last)}

    def check(self, job: Any) -> None:
        """Raises Wrong where the job is not what its history made of it, or a text is not that of its hash."""
        fault = _history_fault(job, self._events.get(job.id, []))
        if fault:
            raise Wrong("job", job.id, fault)
        if job.id in self._requests:
            self._check_request(job, self._requests[job.id])
        elif job.finished_at_ms is None:
            raise Wrong("job", job.id, "it has not ended, and what was asked is gone")
        if job.id in self._results:
            self._check_result(job, self._results[job.id])

    def _check_request(self, job: Any, body: str | None) -> None:
        asked = self._tx.one(REQUEST, job=job.id).body if body is None else body
        if sha256_hex(asked.encode()) != job.prompt_hash:
            raise Wrong("job", job.id, "what was asked does not hash to its prompt_hash")
        request = orjson.loads(asked)
        if (request["type"], request["model"]) != (job.job_type, job.model):
            what = f"its type and model are {job.job_type} and {job.model}, it asked for"
            raise Wrong("job", job.id, f"{what} {request['type']} and {request['model']}")

    def _check_result(self, job: Any, body: str | None) -> None:
        if job.body is None:
            raise Wrong("job", job.id, "it has a result and no receipt")
        answered = self._tx.one(RESULT, job=job.id).body if body is None else body
        kind = jobspec.job_type_named(job.job_type)
        hashed = sha256_hex(kind.result_bytes(orjson.loads(answered)))
        if hashed != orjson.loads(job.body)["result_hash"]:
            raise Wrong("job", job.id, "what was answered does not hash to its receipt's result_hash")


def _history_fault(job: Any, events: list[Any]) -> str:
    """Why these events did not lead to this job, or ''."""
    if job.event_count != len(events) or [event.seq for event in events] != list(range(1, len(events) + 1)):
        return f"its events are not 1 to {job.event_count}"
    first, last = events[0], events[-1]
    made = ("created", "client", "", "", job.created_at_ms)
    if (first.type, first.actor, first.cause, first.miner_id, first.at_ms) != made:
        return "its first event is not its creation by its client, when it was made"
    for before, event in zip([None, *events], events, strict=False):
        if event.type == "requeued" and (before is None or before.miner_id != event.miner_id):
            return f"its event {event.seq} is not of the miner that ran it"
        if STATUS_AFTER.get(event.type) != event.status:
            return f"its event {event.seq} is {event.type} and {event.status}"
        if event.type == "claimed" and (event.actor != "miner" or not event.miner_id or event.cause):
            return f"its event {event.seq} is not a miner's claim"
    if last.status != job.status:
        return f"it is {job.status}, its last event left it {last.status}"
    return _end_fault(job, events)


def _end_fault(job: Any, events: list[Any]) -> str:
    last = events[-1]
    claims = [event for event in events if event.type == "claimed"]
    ended = last.status not in ("pending", "running")
    if job.finished_at_ms != (last.at_ms if ended else None):
        return "it did not end when its last event says"
    requeued = [event for event in events if event.type == "requeued"]
    told = ("", requeued[-1].cause if requeued else "")  # why it was tried again
    if ended:
        told = (last.actor, last.cause or ("COMPLETED" if last.type == "completed" else ""))
    if (job.actor, job.cause) != told:
        return f"it ended by {job.actor or 'nobody'} for {job.cause or 'nothing'}, its last event says {told}"
    if ended and last.miner_id != job.miner_id:
        return f"its miner is {job.miner_id or 'nobody'}, its last event names {last.miner_id or 'nobody'}"
    if not claims and (job.miner_id, job.started_at_ms, job.unit_price_units) != ("", None, 0):
        return "no miner ever claimed it, and it names one, or a time or price of its run"
    if last.status == "running" and (last.miner_id, last.at_ms) != (job.miner_id, job.started_at_ms):
        return "it is not run by the miner, or since the time, of its last event"
    claim = claims[-1] if claims else last
    if ended and job.miner_id and (claim.miner_id, claim.at_ms) != (job.miner_id, job.started_at_ms):
        return "it was not started by the miner, or when, its last claim says"
    if job.queued != (job.status == "pending" and (not job.manual_payment or bool(job.hold_id))):
        return "it is queued and may not be claimed, or the other way around"
    return ""
