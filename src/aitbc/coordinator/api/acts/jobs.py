"""What is done with jobs, in any dialect: one function for each act, from what was sent to what came of it.

None of them knows what an answer looks like: they give rows and views, which a dialect shows.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from aitbc.coordinator.api.plumbing.polling import wait_for, wait_s
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import off_the_loop
from aitbc.coordinator.api.schemas.jobs import JobBatch, Submission
from aitbc.coordinator.api.schemas.miners import Failure
from aitbc.coordinator.api.schemas.queries import JobList
from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
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
from aitbc.coordinator.flows.shared import own_jobs
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.flows.views import explain, on_offer
from aitbc.coordinator.flows.views.on_offer import Warned
from aitbc.coordinator.jobs import queries
from aitbc.coordinator.jobs import texts as job_texts
from aitbc.coordinator.jobs.rows import JobRow, JobSpec
from aitbc.coordinator.process.long_polls import job_change
from aitbc.coordinator.process.runtime import Runtime
from aitbc.coordinator.receipts.service import ReceiptRow
from aitbc.core.jobspec import Request

REFUSED_RESULTS = (InvalidRequest, ResultTooLarge, SignatureInvalid, SignatureRequired)


class JobView(NamedTuple):
    """A job, and what of it may be shown to whom it is shown.

    The request as it was submitted just now, or its canonical JSON as it is stored; None where it is not shown.
    `position`: its place in the queue, where it waits. `warned`: what keeps it there.
    """

    job: JobRow
    request: Request | str | None
    result_text: str | None = None
    position: int | None = None
    warned: Sequence[Warned] = ()


class ListedJobs(NamedTuple):
    """A page of jobs, how many there are, and where the next page begins."""

    views: list[JobView]
    total: int
    next_before: str | None


async def model_for(request: ApiRequest, body: Submission) -> str | None:
    """The model of a submission that names none; None where it names one."""
    job_type = body.unnamed_model()
    return None if job_type is None else await request.runtime.db.read(on_offer.default_model, job_type)


def submit(
    tx: Tx, ctx: FlowContext, principal: Principal, request: Request, spec: JobSpec, ignored: list[str]
) -> JobView:
    """Admits a job. `spec` is of `request`; `ignored`: names of fields that were sent and mean nothing."""
    job = job_lifecycle.submit(tx, ctx, principal, spec)
    warned = on_offer.warnings(tx, ctx.on_offer, job)
    if ignored:
        warned.append(on_offer.fields_ignored(ignored))
    return JobView(job, request, warned=warned)


async def batch_specs(request: ApiRequest, body: JobBatch) -> list[JobSpec | AitbcError]:
    """One spec for each job of a batch, or what is wrong with it."""
    models = {
        job_type: await request.runtime.db.read(on_offer.default_model, job_type)
        for job_type in body.unnamed_models()
    }
    return await off_the_loop(body.to_specs, models)


def submit_batch(
    tx: Tx, ctx: FlowContext, principal: Principal, specs: list[JobSpec | AitbcError]
) -> list[JobView | AitbcError]:
    """Admits or refuses each job by itself, in order."""
    return [
        item if isinstance(item, AitbcError) else JobView(item, None, warned=_warnings(tx, ctx, item))
        for item in job_lifecycle.submit_batch(tx, ctx, principal, specs)
    ]


def _warnings(tx: Tx, ctx: FlowContext, job: JobRow) -> list[Warned]:
    return on_offer.warnings(tx, ctx.on_offer, job)


def quote(tx: Tx, ctx: FlowContext, body: Submission) -> explain.Quote:
    """What a submission would cost."""
    job_type = body.unnamed_model()
    model = None if job_type is None else on_offer.default_model(tx, job_type)
    return explain.quote(tx, ctx, body.to_spec(body.canonical(model)))


def read_visible(tx: Tx, ctx: FlowContext, principal: Principal, job_id: str) -> JobView:
    """A job for its client, its miner or an admin. Raises JobNotFound.

    To its miner what was asked is shown while it holds the lease, and what was answered not at all: it has
    both, and a key that is lost later must not tell what was asked for weeks.
    """
    job = own_jobs.visible(tx, principal, job_id)
    if own_jobs.is_owner(principal, job):
        return shown(tx, ctx, job)
    return JobView(job, job_texts.request_text(tx, job.id) if job.status == "running" else None)


def read_owned(tx: Tx, ctx: FlowContext, principal: Principal, job_id: str) -> JobView:
    """A job for its client or an admin. Raises JobNotFound."""
    return shown(tx, ctx, own_jobs.owned(tx, principal, job_id))


def shown(tx: Tx, ctx: FlowContext, job: JobRow) -> JobView:
    """The job with its request, result, place in the queue, and what keeps it there."""
    result = job_texts.result_text(tx, job.id) if job.status == "completed" else None
    position = queries.position(tx, job) if job.status == "pending" else None
    warned = on_offer.lately(tx, ctx.on_offer, job)
    return JobView(job, job_texts.request_text(tx, job.id), result, position, warned)


def listed(tx: Tx, principal: Principal, query: JobList) -> ListedJobs:
    """The account's jobs, everybody's for an admin."""
    page = queries.listed(
        tx,
        None if principal.is_admin else principal.account_id,
        status=query.status,
        limit=query.limit,
        offset=query.offset,
        before_id=query.cursor,
        reservation=principal.reservation,
    )
    asked, answered = queries.payloads(tx, [row.id for row in page.rows])
    views = [JobView(row, asked.get(row.id), answered.get(row.id)) for row in page.rows]
    return ListedJobs(views, page.total, page.next_before)


def cancel(tx: Tx, ctx: FlowContext, principal: Principal, job_id: str) -> JobView:
    """Ends a job that has not ended."""
    return shown(tx, ctx, job_lifecycle.cancel(tx, ctx, principal, job_id))


def history(tx: Tx, principal: Principal, job_id: str) -> list[Any]:
    """What happened to a job, oldest first. Raises JobNotFound."""
    own_jobs.visible(tx, principal, job_id)
    return queries.events(tx, job_id)


async def result(request: ApiRequest, principal: Principal, job_id: str, asked_s: float) -> JobView:
    """The job once it has ended, or as it is when so much time has passed."""
    runtime = request.runtime
    waiting_s = wait_s(request, asked_s)
    await runtime.db.read(own_jobs.owned, principal, job_id)
    if waiting_s > 0:
        await wait_for(request, principal, job_change(runtime, principal, job_id, waiting_s))
    return await runtime.db.read(read_owned, runtime.context, principal, job_id)


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
