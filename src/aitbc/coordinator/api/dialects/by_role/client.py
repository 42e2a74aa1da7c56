"""Jobs by role, the client's side: /v1/client."""

from starlette.responses import Response

from aitbc.coordinator.api.acts import jobs as acts
from aitbc.coordinator.api.native.dialect import CREATE, IDEMPOTENT, NATIVE, READ_ONE
from aitbc.coordinator.api.native.render import json_bytes, receipt_json, reply
from aitbc.coordinator.api.plumbing.auth import Client, ClientOrAdmin
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import Router
from aitbc.coordinator.api.schemas import replies
from aitbc.coordinator.api.schemas.jobs import RoleJobRequest
from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.chain import proofs
from aitbc.coordinator.database import Tx
from aitbc.coordinator.jobs import texts as job_texts
from aitbc.coordinator.receipts import service as receipts

router = Router(NATIVE, tags=["Client"])


@router.post(
    "/v1/client/jobs",
    summary="Submit a new computation job",
    status_code=201,
    response_model=replies.Job,
    responses=CREATE,
    openapi_extra=IDEMPOTENT,
)
async def submit_job(request: ApiRequest, principal: Client, body: RoleJobRequest) -> Response:
    """Any job type. The worst-case price is held until the job has ended."""
    return await acts.submit(request, principal, body)


@router.get(
    "/v1/client/jobs/{job_id}/status",
    summary="Job status and progress",
    response_model=replies.Job,
    responses=READ_ONE,
)
async def job_status(request: ApiRequest, principal: ClientOrAdmin, job_id: str) -> Response:
    """The client's own job."""
    runtime = request.runtime
    return reply(await runtime.db.read(acts.read_owned, runtime.context, principal, job_id))


@router.get(
    "/v1/client/jobs/{job_id}/receipts",
    summary="Receipts of a job",
    response_model=list[replies.Receipt],
    responses=READ_ONE,
)
async def job_receipts(request: ApiRequest, principal: ClientOrAdmin, job_id: str) -> Response:
    """The job's one receipt, with the result that it covers; none before the job is completed.

    Its proof of inclusion is there once a block has sealed it.
    """
    return reply(await request.runtime.read_log(_receipts, principal, job_id))


def _receipts(tx: Tx, principal: Principal, job_id: str) -> bytes:
    acts.owned(tx, principal, job_id)
    row = receipts.of_job(tx, job_id)
    if row is None:
        return json_bytes([])
    return json_bytes(
        [receipt_json(row, job_texts.result_text(tx, job_id), proofs.proof_if_sealed(tx, row.id))]
    )
