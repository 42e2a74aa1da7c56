"""Jobs by role, the client's side: /v1/client."""

from starlette.responses import Response

from aitbc.coordinator.api.native import jobs as native
from aitbc.coordinator.api.native.dialect import CREATE, IDEMPOTENT, NATIVE, READ_ONE
from aitbc.coordinator.api.native.render import receipt_json, reply
from aitbc.coordinator.api.plumbing.auth import JobClient, JobClientOrAdmin
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import Router
from aitbc.coordinator.api.schemas import replies
from aitbc.coordinator.api.schemas.jobs import RoleJobRequest
from aitbc.coordinator.flows.views import jobs as views
from aitbc.coordinator.flows.views import log_entries

router = Router(NATIVE, tags=["Client"])


@router.post(
    "/v1/client/jobs",
    summary="Submit a new computation job",
    status_code=201,
    response_model=replies.Job,
    responses=CREATE,
    openapi_extra=IDEMPOTENT,
)
async def submit_job(request: ApiRequest, principal: JobClient, body: RoleJobRequest) -> Response:
    """Any job type. The worst-case price is held until the job has ended."""
    return await native.submit(request, principal, body)


@router.get(
    "/v1/client/jobs/{job_id}/status",
    summary="Job status and progress",
    response_model=replies.Job,
    responses=READ_ONE,
)
async def job_status(request: ApiRequest, principal: JobClientOrAdmin, job_id: str) -> Response:
    """The client's own job."""
    runtime = request.runtime
    return await native.job(await runtime.db.read(views.owned, runtime.context, principal, job_id))


@router.get(
    "/v1/client/jobs/{job_id}/receipts",
    summary="Receipts of a job",
    response_model=list[replies.Receipt],
    responses=READ_ONE,
)
async def job_receipts(request: ApiRequest, principal: JobClientOrAdmin, job_id: str) -> Response:
    """The job's one receipt, with the result that it covers; none before the job is completed.

    Its proof of inclusion is there once a block has sealed it.
    """
    found = await request.runtime.read_log(log_entries.receipt_of_job, principal, job_id)
    return reply([] if found is None else [receipt_json(*found)])
