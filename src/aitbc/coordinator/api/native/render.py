"""From rows to the JSON that goes out. Bytes are made here once; FastAPI does not look at them again."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, cast

import orjson
from starlette.responses import Response

from aitbc.coordinator.api.acts.miners import OwnMiner
from aitbc.coordinator.api.native.amounts import ait, plain
from aitbc.coordinator.api.schemas import replies
from aitbc.coordinator.errors import AitbcError
from aitbc.coordinator.flows.acts.dispatch import Assignment
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.flows.shared.job_views import JobView
from aitbc.coordinator.flows.shared.on_offer import Warned
from aitbc.coordinator.flows.shared.trust import WORDS, Room
from aitbc.coordinator.flows.views.miners import ListedMiner, MinerRecord
from aitbc.coordinator.jobs.lifecycle import MAX_PRIORITY, TERMINAL
from aitbc.coordinator.jobs.rows import JobRow
from aitbc.coordinator.miners import reputation
from aitbc.coordinator.miners.rows import MinerRow, OfferRow
from aitbc.coordinator.receipts.service import ReceiptRow
from aitbc.core import jobspec
from aitbc.core.clock import rfc3339
from aitbc.core.money import BPS
from aitbc.core.receipt import document_text

__all__ = [
    "assignment_json",
    "error_json",
    "job_json",
    "json_bytes",
    "listed_miner_json",
    "miner_json",
    "receipt_json",
    "reply",
    "request_json",
    "room_json",
    "warnings_json",
]

_PROGRESS = {"pending": 0.0, "running": 0.5}
MEDIA_TYPE = "application/json"

json_bytes = orjson.dumps

TWICE_CHARS = 16_384
"""A longer result is shown once, as `result`."""


Body = Mapping[str, object] | Sequence[Mapping[str, object]] | bytes | None
"""What is answered: a form of `api.schemas`, a list of one, or bytes made of such."""


def reply(value: Body, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer; `value` as bytes is sent as it is."""
    body = value if type(value) is bytes else orjson.dumps(value)
    return Response(body, status, headers=headers, media_type=MEDIA_TYPE)


def _time(ms: int | None) -> str | None:
    return None if ms is None else rfc3339(ms)


def job_json(view: JobView) -> replies.Job:
    """A job as both documented interfaces show it."""
    job, result_text = view.job, view.result_text
    output = None if result_text is None else orjson.loads(result_text)
    ended = job.status in TERMINAL
    updated_ms = job.finished_at_ms or job.started_at_ms or job.created_at_ms
    # A job that is tried again keeps why it was given back until it ends: no longer news once it runs.
    running, failed = job.status == "running", job.status not in ("running", "completed")
    return {
        "job_id": job.id,
        "id": job.id,
        "status": job.status,
        "job_type": job.job_type,
        "model": job.model,
        **request_json(view.request),
        "constraints": _constraints(job),
        "priority": MAX_PRIORITY - job.rank,
        "result": None if output is None else jobspec.result_text(job.job_type, output),
        "output": output if result_text is None or len(result_text) <= TWICE_CHARS else None,
        "miner_id": job.miner_id or None,
        "client_id": job.client_id,
        "attempts": job.attempts,
        "cause": None if running else job.cause or None,
        "actor": job.actor or None,
        "error": job.message or None if failed else None,
        "created_at": rfc3339(job.created_at_ms),
        "started_at": _time(job.started_at_ms),
        "completed_at": _time(job.finished_at_ms),
        "updated_at": rfc3339(updated_ms),
        "expires_at": rfc3339(job.expires_at_ms),
        "max_run_s": job.max_run_ms / 1000,
        "run_ends_at": rfc3339(job.run_ends_at_ms) if job.status == "running" else None,
        "price_held": ait(job.held_units),
        "unit_price": ait(job.unit_price_units)
        if job.lease_id or job.receipt_id or job.price_units
        else None,
        "price": ait(job.price_units) if job.receipt_id or job.price_units else None,
        "receipt_id": job.receipt_id or None,
        "progress": 1.0 if ended else _PROGRESS[job.status],
        "queue_position": view.position,
        "warnings": warnings_json(view.warned),
    }


def warnings_json(warned: Sequence[Warned]) -> list[replies.JobWarning]:
    """What a client should know before it waits."""
    return [{"code": one.code, "message": one.message, "models": one.models} for one in warned]


class Asked(TypedDict):
    """What of a job's JSON is from its request."""

    prompt: str | None
    messages: list[dict[str, str]] | None
    parameters: dict[str, Any]
    params: dict[str, Any]


class WhyNone(TypedDict):
    """Why a miner gets no work now; nulls where it may."""

    reason: str | None
    message: str | None
    retry_after_s: float | None


def request_json(request: jobspec.Request | str | None) -> Asked:
    """What of a job's JSON is from its request, or from the request's canonical JSON."""
    if request is None:
        return {"prompt": None, "messages": None, "parameters": {}, "params": {}}
    asked: jobspec.Request = orjson.loads(request) if isinstance(request, str) else request
    return {
        "prompt": asked["input"].get("prompt"),
        "messages": asked["input"].get("messages"),
        "parameters": jobspec.parameters_of(asked),
        "params": asked["params"],
    }


def _constraints(job: JobRow) -> dict[str, Any]:
    constraints: dict[str, Any] = {"max_price": ait(job.max_price_units)}
    if job.min_memory_mb:
        constraints["min_memory_gb"] = _gb(job.min_memory_mb)
    if job.region:
        constraints["region"] = job.region
    if job.required_miner_id:
        constraints["miner_id"] = job.required_miner_id
    return constraints


def _gb(megabytes: int) -> int | float:
    whole, rest = divmod(megabytes, 1024)
    return megabytes / 1024 if rest else whole


def assignment_json(assignment: Assignment, ctx: FlowContext, now_ms: int) -> replies.Assignment:
    """A leased job as its miner gets it."""
    job = assignment.job
    request: dict[str, Any] = orjson.loads(assignment.request_text)
    return {
        "job_id": job.id,
        "id": job.id,
        "status": "running",
        "job_type": job.job_type,
        "model": job.model,
        "parameters": jobspec.parameters_of(request),
        "request": cast(dict[str, Any], orjson.Fragment(assignment.request_text)),
        "prompt_hash": job.prompt_hash,
        "lease_id": job.lease_id,
        "lease_expires_at": rfc3339(job.lease_expires_at_ms),
        "lease_s": (job.lease_ms or ctx.lease_ms) / 1000,
        "max_run_s": job.max_run_ms / 1000,
        "run_left_s": max(0, job.run_ends_at_ms - now_ms) / 1000,
        "run_ends_at": rfc3339(job.run_ends_at_ms),
        "unit_price": ait(job.unit_price_units),
        "attempt": job.attempts,
        "priority": MAX_PRIORITY - job.rank,
        "created_at": rfc3339(job.created_at_ms),
    }


def room_json(room: Room, now_ms: int) -> WhyNone:
    """Why a miner gets no work now; nulls where it may."""
    left_ms = room.until_ms - now_ms if room.until_ms else None
    return {
        "reason": room.reason or None,
        "message": WORDS[room.reason] if room.reason else None,
        "retry_after_s": None if left_ms is None else max(0.0, left_ms / 1000),
    }


def receipt_json(
    row: ReceiptRow, result_text: str | None = None, proof: str | None = None
) -> replies.Receipt:
    """A receipt's document; with the job's result only where its owner asks."""
    text = document_text(row.id, row.body, (row.key_id, row.signature), result_text, proof)
    return cast(replies.Receipt, orjson.Fragment(text))


def _models_json(offers: tuple[OfferRow, ...]) -> list[replies.Model]:
    """One entry for each name that the miner gave, whichever job types and aliases it is offered under."""
    shown: dict[str, replies.Model] = {}
    for offer in offers:
        if offer.name != jobspec.ANY_MODEL:
            shown[offer.name] = {
                "name": offer.name,
                "engine": offer.engine or None,
                "context_length": offer.context_length or None,
                "quantisation": offer.quantisation or None,
                "price_per_1k": ait(offer.price_units),
            }
    return list(shown.values())


def _gpus_json(miner: MinerRow) -> list[replies.Gpu]:
    return [{"name": gpu["name"], "memory_gb": _gb(gpu["memory_mb"])} for gpu in orjson.loads(miner.gpus)]


def listed_miner_json(listed: ListedMiner) -> replies.ListedMiner:
    """A miner as everybody sees it: no account, key or address."""
    miner, offers, running = listed
    return {
        "miner_id": miner.id,
        "status": miner.status,
        "job_types": orjson.loads(miner.job_types),
        "models": _models_json(offers),
        "gpus": _gpus_json(miner),
        "region": miner.region or None,
        "concurrency": miner.concurrency,
        "running": running,
        "last_heartbeat": rfc3339(miner.last_heartbeat_ms),
    }


def miner_record_json(record: MinerRecord) -> replies.MinerRecord:
    """A miner with its reputation."""
    facts = record.facts
    parts: dict[str, replies.ReputationPart] = {
        name: {
            "value": part.bps / BPS,
            "weight": reputation.WEIGHTS[name] / sum(reputation.WEIGHTS.values()),
            "samples": part.samples,
            "of": part.of,
            "formula": reputation.FORMULAE[name],
        }
        for name, part in reputation.parts(facts).items()
    }
    return {
        **listed_miner_json(record.listed),
        "reputation": {
            "score": reputation.score_bps(facts) / BPS,
            "samples": facts.delivered + facts.failed,
            "formula": reputation.FORMULA,
            "parts": parts,
            "completed": facts.delivered,
            "failed": facts.failed,
            "failures": record.failures,
            "mean_answer_s": round(facts.run_ms / facts.delivered / 1000, 3) if facts.delivered else None,
            "seconds_per_1k_tokens": round(facts.run_ms / facts.units, 3) if facts.units else None,
            "hours_here": _hours(facts.up_ms),
            "hours_missing": _hours(facts.away_ms),
            "hours_promised": _hours(facts.promised_ms),
            "hours_kept": _hours(facts.served_ms),
        },
    }


def _hours(ms: int) -> float:
    return round(ms / reputation.HOUR_MS, 3)


def miner_json(own: OwnMiner, ctx: FlowContext) -> replies.Miner:
    """A miner as its owner sees it, with what its program needs to know of the network."""
    miner, offers, cap_units, lease_ms = own
    return {
        "id": miner.id,
        "miner_id": miner.id,
        "address": miner.address or None,
        "endpoint": miner.endpoint or None,
        "status": miner.status,
        "capabilities": orjson.loads(miner.capabilities),
        "models": _models_json(offers),
        "gpus": _gpus_json(miner),
        "job_types": orjson.loads(miner.job_types),
        "region": miner.region or None,
        "concurrency": miner.concurrency,
        "public_key": miner.public_key or None,
        "session_id": miner.session_id or None,
        "heartbeat_interval_s": ctx.heartbeat_ms / 1000,
        "lease_s": lease_ms / 1000,
        "default_max_price_per_1k": ait(cap_units),
        "chain_id": ctx.chain_id,
        "network_id": ctx.network_id,
        "registered_at": rfc3339(miner.registered_at_ms),
        "last_heartbeat": rfc3339(miner.last_heartbeat_ms),
    }


def error_json(error: AitbcError) -> replies.ErrorDetail:
    """An error as an item of a batch."""
    return {"code": error.code, "message": error.message, "details": _details(error)}


def _details(error: AitbcError) -> dict[str, Any]:
    """What an error says beside its message. Numbers with decimals in it are amounts."""
    return {name: plain(value) for name, value in error.details.items()}
