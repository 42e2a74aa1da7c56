"""A job's life in the database: created, queued, claimed, requeued, ended. Money is the flows' business.

Every move is one guarded UPDATE checked by its row, plus one line of history.
"""

import json
from typing import Any

from sqlalchemy import bindparam, delete, func, literal_column, select, update
from sqlalchemy import text as sql

from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import among, table_of
from aitbc.coordinator.jobs import history
from aitbc.coordinator.jobs.lifecycle import FIRST, MAX_PRIORITY, moves, status_after
from aitbc.coordinator.jobs.matching.rules import RULES
from aitbc.coordinator.jobs.models import (
    LARGE_INPUT_BYTES,
    LARGE_PENDING,
    PENDING,
    QUEUED,
    RUNNING,
    Job,
    JobRequest,
    JobResult,
)
from aitbc.coordinator.jobs.rows import COLUMNS, JobRow, JobSpec, in_state_for, state_after
from aitbc.coordinator.metrics import JOBS_ENDED

_jobs: Any = table_of(Job)
_requests: Any = table_of(JobRequest)
_results: Any = table_of(JobResult)
_c = _jobs.c
_id = _c.id == bindparam("job")
_now: Any = bindparam("now")
_PENDING: Any = literal_column("'pending'")
_RUNNING: Any = literal_column("'running'")

_COMPLETED = JOBS_ENDED.labels("completed")

INSERT_JOB = insert_into(Job)
INSERT_REQUEST = insert_into(JobRequest)
INSERT_RESULT = insert_into(JobResult)
SELECT_JOB = statement(select(*COLUMNS).where(_id), JobRow)
LOCK_JOB = statement(select(*COLUMNS).where(_id).with_for_update(), JobRow)
LOCK_JOBS = statement(
    lambda dialect: (
        select(*COLUMNS).where(among(dialect, "jobs.id", "jobs")).order_by(_c.id).with_for_update()
    ),
    JobRow,
)
SELECT_HELD_BY = statement(
    select(*COLUMNS).where(sql(RUNNING), _c.miner_id == bindparam("miner")).order_by(_c.id), JobRow
)
BACKLOG_OF = statement(
    select(_c.id).where(sql(PENDING), _c.client_id == bindparam("client")).offset(bindparam("skip")).limit(1)
)
BACKLOG = statement(
    select(func.count().label("waiting")).select_from(
        select(_c.id)
        .where(sql(PENDING), _c.client_id == bindparam("client"))
        .limit(bindparam("most"))
        .subquery()
    )
)
LARGE_BYTES_OF = statement(
    select(func.coalesce(func.sum(_c.prompt_bound), 0).label("bytes")).where(
        sql(LARGE_PENDING), _c.client_id == bindparam("client")
    )
)
ERASE_REQUEST = statement(delete(_requests).where(_requests.c.job_id == bindparam("job")))

_OF_LEASE = _c.lease_id == bindparam("lease")
COMPLETE = statement(
    update(_jobs)
    .where(_id, in_state_for("completed"), _OF_LEASE)
    .values(
        status=state_after("completed"),
        lease_id=literal_column("''"),
        price_units=bindparam("price"),
        receipt_id=bindparam("receipt"),
        cause=literal_column("'COMPLETED'"),
        actor=literal_column("'miner'"),
        message=literal_column("''"),
        event_count=_c.event_count + 1,
        finished_at_ms=_now,
    )
)
END = statement(
    update(_jobs)
    .where(_id, _c.status == bindparam("before"), _OF_LEASE)
    .values(
        status=bindparam("after"),
        queued=0,
        lease_id=literal_column("''"),
        cause=bindparam("why"),
        actor=bindparam("who"),
        message=bindparam("words"),
        price_units=bindparam("price"),
        paid_run_ms=bindparam("paid_run"),
        event_count=_c.event_count + 1,
        finished_at_ms=_now,
    )
)
REQUEUE = statement(
    update(_jobs)
    .where(_id, in_state_for("requeued"), _OF_LEASE)
    .values(
        status=state_after("requeued"),
        queued=1,
        lease_id=literal_column("''"),
        lease_expires_at_ms=0,
        run_ends_at_ms=0,
        unit_price_units=0,
        fee_bps=None,
        lease_ms=None,
        miner_id=literal_column("''"),
        miner_session=literal_column("''"),
        started_at_ms=None,
        expires_at_ms=bindparam("expires"),
        cause=bindparam("why"),
        message=bindparam("words"),
        excluded=bindparam("kept_from"),
        review_at_ms=bindparam("review_at"),
        min_context=bindparam("context"),
        event_count=_c.event_count + 1,
    )
)
KEEP_FROM = statement(
    update(_jobs)
    .where(_id, sql(QUEUED), _c.excluded == bindparam("before"))
    .values(excluded=bindparam("kept_from"), review_at_ms=bindparam("review_at"))
)
COUNT_TRY = statement(
    update(_jobs).where(_id, _c.status == _RUNNING, _OF_LEASE).values(attempts=_c.attempts + 1)
)
PUT_INTO_QUEUE = statement(
    update(_jobs)
    .where(_id, _c.status == _PENDING, _c.queued == 0, _c.hold_id == literal_column("''"))
    .values(
        queued=1,
        key_id=bindparam("key"),
        spend_period_ms=bindparam("period"),
        hold_id=bindparam("hold"),
        held_units=bindparam("held"),
    )
)
EXTEND = statement(
    update(_jobs)
    .where(_id, _c.status == _RUNNING, _c.miner_id == bindparam("miner"))
    .values(
        lease_expires_at_ms=bindparam("lease_expires"),
        progress_tokens=bindparam("tokens"),
        progress_ms=bindparam("run"),
    )
)


def queued_signal(job: JobRow) -> tuple[Any, ...]:
    """What idle miners must know to see whether the job is for them (see `matching.idle_miners`)."""
    return RULES.signal_of(job)


def create(
    tx: Tx,
    spec: JobSpec,
    *,
    job_id: str,
    client_id: str,
    key_id: str,
    spend_period_ms: int,
    max_price_units: int,
    hold_id: str,
    held_units: int,
    max_run_ms: int,
    reservation: str = "",
) -> JobRow:
    """Writes a new job into the queue and says so to waiting miners."""
    job = JobRow(
        id=job_id,
        client_id=client_id,
        key_id=key_id,
        spend_period_ms=spend_period_ms,
        job_type=spec.job_type,
        model=spec.model,
        status=FIRST,
        queued=0 if spec.manual_payment else 1,
        rank=MAX_PRIORITY - spec.priority,
        max_price_units=max_price_units,
        min_memory_mb=spec.min_memory_mb,
        region=spec.region,
        required_miner_id=spec.required_miner_id,
        excluded="",
        review_at_ms=0,
        hold_id=hold_id,
        held_units=held_units,
        prompt_bound=spec.prompt_bound,
        completion_bound=spec.completion_bound,
        prompt_hash=spec.prompt_hash,
        attempts=0,
        event_count=1,
        miner_id="",
        lease_id="",
        lease_expires_at_ms=0,
        unit_price_units=0,
        price_units=0,
        cause="",
        actor="",
        message="",
        receipt_id="",
        created_at_ms=tx.now_ms,
        started_at_ms=None,
        finished_at_ms=None,
        expires_at_ms=tx.now_ms + spec.ttl_s * 1000,
        manual_payment=1 if spec.manual_payment else 0,
        max_run_ms=max_run_ms,
        run_ends_at_ms=0,
        miner_session="",
        progress_tokens=0,
        progress_ms=0,
        paid_run_ms=0,
        min_context=spec.min_context,
        fee_bps=None,
        reservation=reservation,
        lease_ms=None,
    )
    tx.add(INSERT_JOB, job)
    tx.add(INSERT_REQUEST, (job_id, spec.request_text))
    history.record(tx, job_id, 1, "created", "client")
    if job.queued:
        tx.signal(queued_signal(job))
    return job


def put_into_queue(
    tx: Tx, job: JobRow, *, key_id: str, spend_period_ms: int, hold_id: str, held_units: int
) -> bool:
    """A job that waited for its payment may be claimed from now on. False where it moved meanwhile."""
    moved = tx.run(
        PUT_INTO_QUEUE,
        job=job.id,
        key=key_id,
        period=spend_period_ms,
        hold=hold_id,
        held=held_units,
    )
    if moved == 1:
        tx.signal(queued_signal(job))
    return moved == 1


def complete(tx: Tx, job: JobRow, price_units: int, receipt_id: str, result_text: str) -> bool:
    """Ends a running job with its result. False where the lease is no longer this one."""
    moved = tx.expect(
        COMPLETE, job=job.id, lease=job.lease_id, price=price_units, receipt=receipt_id, now=tx.now_ms
    )
    if moved != 1:
        return False
    tx.add(INSERT_RESULT, (job.id, result_text))
    history.record(tx, job.id, job.event_count + 1, "completed", "miner", miner_id=job.miner_id)
    tx.after_commit(_COMPLETED.inc)
    tx.signal(("job", job.id))
    return True


def end(
    tx: Tx,
    job: JobRow,
    event: str,
    cause: str,
    actor: str,
    message: str = "",
    *,
    price_units: int = 0,
    paid_run_ms: int = 0,
) -> bool:
    """Ends a job without a result, as MOVES has it for the event. False where it moved meanwhile.

    Nobody pays for what it stored, so a large input goes at once. `price_units`: what it costs all the same,
    for `paid_run_ms` of its run.
    """
    if not moves(event, job.status):
        return False
    after = status_after(event)
    moved = tx.run(
        END,
        job=job.id,
        before=job.status,
        lease=job.lease_id,
        after=after,
        why=cause,
        who=actor,
        words=message,
        price=price_units,
        paid_run=paid_run_ms,
        now=tx.now_ms,
    )
    if moved != 1:
        return False
    if job.prompt_bound > LARGE_INPUT_BYTES:
        tx.run(ERASE_REQUEST, job=job.id)
    history.record(tx, job.id, job.event_count + 1, event, actor, cause, job.miner_id)
    tx.after_commit(JOBS_ENDED.labels(after).inc)
    tx.signal(("job", job.id))
    return True


def requeue(
    tx: Tx,
    job: JobRow,
    cause: str,
    actor: str,
    message: str = "",
    *,
    excluded: str = "",
    review_at_ms: int = 0,
    min_context: int = 0,
) -> bool:
    """Puts a running job back, kept from `excluded` until a review. False where it moved meanwhile.

    It may wait for as long as it still might when it was claimed: a run takes nothing of that.
    """
    context = max(job.min_context, min_context)
    moved = tx.run(
        REQUEUE,
        job=job.id,
        lease=job.lease_id,
        why=cause,
        words=message,
        kept_from=excluded,
        review_at=review_at_ms,
        context=context,
        expires=job.expires_at_ms + max(0, tx.now_ms - (job.started_at_ms or tx.now_ms)),
    )
    if moved != 1:
        return False
    history.record(tx, job.id, job.event_count + 1, "requeued", actor, cause, job.miner_id)
    tx.signal(("job", job.id))
    tx.signal(queued_signal(job._replace(excluded=excluded, min_context=context)))
    return True


def keep_from(tx: Tx, job: JobRow, excluded: str, review_at_ms: int) -> None:
    """After a review: whom a waiting job is kept from now; miners that wait hear of it where these are fewer."""
    moved = tx.run(KEEP_FROM, job=job.id, before=job.excluded, kept_from=excluded, review_at=review_at_ms)
    if moved == 1 and excluded != job.excluded:
        tx.signal(queued_signal(job._replace(excluded=excluded)))


def count_try(tx: Tx, job: JobRow) -> None:
    """Another try of a running job within its lease."""
    tx.run(COUNT_TRY, job=job.id, lease=job.lease_id)


def extend_lease(tx: Tx, job: JobRow, lease_ms: int, progress_tokens: int | None = None) -> int:
    """Moves the lease's end to now + lease, never past the end of the run. Returns the new end in ms.

    The lease lasts as long as when the run began, `lease_ms` where that was not kept.
    `progress_tokens`: what the miner says it has generated; it is only ever more.
    """
    end_ms = min(tx.now_ms + (job.lease_ms or lease_ms), max(job.run_ends_at_ms, tx.now_ms))
    tokens, run_ms = job.progress_tokens, job.progress_ms
    so_far_ms = tx.now_ms - (job.started_at_ms or tx.now_ms)
    if progress_tokens is not None and progress_tokens >= tokens and so_far_ms > run_ms:
        tokens, run_ms = progress_tokens, so_far_ms
    tx.run(EXTEND, job=job.id, miner=job.miner_id, lease_expires=end_ms, tokens=tokens, run=run_ms)
    return end_ms


def get(tx: Tx, job_id: str) -> JobRow | None:
    row: JobRow | None = tx.one(SELECT_JOB, job=job_id)
    return row


def ahead(tx: Tx, *, locked: str | None = None, held_by: str | None = None) -> None:
    """A hint that `lock` of this job, or `held_by` of this miner, comes soon (see `Tx.ahead`)."""
    if locked is not None:
        tx.ahead(LOCK_JOB, job=locked)
    if held_by is not None:
        tx.ahead(SELECT_HELD_BY, miner=held_by)


def lock(tx: Tx, job_id: str) -> JobRow | None:
    """The job, kept from changing until this transaction ends (PostgreSQL; SQLite has one writer)."""
    row: JobRow | None = tx.one(LOCK_JOB, job=job_id)
    return row


def lock_all(tx: Tx, job_ids: list[str]) -> dict[str, JobRow]:
    """`lock` for many jobs at once, by id; unknown ones are left out."""
    return {row.id: row for row in tx.all(LOCK_JOBS, jobs=json.dumps(job_ids))}


def held_by(tx: Tx, miner_id: str) -> list[JobRow]:
    """Jobs that the miner runs now, oldest first."""
    return tx.all(SELECT_HELD_BY, miner=miner_id)


def is_of_session(job: JobRow, session: str | None) -> bool:
    """Whether the lease is this session's, as far as both say."""
    return session is None or job.miner_session in ("", session)


def has_room(tx: Tx, client_id: str, limit: int) -> bool:
    """Whether the client has fewer jobs waiting than `limit`, as nearly always."""
    return tx.none(BACKLOG_OF, client=client_id, skip=limit - 1)


def large_bytes(tx: Tx, client_id: str) -> int:
    """The bytes of the client's large inputs (above LARGE_INPUT_BYTES) that wait."""
    return int(tx.one(LARGE_BYTES_OF, client=client_id).bytes)


def backlog_reaches(tx: Tx, client_id: str, count: int) -> bool:
    """Whether the client has at least `count` jobs waiting."""
    return tx.one(BACKLOG_OF, client=client_id, skip=count - 1) is not None


def backlog(tx: Tx, client_id: str, most: int) -> int:
    """How many jobs of the client wait, counted up to `most`."""
    return int(tx.one(BACKLOG, client=client_id, most=most).waiting)
