"""What both dialects do with jobs: one function for each act, from the spec to the answer."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import orjson
from starlette.responses import Response

from aitbc.coordinator.api.native.amounts import ait, plain
from aitbc.coordinator.api.native.render import (
    assignment_json,
    error_json,
    job_json,
    receipt_json,
    reply,
    request_json,
    room_json,
)
from aitbc.coordinator.api.plumbing.polling import wait_for, wait_s
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import off_the_loop
from aitbc.coordinator.api.schemas.jobs import JobBatch, Submission
from aitbc.coordinator.api.schemas.miners import Failure
from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import (
    AitbcError,
    InvalidRequest,
    JobNotFound,
    ResultTooLarge,
    SignatureInvalid,
    SignatureRequired,
)
from aitbc.coordinator.flows.acts import completion, job_lifecycle
from aitbc.coordinator.flows.acts.completion import ResultSubmission
from aitbc.coordinator.flows.acts.dispatch import Assignment, Taken
from aitbc.coordinator.flows.acts.idempotency import once
from aitbc.coordinator.flows.acts.job_lifecycle import RefusedTry
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.flows.views import on_offer
from aitbc.coordinator.idempotency.service import Answer
from aitbc.coordinator.jobs import queries
from aitbc.coordinator.jobs import service as jobs
from aitbc.coordinator.jobs import texts as job_texts
from aitbc.coordinator.jobs.lifecycle import TERMINAL
from aitbc.coordinator.jobs.rows import JobRow, JobSpec
from aitbc.coordinator.process.long_polls import job_change
from aitbc.coordinator.process.runtime import Runtime
from aitbc.coordinator.receipts.service import ReceiptRow

REFUSED_RESULTS = (InvalidRequest, ResultTooLarge, SignatureInvalid, SignatureRequired)
REPLAYED = {"Idempotency-Replayed": "true"}


async def create(request: ApiRequest, principal: Principal, act: Callable[[Tx], Answer]) -> Response:
    """Runs `act` in one transaction, at most once per Idempotency-Key, and answers."""
    answer = await request.runtime.db.write(once, request.idempotency_key(principal), act)
    return reply(answer.body, answer.status, REPLAYED if answer.replayed else None)


async def submit(request: ApiRequest, principal: Principal, body: Submission) -> Response:
    """201 with the job."""
    job_type = body.unnamed_model()
    model = None if job_type is None else await request.runtime.db.read(on_offer.default_model, job_type)
    spec = body.to_spec(model)
    ctx = request.runtime.context
    key = request.idempotency_key(principal)
    if key is None:
        row, warned = await request.runtime.db.write(_submitted, ctx, principal, spec, body.ignored())
        return reply(job_json(row, spec.request_text, warned=warned), 201)
    act = partial(_submit, ctx, principal, spec, body.ignored())
    answer = await request.runtime.db.write(once, key, act)
    job = {name: plain(value) for name, value in orjson.loads(answer.body).items()}
    job["constraints"] = {name: plain(value) for name, value in job["constraints"].items()}
    if job["model"] != spec.model:  # the first answer, of when another model was the one on offer
        spec = body.to_spec(job["model"])
    job |= request_json(spec.request_text)
    return reply(job, answer.status, REPLAYED if answer.replayed else None)


def _submit(ctx: FlowContext, principal: Principal, spec: JobSpec, ignored: list[str], tx: Tx) -> Answer:
    """The job without what was asked: whoever sends the same key again sends the same request again."""
    job, warned = _submitted(tx, ctx, principal, spec, ignored)
    return Answer(201, orjson.dumps(job_json(job, None, warned=warned)))


def _submitted(
    tx: Tx, ctx: FlowContext, principal: Principal, spec: JobSpec, ignored: list[str]
) -> tuple[JobRow, list[on_offer.Warned]]:
    job = job_lifecycle.submit(tx, ctx, principal, spec)
    warned = on_offer.warnings(tx, ctx.on_offer, job)
    if ignored:
        warned.append(on_offer.fields_ignored(ignored))
    return job, warned


async def submit_batch(request: ApiRequest, principal: Principal, body: JobBatch) -> Response:
    """200 with one item for each job."""
    models = {
        job_type: await request.runtime.db.read(on_offer.default_model, job_type)
        for job_type in body.unnamed_models()
    }
    specs = await off_the_loop(body.to_specs, models)
    return await create(request, principal, partial(_submit_batch, request.runtime.context, principal, specs))


def _submit_batch(
    ctx: FlowContext, principal: Principal, specs: list[JobSpec | AitbcError], tx: Tx
) -> Answer:
    done = job_lifecycle.submit_batch(tx, ctx, principal, specs)
    items = [_batch_item(tx, ctx, item) for item in done]
    return Answer(200, orjson.dumps({"items": items}, default=str))


def _batch_item(tx: Tx, ctx: FlowContext, item: JobRow | AitbcError) -> dict[str, Any]:
    if isinstance(item, AitbcError):
        return {"ok": False, "error": error_json(item)}
    return {
        "ok": True,
        "job": {
            "job_id": item.id,
            "status": item.status,
            "price_held": ait(item.held_units),
            "warnings": [warned._asdict() for warned in on_offer.warnings(tx, ctx.on_offer, item)],
        },
    }


def read_visible(tx: Tx, ctx: FlowContext, principal: Principal, job_id: str) -> bytes:
    """A job for its client, its miner or an admin. Raises JobNotFound.

    To its miner what was asked is shown while it holds the lease, and what was answered not at all: it has
    both, and a key that is lost later must not tell what was asked for weeks.
    """
    job = job_lifecycle.visible_job(tx, principal, job_id)
    if job_lifecycle.is_owner(principal, job):
        return shown(tx, ctx, job)
    request_text = job_texts.request_text(tx, job.id) if job.status == "running" else None
    return orjson.dumps(job_json(job, request_text))


def read_owned(tx: Tx, ctx: FlowContext, principal: Principal, job_id: str) -> bytes:
    """A job for its client or an admin. Raises JobNotFound."""
    return shown(tx, ctx, owned(tx, principal, job_id))


def owned(tx: Tx, principal: Principal, job_id: str) -> JobRow:
    """The client's own job; any job for an admin. Raises JobNotFound for anybody else's."""
    job = jobs.get(tx, job_id)
    if job is None or (job.client_id != principal.account_id and not principal.is_admin):
        raise JobNotFound(job_id=job_id)
    return job


def shown(tx: Tx, ctx: FlowContext, job: JobRow) -> bytes:
    """The job's JSON with its request, result, place in the queue, and what keeps it there."""
    result = job_texts.result_text(tx, job.id) if job.status == "completed" else None
    position = queries.position(tx, job) if job.status == "pending" else None
    warned = on_offer.lately(tx, ctx.on_offer, job)
    return orjson.dumps(job_json(job, job_texts.request_text(tx, job.id), result, position, warned))


async def result(request: ApiRequest, principal: Principal, job_id: str, asked_s: float) -> Response:
    """200 with an ended job; 202 with one that has not ended, after waiting for it."""
    runtime = request.runtime
    waiting_s = wait_s(request, asked_s)
    await runtime.db.read(owned, principal, job_id)
    if waiting_s > 0:
        await wait_for(request, principal, job_change(runtime, principal, job_id, waiting_s))
    job, body = await runtime.db.read(_job_and_body, runtime.context, principal, job_id)
    return reply(body, 200 if job.status in TERMINAL else 202)


def _job_and_body(tx: Tx, ctx: FlowContext, principal: Principal, job_id: str) -> tuple[JobRow, bytes]:
    job = owned(tx, principal, job_id)
    return job, shown(tx, ctx, job)


def assignments_body(request: ApiRequest, taken: list[Assignment]) -> list[dict[str, Any]]:
    """Leased jobs as their miner gets them."""
    runtime = request.runtime
    lease_s, now_ms = runtime.settings.lease_s, runtime.clock.now_ms()
    return [assignment_json(assignment, lease_s, now_ms) for assignment in taken]


def taken_body(request: ApiRequest, taken: Taken) -> dict[str, Any]:
    """Leased jobs; without any, why the miner could have had none."""
    jobs_leased = assignments_body(request, taken.assignments)
    if jobs_leased or not taken.room.reason:
        return {"jobs": jobs_leased}
    return {"jobs": [], **room_json(taken.room, request.runtime.clock.now_ms())}


async def complete(
    request: ApiRequest, principal: Principal, miner_id: str | None, sent: ResultSubmission
) -> Response:
    """200 with the receipt. A result that is refused counts as a try of the job."""
    runtime = request.runtime
    try:
        row = await runtime.db.write(completion.complete, runtime.context, principal, miner_id, sent)
    except REFUSED_RESULTS as error:
        await _count_refused(runtime, principal, miner_id, [(sent, error)])
        raise
    return reply(receipt_json(row))


async def _count_refused(
    runtime: Runtime,
    principal: Principal,
    miner_id: str | None,
    refused: Sequence[tuple[ResultSubmission, AitbcError]],
) -> None:
    if not refused:
        return
    tries = [RefusedTry(sent.job_id, sent.lease_id, error.code) for sent, error in refused]
    await runtime.db.write(job_lifecycle.count_refused, runtime.context, principal, miner_id, tries)


async def complete_batch(
    request: ApiRequest,
    principal: Principal,
    miner_id: str | None,
    sent: list[tuple[str | None, ResultSubmission | AitbcError]],
) -> Response:
    """200 with one item for each result."""
    runtime = request.runtime
    done = await runtime.db.write(
        completion.complete_batch, runtime.context, principal, miner_id, [item for _, item in sent]
    )
    refused = [
        (item, error)
        for (_, item), error in zip(sent, done, strict=True)
        if isinstance(item, ResultSubmission) and isinstance(error, REFUSED_RESULTS)
    ]
    await _count_refused(runtime, principal, miner_id, refused)
    items = [_result_item(job_id, item) for (job_id, _), item in zip(sent, done, strict=True)]
    return reply(orjson.dumps({"items": items}, default=str))


def _result_item(job_id: str | None, item: ReceiptRow | AitbcError) -> dict[str, Any]:
    if isinstance(item, AitbcError):
        return {"ok": False, "job_id": job_id, "error": error_json(item)}
    return {"ok": True, "job_id": item.job_id, "receipt_id": item.id, "receipt": receipt_json(item)}


async def fail(request: ApiRequest, principal: Principal, job_id: str, body: Failure) -> Response:
    """200 with the job's new status."""
    runtime = request.runtime
    cause, message = body.said()
    job = await runtime.db.write(
        job_lifecycle.fail,
        runtime.context,
        principal,
        miner_id=body.miner_id,
        job_id=job_id,
        cause=cause,
        message=message,
        retryable=body.retryable,
        lease_id=body.lease_id,
        session=body.session_id,
    )
    return reply({"job_id": job.id, "status": job.status})
