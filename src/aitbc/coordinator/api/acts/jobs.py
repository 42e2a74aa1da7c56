"""What is done with jobs, in any dialect: one function for each act, from what was sent to what came of it.

None of them knows what an answer looks like: they give rows and views, which a dialect shows.
"""

from collections.abc import Sequence

from aitbc.coordinator.api.plumbing.polling import wait_for, wait_s
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import off_the_loop
from aitbc.coordinator.api.schemas.jobs import JobBatch, Submission
from aitbc.coordinator.api.schemas.miners import Failure
from aitbc.coordinator.api.schemas.queries import JobList
from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.errors import (
    AitbcError,
    InvalidRequest,
    ResultTooLarge,
    SignatureInvalid,
    SignatureRequired,
)
from aitbc.coordinator.flows.acts import completion, job_lifecycle
from aitbc.coordinator.flows.acts.completion import ResultSubmission
from aitbc.coordinator.flows.acts.job_lifecycle import RefusedTry
from aitbc.coordinator.flows.shared import on_offer, own_jobs
from aitbc.coordinator.flows.shared.job_views import JobView
from aitbc.coordinator.flows.views import explain
from aitbc.coordinator.flows.views import jobs as views
from aitbc.coordinator.flows.views.jobs import ListedJobs
from aitbc.coordinator.jobs.rows import JobRow, JobSpec
from aitbc.coordinator.process.long_polls import job_change
from aitbc.coordinator.process.runtime import Runtime
from aitbc.coordinator.receipts.service import ReceiptRow

REFUSED_RESULTS = (InvalidRequest, ResultTooLarge, SignatureInvalid, SignatureRequired)


async def model_for(request: ApiRequest, body: Submission) -> str | None:
    """The model of a submission that names none; None where it names one."""
    job_type = body.unnamed_model()
    return None if job_type is None else await request.runtime.db.read(on_offer.default_model, job_type)


async def batch_specs(request: ApiRequest, body: JobBatch) -> list[JobSpec | AitbcError]:
    """One spec for each job of a batch, or what is wrong with it."""
    models = {
        job_type: await request.runtime.db.read(on_offer.default_model, job_type)
        for job_type in body.unnamed_models()
    }
    return await off_the_loop(body.to_specs, models)


async def quote(request: ApiRequest, body: Submission) -> explain.Quote:
    """What a submission would cost."""
    spec = body.to_spec(body.canonical(await model_for(request, body)))
    return await request.runtime.db.read(explain.quote, request.runtime.context, spec)


async def listed(request: ApiRequest, principal: Principal, query: JobList) -> ListedJobs:
    """A page of the account's jobs, of everybody's for an admin."""
    return await request.runtime.db.read(
        views.listed,
        principal,
        status=query.status,
        limit=query.limit,
        offset=query.offset,
        before_id=query.cursor,
    )


async def result(request: ApiRequest, principal: Principal, job_id: str, asked_s: float) -> JobView:
    """The job once it has ended, or as it is when so much time has passed."""
    runtime = request.runtime
    waiting_s = wait_s(request, asked_s)
    await runtime.db.read(own_jobs.owned, principal, job_id)
    if waiting_s > 0:
        await wait_for(request, principal, job_change(runtime, principal, job_id, waiting_s))
    return await runtime.db.read(views.owned, runtime.context, principal, job_id)


async def complete(
    request: ApiRequest, principal: Principal, miner_id: str | None, sent: ResultSubmission
) -> ReceiptRow:
    """The receipt. A result that is refused counts as a try of the job."""
    runtime = request.runtime
    try:
        return await runtime.db.write(completion.complete, runtime.context, principal, miner_id, sent)
    except REFUSED_RESULTS as error:
        await _count_refused(runtime, principal, miner_id, [(sent, error)])
        raise


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
    sent: list[ResultSubmission | AitbcError],
) -> list[ReceiptRow | AitbcError]:
    """A receipt for each result, or what is wrong with it."""
    runtime = request.runtime
    done = await runtime.db.write(completion.complete_batch, runtime.context, principal, miner_id, sent)
    refused = [
        (item, error)
        for item, error in zip(sent, done, strict=True)
        if isinstance(item, ResultSubmission) and isinstance(error, REFUSED_RESULTS)
    ]
    await _count_refused(runtime, principal, miner_id, refused)
    return done


async def fail(request: ApiRequest, principal: Principal, job_id: str, body: Failure) -> JobRow:
    """The job, given back."""
    runtime = request.runtime
    cause, message = body.said()
    return await runtime.db.write(
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
