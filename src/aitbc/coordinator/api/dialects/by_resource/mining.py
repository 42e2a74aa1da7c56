"""Jobs by resource, the miner's side: available, claim, complete, fail; and the miners themselves."""

from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from aitbc.coordinator.api.native import jobs as native
from aitbc.coordinator.api.native import miners as native_miners
from aitbc.coordinator.api.native.dialect import (
    CHANGE,
    CREATE,
    IDEMPOTENT,
    NATIVE,
    PUBLIC,
    PUBLIC_ONE,
    READ_ONE,
)
from aitbc.coordinator.api.native.render import job_json, listed_miner_json, miner_record_json, reply
from aitbc.coordinator.api.plumbing.auth import MinerKey
from aitbc.coordinator.api.plumbing.polling import wait_for, wait_s
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import Router
from aitbc.coordinator.api.schemas import replies
from aitbc.coordinator.api.schemas.miners import Failure, JobResult, MinerName, MinerRegistration
from aitbc.coordinator.api.schemas.queries import AvailableJob, MinerList
from aitbc.coordinator.flows.acts import dispatch
from aitbc.coordinator.flows.shared.job_views import JobView
from aitbc.coordinator.flows.views import miners
from aitbc.coordinator.process.long_polls import offer

router = Router(NATIVE, tags=["Miners"])


@router.get(
    "/v1/jobs/available",
    summary="Get available jobs for miners",
    response_model=replies.Job | None,
    responses=READ_ONE,
)
async def available_job(
    request: ApiRequest, principal: MinerKey, query: Annotated[AvailableJob, Query()]
) -> Response:
    """The job that the miner could claim now, or null. Nothing is leased, so what is asked is not shown:
    `prompt` and `messages` are null, `parameters` and `params` empty."""
    waiting_s = wait_s(request, query.wait)
    offering = offer(request.runtime, principal, query.miner_id, waiting_s, query.session_id)
    offered = await (wait_for(request, principal, offering) if waiting_s > 0 else offering)
    return reply(None if offered.job is None else job_json(JobView(offered.job, None)))


@router.post(
    "/v1/jobs/{job_id}/claim",
    summary="Claim a job for processing",
    response_model=replies.Assignment,
    responses=CHANGE,
)
async def claim_job(request: ApiRequest, principal: MinerKey, job_id: str, body: MinerName) -> Response:
    """Leases the job to the miner."""
    runtime = request.runtime
    assignment = await runtime.db.write(
        dispatch.claim, runtime.context, principal, job_id, body.miner_id, body.session_id
    )
    return reply(native.assignments_json(request, [assignment])[0])


@router.post(
    "/v1/jobs/{job_id}/complete",
    summary="Submit job result",
    response_model=replies.Receipt,
    responses=CHANGE,
)
async def complete_job(request: ApiRequest, principal: MinerKey, job_id: str, body: JobResult) -> Response:
    """Ends the job, settles its money and answers with the receipt. Sent again, the first receipt."""
    return await native.complete(request, principal, job_id, body)


@router.post(
    "/v1/jobs/{job_id}/fail",
    summary="Give a job back",
    response_model=replies.FailedJob,
    responses=CHANGE,
)
async def fail_job(request: ApiRequest, principal: MinerKey, job_id: str, body: Failure) -> Response:
    """The job is tried again, by another miner first, or fails where that is of no use."""
    return await native.fail(request, principal, job_id, body)


@router.post(
    "/v1/miners/register",
    summary="Register a miner",
    status_code=201,
    response_model=replies.Miner,
    responses=CREATE,
    openapi_extra=IDEMPOTENT,
)
async def register_miner(request: ApiRequest, principal: MinerKey, body: MinerRegistration) -> Response:
    """A known miner_id of the same account is updated; another account's is refused."""
    return await native_miners.register(request, principal, body, 201)


@router.get(
    "/v1/miners",
    summary="List miners",
    response_model=list[replies.ListedMiner],
    responses=PUBLIC,
)
async def list_miners(request: ApiRequest, query: Annotated[MinerList, Query()]) -> Response:
    """What each miner serves, at which price. Public; in the order of their ids. X-Next-Cursor names the next page."""
    page = await request.runtime.db.read(
        miners.listed,
        status=query.status,
        limit=query.limit,
        offset=query.offset,
        after_id=query.cursor,
    )
    headers = None if page.next_after is None else {"X-Next-Cursor": page.next_after}
    return reply([listed_miner_json(miner) for miner in page.miners], headers=headers)


@router.get(
    "/v1/miners/{miner_id}",
    summary="A miner",
    response_model=replies.MinerRecord,
    responses=PUBLIC_ONE,
)
async def get_miner(request: ApiRequest, miner_id: str) -> Response:
    """What it serves, and its reputation: from facts alone, with the formula and what each part stands on. Public."""
    return reply(miner_record_json(await request.runtime.db.read(miners.record, miner_id)))
