"""Jobs by resource, the client's side: /v1/jobs."""

from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from aitbc.coordinator.api.acts import jobs as acts
from aitbc.coordinator.api.native.amounts import ait
from aitbc.coordinator.api.native.dialect import CHANGE, CREATE, IDEMPOTENT, NATIVE, READ, READ_ONE, errors
from aitbc.coordinator.api.native.render import job_json, json_bytes, reply
from aitbc.coordinator.api.plumbing.auth import AnyKey, Client, ClientOrAdmin
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import Router
from aitbc.coordinator.api.schemas import replies
from aitbc.coordinator.api.schemas.jobs import AnyJobRequest, JobBatch, JobRequest
from aitbc.coordinator.api.schemas.queries import JobList, Wait
from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.flows.acts import job_lifecycle
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.flows.views import explain as explaining
from aitbc.coordinator.flows.views import on_offer
from aitbc.coordinator.jobs import queries
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
async def submit_job(request: ApiRequest, principal: Client, body: JobRequest) -> Response:
    """Text from a prompt or a chat. The worst-case price is held until the job has ended."""
    return await acts.submit(request, principal, body)


@router.get("/v1/jobs", summary="List jobs", response_model=list[replies.Job], responses=READ)
async def list_jobs(
    request: ApiRequest, principal: ClientOrAdmin, query: Annotated[JobList, Query()]
) -> Response:
    """The account's jobs (everybody's for an admin), newest first. X-Total-Count counts all that match.

    X-Next-Cursor names the next page: unlike `offset` it leaves no job out when others come, end or leave `status`."""
    body, total, cursor = await request.runtime.db.read(_list, principal, query)
    headers = {"X-Total-Count": str(total)}
    return reply(body, headers=headers if cursor is None else {**headers, "X-Next-Cursor": cursor})


def _list(tx: Tx, principal: Principal, query: JobList) -> tuple[bytes, int, str | None]:
    page = queries.listed(
        tx,
        None if principal.is_admin else principal.account_id,
        status=query.status,
        limit=query.limit,
        offset=query.offset,
        before_id=query.cursor,
    )
    asked, answered = queries.payloads(tx, [row.id for row in page.rows])
    shown = json_bytes([job_json(row, asked.get(row.id), answered.get(row.id)) for row in page.rows])
    return shown, page.total, page.next_before


@router.post(
    "/v1/jobs/batch",
    summary="Submit up to 1000 jobs",
    response_model=replies.Batch,
    responses=CREATE,
    openapi_extra=IDEMPOTENT,
)
async def submit_batch(request: ApiRequest, principal: Client, body: JobBatch) -> Response:
    """Each is admitted or refused by itself, in order."""
    return await acts.submit_batch(request, principal, body)


@router.post(
    "/v1/jobs/quote",
    summary="What a job would cost",
    response_model=replies.Quote,
    responses=errors(400, 401, 403, 413, 429, 503),
)
async def quote_job(request: ApiRequest, principal: Client, body: AnyJobRequest) -> Response:
    """Eligible miners, prices and expected wait. Nothing is created and nothing is held."""
    quote = await request.runtime.db.read(_quote, request.runtime.context, body)
    asks = quote.asks_units
    return reply(
        {
            "eligible_miners": quote.eligible_miners,
            "price_per_1k": asks and {"min": ait(asks[0]), "max": ait(asks[1]), "median": ait(asks[2])},
            "max_units": quote.max_units,
            "worst_case_price": ait(quote.worst_case_units),
            "typical_price": None if quote.typical_units is None else ait(quote.typical_units),
            "expected_wait_s": quote.expected_wait_s,
            "reasons": quote.reasons,
        }
    )


def _quote(tx: Tx, ctx: FlowContext, body: AnyJobRequest) -> explaining.Quote:
    job_type = body.unnamed_model()
    model = None if job_type is None else on_offer.default_model(tx, job_type)
    return explaining.quote(tx, ctx, body.to_spec(model))


@router.get("/v1/jobs/{job_id}", summary="Get job details", response_model=replies.Job, responses=READ_ONE)
async def get_job(request: ApiRequest, principal: AnyKey, job_id: str) -> Response:
    """For the job's client, the miner that holds or answered it, and admins."""
    runtime = request.runtime
    return reply(await runtime.db.read(acts.read_visible, runtime.context, principal, job_id))


@router.post("/v1/jobs/{job_id}/cancel", summary="Cancel a job", response_model=replies.Job, responses=CHANGE)
async def cancel_job(request: ApiRequest, principal: ClientOrAdmin, job_id: str) -> Response:
    """Ends a pending or running job; all that was held for it goes back."""
    return reply(await request.runtime.db.write(_cancel, request, principal, job_id))


def _cancel(tx: Tx, request: ApiRequest, principal: Principal, job_id: str) -> bytes:
    ctx = request.runtime.context
    return acts.shown(tx, ctx, job_lifecycle.cancel(tx, ctx, principal, job_id))


@router.get(
    "/v1/jobs/{job_id}/result",
    summary="Get a job's result",
    response_model=replies.Result,
    responses={202: {"model": replies.Result, "description": "Not ended yet"}, **READ_ONE},
)
async def get_result(
    request: ApiRequest, principal: ClientOrAdmin, job_id: str, query: Annotated[Wait, Query()]
) -> Response:
    """200 once the job has ended, 202 before; with `wait` it answers when the job ends."""
    return await acts.result(request, principal, job_id, query.wait)


@router.get(
    "/v1/jobs/{job_id}/events",
    summary="A job's history",
    response_model=list[replies.JobEvent],
    responses=READ_ONE,
)
async def list_events(request: ApiRequest, principal: AnyKey, job_id: str) -> Response:
    """What happened to the job, oldest first."""
    return reply(await request.runtime.db.read(_events, principal, job_id))


def _events(tx: Tx, principal: Principal, job_id: str) -> bytes:
    job_lifecycle.visible_job(tx, principal, job_id)
    return json_bytes(
        [
            {
                "seq": event.seq,
                "at": rfc3339(event.at_ms),
                "type": event.type,
                "actor": event.actor,
                "status": event.status,
                "detail": {
                    name: value
                    for name, value in (("cause", event.cause), ("miner_id", event.miner_id))
                    if value
                },
            }
            for event in queries.events(tx, job_id)
        ]
    )


@router.get(
    "/v1/jobs/{job_id}/explain",
    summary="Why a job waits, runs or ended",
    response_model=replies.Explanation,
    responses=READ_ONE,
)
async def explain_job(request: ApiRequest, principal: ClientOrAdmin, job_id: str) -> Response:
    """Counts of miners by what keeps each from the job, and the nearest change that would make it run."""
    found = await request.runtime.db.read(explaining.explain, request.runtime.context, principal, job_id)
    change = found.nearest_change
    return reply({**found._asdict(), "nearest_change": None if change is None else change._asdict()})
