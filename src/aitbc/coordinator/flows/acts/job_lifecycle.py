"""Submit, cancel and fail: a job's moves together with its money, each in one transaction."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import (
    AitbcError,
    FreeJobsUsedUp,
    InputQuotaExceeded,
    InvalidRequest,
    JobNotCancellable,
    JobNotFound,
    JobNotRunning,
    LeaseLost,
    QueueFull,
    ResultTooLarge,
)
from aitbc.coordinator.flows.shared import escrow, job_views, on_offer, own_jobs, parting, rentals, retries
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.flows.shared.job_views import JobView
from aitbc.coordinator.jobs import free
from aitbc.coordinator.jobs import service as jobs
from aitbc.coordinator.jobs import texts as job_texts
from aitbc.coordinator.jobs.models import LARGE_INPUT_BYTES
from aitbc.coordinator.jobs.rows import JobRow, JobSpec
from aitbc.coordinator.miners import service as miners
from aitbc.coordinator.miners import sessions
from aitbc.coordinator.parameters import service as parameters
from aitbc.coordinator.payments import service as payments
from aitbc.core import metering
from aitbc.core.causes import Cause
from aitbc.core.clock import rfc3339
from aitbc.core.ids import new_id
from aitbc.core.jobspec import Request, job_type_named
from aitbc.core.money import price_units

MESSAGE_CHARS = 500


def submit(tx: Tx, ctx: FlowContext, principal: Principal, spec: JobSpec) -> JobRow:
    """Creates the job and holds its worst-case price.

    Raises InsufficientFunds, KeyLimitExceeded, QueueFull, InputQuotaExceeded, FreeJobsUsedUp; with a booking's key
    BookingEnded and BookingNotBegun.
    """
    _require_free_jobs(tx, ctx, principal)
    if not jobs.has_room(tx, principal.account_id, ctx.max_pending_jobs):
        raise _queue_full(tx, ctx, principal)
    _require_space(tx, ctx, principal, spec)
    return _submit(tx, ctx, principal, spec, parameters.usual(tx, "default_max_price_per_1k_tokens"))


def submit_shown(
    tx: Tx, ctx: FlowContext, principal: Principal, request: Request, spec: JobSpec, ignored: list[str]
) -> JobView:
    """`submit`; the job with what its client is warned of. `spec` is of `request`; `ignored`: names of fields that
    were sent and mean nothing."""
    view = job_views.admitted(tx, ctx, submit(tx, ctx, principal, spec), request)
    return view._replace(warned=[*view.warned, on_offer.fields_ignored(ignored)]) if ignored else view


def submit_batch(
    tx: Tx, ctx: FlowContext, principal: Principal, specs: Sequence[JobSpec | AitbcError]
) -> list[JobRow | AitbcError]:
    """`submit` for each spec by itself; errors stand in the place of what failed (also those passed in).

    Raises FreeJobsUsedUp for all of them.
    """
    _require_free_jobs(tx, ctx, principal)
    default_cap = parameters.get(tx, "default_max_price_per_1k_tokens")
    room_for_all = ctx.max_pending_jobs - len(specs)
    full = room_for_all < 0 or jobs.backlog_reaches(tx, principal.account_id, room_for_all + 1)
    counted: list[QueueFull] = []  # how many wait is counted once

    def act(spec: JobSpec) -> JobRow:
        if full:
            tx.flush()  # so that the jobs of this batch count
            if jobs.backlog_reaches(tx, principal.account_id, ctx.max_pending_jobs):
                counted.append(
                    QueueFull(**counted[0].details) if counted else _queue_full(tx, ctx, principal)
                )
                raise counted[-1]
        _require_space(tx, ctx, principal, spec)
        return _submit(tx, ctx, principal, spec, default_cap)

    return tx.each(specs, act)


def submit_batch_shown(
    tx: Tx, ctx: FlowContext, principal: Principal, specs: Sequence[JobSpec | AitbcError]
) -> list[JobView | AitbcError]:
    """`submit_batch`; each job with what its client is warned of."""
    return [
        item if isinstance(item, AitbcError) else job_views.admitted(tx, ctx, item)
        for item in submit_batch(tx, ctx, principal, specs)
    ]


def _queue_full(tx: Tx, ctx: FlowContext, principal: Principal) -> QueueFull:
    waiting = jobs.backlog(tx, principal.account_id, 2 * ctx.max_pending_jobs)
    return QueueFull(limit=ctx.max_pending_jobs, waiting=waiting)


def _require_free_jobs(tx: Tx, ctx: FlowContext, principal: Principal) -> None:
    """Raises FreeJobsUsedUp where too many of the account's jobs ended today without having paid for anything."""
    who = free.booked(principal.account_id) if principal.reservation else principal.account_id
    if not free.has_room(tx, who, ctx.max_free_jobs):
        ends_ms = free.day_ends_ms(tx.now_ms)
        raise FreeJobsUsedUp(
            limit=ctx.max_free_jobs,
            ended=free.today(tx, who),
            resets_at=rfc3339(ends_ms),
            retry_after_s=max(1, (ends_ms - tx.now_ms) // 1000),
        )


def _require_space(tx: Tx, ctx: FlowContext, principal: Principal, spec: JobSpec) -> None:
    """Raises InputQuotaExceeded where the account's large inputs that wait would be too many bytes."""
    if spec.prompt_bound <= LARGE_INPUT_BYTES:
        return
    tx.flush()  # so that the jobs of this batch count
    waiting = jobs.large_bytes(tx, principal.account_id)
    if waiting + spec.prompt_bound > ctx.max_pending_bytes:
        raise InputQuotaExceeded(
            limit_bytes=ctx.max_pending_bytes, waiting_bytes=waiting, input_bytes=spec.prompt_bound
        )


def _submit(tx: Tx, ctx: FlowContext, principal: Principal, spec: JobSpec, default_cap_units: int) -> JobRow:
    max_run_ms = _max_run_ms(ctx, spec)
    job_id = new_id(tx.now_ms)
    cap_units = default_cap_units if spec.max_price_units is None else spec.max_price_units
    held_units = price_units(spec.prompt_bound + spec.completion_bound, cap_units)
    if principal.reservation:
        _require_booking(tx, principal, spec)
        held, held_units = None, 0  # the booking has paid for the machine
    elif spec.manual_payment:
        escrow.check_exact(held_units)
        held = None
    else:
        held = escrow.reserve(tx, principal, job_id, held_units)
    job = jobs.create(
        tx,
        spec,
        job_id=job_id,
        client_id=principal.account_id,
        key_id=principal.key_id,
        spend_period_ms=0 if held is None else held.period_ms,
        max_price_units=cap_units,
        hold_id="" if held is None else held.id,
        held_units=0 if spec.manual_payment else held_units,
        max_run_ms=max_run_ms,
        reservation=principal.reservation,
    )
    if spec.manual_payment:
        payments.open_pending(tx, new_id(tx.now_ms), job_id, principal.account_id, held_units)
    return job


def _require_booking(tx: Tx, principal: Principal, spec: JobSpec) -> None:
    """Raises BookingEnded, BookingNotBegun; InvalidRequest for a payment by hand, of which there is none."""
    if tx.memo.get("booking") != principal.reservation:  # of a batch it is asked once
        rentals.live(tx, principal.reservation)
        tx.memo["booking"] = principal.reservation
    if spec.manual_payment:
        raise InvalidRequest("A booked GPU's jobs are paid by the booking.", field="payment")


def _max_run_ms(ctx: FlowContext, spec: JobSpec) -> int:
    """How long a run of the job may take. Raises InvalidRequest above what this network allows."""
    if spec.max_run_s is None:
        return ctx.default_max_run_ms
    if spec.max_run_s * 1000 > ctx.max_max_run_ms:
        most = f"at most {ctx.max_max_run_ms / 1000:g} seconds here"
        raise InvalidRequest(
            f"max_run_s must be {most}.", fields=[{"field": "max_run_s", "message": f"must be {most}"}]
        )
    return spec.max_run_s * 1000


def cancel(tx: Tx, ctx: FlowContext, principal: Principal, job_id: str) -> JobRow:
    """Ends the caller's pending or running job. A run is paid for as far as it has come; the rest of the money,
    or all of it, goes back. Raises JobNotCancellable.
    """
    job = own_jobs.owned(tx, principal, job_id, lock=True)
    by_admin = job.client_id != principal.account_id
    cause, actor = ("CANCELLED_BY_ADMIN", "admin") if by_admin else ("CANCELLED_BY_CLIENT", "client")
    provider, run_ms, price = _owed(tx, job)
    if not jobs.end(tx, job, "cancelled", cause, actor, price_units=price, paid_run_ms=run_ms):
        raise JobNotCancellable(job_id=job_id, status=job.status)
    escrow.pay_cancelled(tx, job, provider, price)
    return _again(tx, job_id)


def cancel_shown(tx: Tx, ctx: FlowContext, principal: Principal, job_id: str) -> JobView:
    """`cancel`; the job as its client sees it."""
    return job_views.shown(tx, ctx, cancel(tx, ctx, principal, job_id))


def _owed(tx: Tx, job: JobRow) -> tuple[str, int, int]:
    """Who is owed what for a running job that ends now by its client's wish: account, ms of the run, price.

    The run counts while its miner was heard of, to the end of its lease at most: that also bounds what a clock
    that jumped may add.
    """
    miner = miners.get(tx, job.miner_id) if job.status == "running" else None
    if miner is None or job.started_at_ms is None:
        return "", 0, 0
    run_ms = max(0, min(tx.now_ms, job.lease_expires_at_ms) - job.started_at_ms)
    units = metering.cancelled_units(
        job.prompt_bound, job.completion_bound, run_ms, job.progress_tokens, job.progress_ms
    )
    return miner.account_id, run_ms, price_units(units, job.unit_price_units)


def fail(
    tx: Tx,
    ctx: FlowContext,
    principal: Principal,
    *,
    miner_id: str,
    job_id: str,
    cause: str,
    message: str = "",
    retryable: bool | None = None,
    lease_id: str | None = None,
    session: str | None = None,
) -> JobRow:
    """The miner gives a job back. What comes of it is for `retries` to say, not for the miner.

    Raises MinerNotFound, Forbidden, JobNotFound, JobNotRunning, LeaseLost.
    """
    miner = miners.owned(tx, principal.account_id, miner_id)
    job = jobs.lock(tx, job_id)
    if job is None:
        raise JobNotFound(job_id=job_id)
    if job.status != "running":
        raise JobNotRunning(job_id=job_id, status=job.status)
    if job.miner_id != miner.id or lease_id not in (None, job.lease_id):
        raise LeaseLost(job_id=job_id)
    if not jobs.is_of_session(job, session):
        raise LeaseLost(job_id=job_id)
    retries.retry_or_fail(tx, ctx, job, cause, "miner", message[:MESSAGE_CHARS], retryable=retryable)
    return _again(tx, job_id)


class RefusedTry(NamedTuple):
    """A result that was refused, for the error code `why`."""

    job_id: str
    lease_id: str | None
    why: str


def count_refused(
    tx: Tx, ctx: FlowContext, principal: Principal, miner_id: str | None, refused: Sequence[RefusedTry]
) -> None:
    """The lease holder's results were refused. It may send better ones, but each counts as a try of its job:
    when these are used up the lease ends. Nothing of anybody else's changes."""
    miner = miners.owned(tx, principal.account_id, miner_id)
    for job_id, lease_id, why in refused:
        tx.flush()  # a job may be named twice
        job = jobs.lock(tx, job_id)
        held = job is not None and job.status == "running" and job.miner_id == miner.id
        if job is None or not held or lease_id not in (None, job.lease_id):
            continue
        if job.attempts < ctx.max_attempts:
            jobs.count_try(tx, job)
            continue
        message = f"The miner's result was refused: {why}."
        retries.retry_or_fail(tx, ctx, job, Cause.ENGINE_ERROR.value, "miner", message)


def count_too_large(tx: Tx, ctx: FlowContext, principal: Principal, job_id: str) -> int:
    """A result for a job that one of the account's miners runs was too large to be read: it counts as a try.

    Returns the most bytes that its result may have. Raises JobNotFound, JobNotRunning, LeaseLost.
    """
    job = jobs.get(tx, job_id)
    if job is None:
        raise JobNotFound(job_id=job_id)
    if job.status != "running":
        raise JobNotRunning(job_id=job.id, status=job.status)
    miner = miners.get(tx, job.miner_id) if job.miner_id else None
    if miner is None or miner.account_id != principal.account_id:
        raise LeaseLost(job_id=job.id)
    kind = job_type_named(job.job_type)
    request = json.loads(job_texts.request_text(tx, job.id) or "{}") if kind.result_needs_request else {}
    tried = RefusedTry(job.id, job.lease_id, ResultTooLarge.code)
    count_refused(tx, ctx, principal, job.miner_id, [tried])
    return kind.most_result_bytes(request, job.completion_bound)


def leave(tx: Tx, ctx: FlowContext, principal: Principal, miner_id: str, session: str | None = None) -> int:
    """The miner deregisters; what it ran is tried again, or fails where its attempts are used up.

    Its deposit goes back, for it holds no lease any more. Returns how many jobs that were.
    Raises MinerNotFound, Forbidden, MinerSessionReplaced.
    """
    miner = miners.owned(tx, principal.account_id, miner_id)
    sessions.hold(miner, session)
    miners.deregister(tx, miner)
    held = jobs.held_by(tx, miner.id)
    for job in held:
        retries.retry_or_fail(tx, ctx, job, "MINER_LEFT", "miner", "")
    parting.return_deposit(tx, miner)
    return len(held)


def _again(tx: Tx, job_id: str) -> JobRow:
    job = jobs.get(tx, job_id)
    if job is None:
        raise JobNotFound(job_id=job_id)
    return job
