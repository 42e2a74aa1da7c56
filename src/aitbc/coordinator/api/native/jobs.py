"""How both documented interfaces answer for jobs: an act, and its answer."""

from functools import partial

import orjson
from starlette.responses import Response

from aitbc.coordinator.api.acts import jobs as acts
from aitbc.coordinator.api.native.amounts import ait, plain
from aitbc.coordinator.api.native.render import (
    assignment_json,
    error_json,
    job_json,
    receipt_json,
    reply,
    request_json,
    room_json,
    warnings_json,
)
from aitbc.coordinator.api.plumbing.once import Form, perform
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import QUICK_BODY_BYTES, off_the_loop
from aitbc.coordinator.api.schemas import replies
from aitbc.coordinator.api.schemas.jobs import JobBatch, Submission
from aitbc.coordinator.api.schemas.miners import Failure, JobResult, ResultBatch
from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.errors import AitbcError
from aitbc.coordinator.flows.acts import job_lifecycle
from aitbc.coordinator.flows.acts.dispatch import Assignment, Taken
from aitbc.coordinator.flows.shared.job_views import JobView
from aitbc.coordinator.jobs.lifecycle import TERMINAL
from aitbc.coordinator.receipts.service import ReceiptRow


async def submit(request: ApiRequest, principal: Principal, body: Submission) -> Response:
    """201 with the job."""
    model = await acts.model_for(request, body)
    asked = body.canonical(model)
    spec, ctx = body.to_spec(asked), request.runtime.context
    act = partial(
        job_lifecycle.submit_shown,
        ctx=ctx,
        principal=principal,
        request=asked,
        spec=spec,
        ignored=body.ignored(),
    )

    def again(kept: bytes) -> bytes:
        job = {name: plain(value) for name, value in orjson.loads(kept).items()}
        job["constraints"] = {name: plain(value) for name, value in job["constraints"].items()}
        meant = job["model"]  # of the first answer: another model may have been the one on offer
        return orjson.dumps(job | request_json(asked if meant == spec.model else body.canonical(meant)))

    form = Form(201, _job_body, _job_without_its_request, again)
    return await perform(request, principal, act, form)


def _job_body(view: JobView) -> bytes:
    return orjson.dumps(job_json(view))


def _job_without_its_request(view: JobView) -> bytes:
    """Whoever sends the same key again sends the same request again."""
    return orjson.dumps(job_json(view._replace(request=None)))


async def submit_batch(request: ApiRequest, principal: Principal, body: JobBatch) -> Response:
    """200 with one item for each job."""
    specs = await acts.batch_specs(request, body)
    act = partial(
        job_lifecycle.submit_batch_shown, ctx=request.runtime.context, principal=principal, specs=specs
    )
    return await perform(request, principal, act, Form(200, _batch_body))


def _batch_body(done: list[JobView | AitbcError]) -> bytes:
    batch: replies.Batch = {"items": [_batch_item(item) for item in done]}
    return orjson.dumps(batch, default=str)


def _batch_item(item: JobView | AitbcError) -> replies.BatchItem:
    if isinstance(item, AitbcError):
        return {"ok": False, "error": error_json(item)}
    job = item.job
    return {
        "ok": True,
        "job": {
            "job_id": job.id,
            "status": job.status,
            "price_held": ait(job.held_units),
            "warnings": warnings_json(item.warned),
        },
    }


async def job(view: JobView, status: int = 200) -> Response:
    """The job. One of long texts is made beside the event loop."""
    asked = len(view.request) if isinstance(view.request, str) else 0
    if asked + len(view.result_text or "") <= QUICK_BODY_BYTES:
        return reply(_job_body(view), status)
    return reply(await off_the_loop(_job_body, view), status)


async def result(request: ApiRequest, principal: Principal, job_id: str, asked_s: float) -> Response:
    """200 with an ended job; 202 with one that has not ended, after waiting for it."""
    view = await acts.result(request, principal, job_id, asked_s)
    return await job(view, 200 if view.job.status in TERMINAL else 202)


def assignments_json(request: ApiRequest, taken: list[Assignment]) -> list[replies.Assignment]:
    """Leased jobs as their miner gets them."""
    runtime = request.runtime
    now_ms = runtime.clock.now_ms()
    return [assignment_json(assignment, runtime.context, now_ms) for assignment in taken]


def taken_json(request: ApiRequest, taken: Taken) -> replies.Assignments:
    """Leased jobs; without any, why the miner could have had none."""
    jobs_leased = assignments_json(request, taken.assignments)
    if jobs_leased or not taken.room.reason:
        return {"jobs": jobs_leased}
    return {"jobs": [], **room_json(taken.room, request.runtime.clock.now_ms())}


async def complete(request: ApiRequest, principal: Principal, job_id: str, body: JobResult) -> Response:
    """200 with the receipt."""
    row = await acts.complete(request, principal, body.miner_id, body.to_submission(job_id))
    return reply(receipt_json(row))


async def complete_batch(request: ApiRequest, principal: Principal, body: ResultBatch) -> Response:
    """200 with one item for each result."""
    sent = await off_the_loop(body.to_submissions)
    done = await acts.complete_batch(request, principal, body.miner_id, [item for _, item in sent])
    items = [_result_item(job_id, item) for (job_id, _), item in zip(sent, done, strict=True)]
    results: replies.SubmittedResults = {"items": items}
    return reply(orjson.dumps(results, default=str))


def _result_item(job_id: str | None, item: ReceiptRow | AitbcError) -> replies.SubmittedResult:
    if isinstance(item, AitbcError):
        return {"ok": False, "job_id": job_id, "error": error_json(item)}
    return {"ok": True, "job_id": item.job_id, "receipt_id": item.id, "receipt": receipt_json(item)}


async def fail(request: ApiRequest, principal: Principal, job_id: str, body: Failure) -> Response:
    """200 with the job's new status."""
    given_back = await acts.fail(request, principal, job_id, body)
    return reply(replies.FailedJob(job_id=given_back.id, status=given_back.status))
