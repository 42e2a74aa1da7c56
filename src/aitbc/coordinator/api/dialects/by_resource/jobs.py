"""Jobs by resource, the client's side: /v1/jobs."""

from typing import Annotated, Any

from fastapi import Query
from starlette.responses import Response

from aitbc.coordinator.api.acts import jobs as acts
from aitbc.coordinator.api.native import jobs as native
from aitbc.coordinator.api.native.amounts import ait
from aitbc.coordinator.api.native.dialect import CHANGE, CREATE, IDEMPOTENT, NATIVE, READ, READ_ONE, errors
from aitbc.coordinator.api.native.render import job_json, reply
from aitbc.coordinator.api.plumbing.auth import JobClient, JobClientOrAdmin, JobKey
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import Router
from aitbc.coordinator.api.schemas import replies
from aitbc.coordinator.api.schemas.jobs import AnyJobRequest, JobBatch, JobRequest
from aitbc.coordinator.api.schemas.queries import JobList, Wait
from aitbc.coordinator.flows.acts import job_lifecycle
from aitbc.coordinator.flows.views import explain as explaining
from aitbc.coordinator.flows.views import jobs as views
from aitbc.core.clock import rfc3339

router = Router(NATIVE, tags=["Jobs"])


@router.post(
    "/v1/jobs",
    summary="Submit a new job",
    status_code=201,
    response_model=replies.Job,
    responses=CREATE,
    openapi_extra=IDEMPOTENT,
)
async def submit_job(request: ApiRequest, principal: JobClient, body: JobRequest) -> Response:
    """Text from a prompt or a chat. The worst-case price is held until the job has ended."""
    return await native.submit(request, principal, body)


@router.get("/v1/jobs", summary="List jobs", response_model=list[replies.Job], responses=READ)
async def list_jobs(
    request: ApiRequest, principal: JobClientOrAdmin, query: Annotated[JobList, Query()]
) -> Response:
    """The account's jobs (everybody's for an admin), newest first. X-Total-Count counts all that match.

    X-Next-Cursor names the next page: unlike `offset` it leaves no job out when others come, end or leave `status`."""
    page = await acts.listed(request, principal, query)
    headers = {"X-Total-Count": str(page.total)}
    if page.next_before is not None:
        headers["X-Next-Cursor"] = page.next_before
    return reply([job_json(view) for view in page.views], headers=headers)


@router.post(
    "/v1/jobs/batch",
    summary="Submit up to 1000 jobs",
    response_model=replies.Batch,
    responses=CREATE,
    openapi_extra=IDEMPOTENT,
)
async def submit_batch(request: ApiRequest, principal: JobClient, body: JobBatch) -> Response:
    """Each is admitted or refused by itself, in order."""
    return await native.submit_batch(request, principal, body)


@router.post(
    "/v1/jobs/quote",
    summary="What a job would cost",
    response_model=replies.Quote,
    responses=errors(400, 401, 403, 413, 429, 503),
)
async def quote_job(request: ApiRequest, principal: JobClient, body: AnyJobRequest) -> Response:
    """Eligible miners, prices and expected wait. Nothing is created and nothing is held."""
    quote = await acts.quote(request, body)
    asks = quote.asks_units
    return reply(
        replies.Quote(
            {
                "eligible_miners": quote.eligible_miners,
                "price_per_1k": {"min": ait(asks[0]), "max": ait(asks[1]), "median": ait(asks[2])}
                if asks
                else None,
                "max_units": quote.max_units,
                "worst_case_price": ait(quote.worst_case_units),
                "typical_price": None if quote.typical_units is None else ait(quote.typical_units),
                "expected_wait_s": quote.expected_wait_s,
                "reasons": quote.reasons,
            }
        )
    )


@router.get("/v1/jobs/{job_id}", summary="Get job details", response_model=replies.Job, responses=READ_ONE)
async def get_job(request: ApiRequest, principal: JobKey, job_id: str) -> Response:
    """For the job's client, the miner that holds or answered it, and admins."""
    runtime = request.runtime
    return await native.job(await runtime.db.read(views.visible, runtime.context, principal, job_id))


@router.post("/v1/jobs/{job_id}/cancel", summary="Cancel a job", response_model=replies.Job, responses=CHANGE)
async def cancel_job(request: ApiRequest, principal: JobClientOrAdmin, job_id: str) -> Response:
    """Ends a pending or running job; all that was held for it goes back."""
    runtime = request.runtime
    return await native.job(
        await runtime.db.write(job_lifecycle.cancel_shown, runtime.context, principal, job_id)
    )


@router.get(
    "/v1/jobs/{job_id}/result",
    summary="Get a job's result",
    response_model=replies.Result,
    responses={202: {"model": replies.Result, "description": "Not ended yet"}, **READ_ONE},
)
async def get_result(
    request: ApiRequest, principal: JobClientOrAdmin, job_id: str, query: Annotated[Wait, Query()]
) -> Response:
    """200 once the job has ended, 202 before; with `wait` it answers when the job ends."""
    return await native.result(request, principal, job_id, query.wait)


@router.get(
    "/v1/jobs/{job_id}/events",
    summary="A job's history",
    response_model=list[replies.JobEvent],
    responses=READ_ONE,
)
async def list_events(request: ApiRequest, principal: JobKey, job_id: str) -> Response:
    """What happened to the job, oldest first."""
    events = await request.runtime.db.read(views.history, principal, job_id)
    return reply([_event_json(event) for event in events])


def _event_json(event: Any) -> replies.JobEvent:
    told = (("cause", event.cause), ("miner_id", event.miner_id))
    return {
        "seq": event.seq,
        "at": rfc3339(event.at_ms),
        "type": event.type,
        "actor": event.actor,
        "status": event.status,
        "detail": {name: value for name, value in told if value},
    }


@router.get(
    "/v1/jobs/{job_id}/explain",
    summary="Why a job waits, runs or ended",
    response_model=replies.Explanation,
    responses=READ_ONE,
)
async def explain_job(request: ApiRequest, principal: JobClientOrAdmin, job_id: str) -> Response:
    """Counts of miners by what keeps each from the job, and the nearest change that would make it run."""
    found = await request.runtime.db.read(explaining.explain, request.runtime.context, principal, job_id)
    change = found.nearest_change
    shown: replies.Explanation = {
        "status": found.status,
        "eligible_miners": found.eligible_miners,
        "registered_miners": found.registered_miners,
        "reasons": found.reasons,
        "nearest_change": None if change is None else {"change": change.change, "text": change.text},
        "queue_position": found.queue_position,
        "summary": found.summary,
    }
    return reply(shown)
