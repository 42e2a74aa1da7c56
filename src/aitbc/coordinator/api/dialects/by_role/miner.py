"""Jobs by role, the miner's side: /v1/miner."""

from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from aitbc.coordinator.api.native import jobs as native
from aitbc.coordinator.api.native import miners as native_miners
from aitbc.coordinator.api.native.dialect import CHANGE, CREATE, IDEMPOTENT, NATIVE, READ_ONE
from aitbc.coordinator.api.native.render import reply
from aitbc.coordinator.api.plumbing.auth import MinerKey
from aitbc.coordinator.api.plumbing.polling import wait_for, wait_s
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import Router
from aitbc.coordinator.api.schemas import replies
from aitbc.coordinator.api.schemas.miners import (
    HeartbeatReport,
    MinerName,
    ResultBatch,
    RoleFailure,
    RoleJobResult,
    RoleMinerRegistration,
)
from aitbc.coordinator.api.schemas.queries import OwnMiner, TakeJobs
from aitbc.coordinator.flows.acts import job_lifecycle, registration
from aitbc.coordinator.flows.views import miners
from aitbc.coordinator.process.long_polls import take
from aitbc.core.clock import rfc3339

router = Router(NATIVE, tags=["Miner"])


@router.post(
    "/v1/miner/register",
    summary="Register as a compute provider",
    response_model=replies.Miner,
    responses=CREATE,
    openapi_extra=IDEMPOTENT,
)
async def register(request: ApiRequest, principal: MinerKey, body: RoleMinerRegistration) -> Response:
    """Without a miner_id a new one is made. A known one of the same account is updated."""
    return await native_miners.register(request, principal, body, 200)


@router.post(
    "/v1/miner/heartbeat", summary="Send a heartbeat", response_model=replies.Heartbeat, responses=CHANGE
)
async def heartbeat(request: ApiRequest, principal: MinerKey, body: HeartbeatReport) -> Response:
    """Extends the leases of what the miner runs, and names the jobs that it need not go on with."""
    runtime = request.runtime
    beat = await runtime.db.write(
        registration.heartbeat,
        runtime.context,
        principal,
        miner_id=body.miner_id,
        status=body.status,
        load=None if body.load is None else body.load.model_dump(exclude_none=True),
        running=body.jobs,
        session=body.session_id,
        progress=body.progress,
    )
    return reply(
        replies.Heartbeat(
            {
                "status": beat.miner.status,
                "leases": [
                    {"job_id": job, "lease_expires_at": rfc3339(end_ms)} for job, end_ms in beat.leases
                ],
                "cancelled": beat.cancelled,
                "server_time": rfc3339(beat.at_ms),
            }
        )
    )


@router.get(
    "/v1/miner/status",
    summary="How one's own miner stands",
    response_model=replies.MinerState,
    responses=READ_ONE,
)
async def status(request: ApiRequest, principal: MinerKey, query: Annotated[OwnMiner, Query()]) -> Response:
    """What it offers and runs, and why it gets no work where it gets none."""
    runtime = request.runtime
    state = await runtime.db.read(miners.state, runtime.context, principal, query.miner_id)
    return reply(native_miners.state_json(state))


@router.post(
    "/v1/miner/deregister",
    summary="Leave the network",
    response_model=replies.Deregistered,
    responses=CHANGE,
)
async def deregister(request: ApiRequest, principal: MinerKey, body: MinerName) -> Response:
    """What the miner held goes back into the queue. It may register again."""
    runtime = request.runtime
    count = await runtime.db.write(
        job_lifecycle.leave, runtime.context, principal, body.miner_id, body.session_id
    )
    return reply(replies.Deregistered(status="inactive", requeued=count))


@router.get(
    "/v1/miner/jobs", summary="Fetch available jobs", response_model=replies.Assignments, responses=READ_ONE
)
async def take_jobs(
    request: ApiRequest, principal: MinerKey, query: Annotated[TakeJobs, Query()]
) -> Response:
    """Leases jobs to the miner: first those that it holds already and does not name in `known`."""
    waiting_s = wait_s(request, query.wait)
    known = set(query.known.split(",")) if query.known else set()
    taking = take(request.runtime, principal, query.miner_id, query.max, known, waiting_s, query.session_id)
    taken = await (wait_for(request, principal, taking) if waiting_s > 0 else taking)
    return reply(native.taken_json(request, taken))


@router.post(
    "/v1/miner/result", summary="Submit a job result", response_model=replies.Receipt, responses=CHANGE
)
async def submit_result(request: ApiRequest, principal: MinerKey, body: RoleJobResult) -> Response:
    """Ends the job, settles its money and answers with the receipt. Sent again, the first receipt."""
    return await native.complete(request, principal, body.job_id, body)


@router.post(
    "/v1/miner/results",
    summary="Submit up to 1000 results",
    response_model=replies.SubmittedResults,
    responses=CHANGE,
)
async def submit_results(request: ApiRequest, principal: MinerKey, body: ResultBatch) -> Response:
    """Each is accepted or refused by itself, in order."""
    return await native.complete_batch(request, principal, body)


@router.post("/v1/miner/fail", summary="Give a job back", response_model=replies.FailedJob, responses=CHANGE)
async def fail(request: ApiRequest, principal: MinerKey, body: RoleFailure) -> Response:
    """The job is tried again, by another miner first, or fails where that is of no use."""
    return await native.fail(request, principal, body.job_id, body)
