"""Reads over jobs: lists, history, the queue's size and age, recent speeds."""

from typing import Any, NamedTuple

from sqlalchemy import bindparam, func, literal_column, select
from sqlalchemy import text as sql

from aitbc.database import Tx, statement
from aitbc.jobs import service
from aitbc.jobs.lifecycle import TERMINAL
from aitbc.jobs.models import OPEN, PENDING, QUEUED, RUNNING, Job, JobEvent
from aitbc.jobs.rows import COLUMNS, JobRow

_c: Any = Job.__table__.c  # type: ignore[attr-defined]
_e: Any = JobEvent.__table__.c  # type: ignore[attr-defined]

SELECT_EVENTS = statement(select(JobEvent.__table__).where(_e.job_id == bindparam("job")).order_by(_e.seq))  # type: ignore[attr-defined]
QUEUE = statement(
    select(func.count().label("depth"), func.min(_c.created_at_ms).label("oldest_ms"))
    .select_from(Job)
    .where(sql(QUEUED))
)
COUNT_PENDING = statement(select(func.count().label("count")).select_from(Job).where(sql(PENDING)))
COUNT_RUNNING = statement(select(func.count().label("count")).select_from(Job).where(sql(RUNNING)))
RUNNING_BY_MINER = statement(
    select(_c.miner_id, func.count().label("count")).where(sql(RUNNING)).group_by(_c.miner_id)
)
AHEAD = statement(
    select(func.count().label("count"))
    .select_from(Job)
    .where(
        sql(QUEUED),
        _c.job_type == bindparam("job_type"),
        _c.model == bindparam("model"),
        (_c.rank < bindparam("rank")) | ((_c.rank == bindparam("rank")) & (_c.id < bindparam("job"))),
    )
)
RECENT = 50
RECENT_OF_MODEL = statement(
    select(_c.started_at_ms, _c.finished_at_ms, _c.created_at_ms, _c.price_units)
    .where(
        _c.model == bindparam("model"),
        _c.job_type == bindparam("job_type"),
        _c.status == literal_column("'completed'"),
        _c.id > bindparam("since"),
    )
    .order_by(_c.id.desc())
    .limit(RECENT)
)


class QueueState(NamedTuple):
    """Queued jobs, and the creation time of the oldest (ms; None where the queue is empty)."""

    depth: int
    oldest_ms: int | None


def listed(
    tx: Tx, client_id: str | None, *, status: str | None, limit: int, offset: int
) -> tuple[list[JobRow], int]:
    """A client's jobs (everybody's for None), newest first, and how many there are in all."""
    where: list[Any] = [] if client_id is None else [_c.client_id == client_id]
    if status is not None:
        where.append(_c.status == status)
        # As the partial indexes have it, or they would not be used.
        where.append(_c.finished_at_ms.is_not(None) if status in TERMINAL else sql(OPEN[status]))
    rows = tx.query(select(*COLUMNS).where(*where).order_by(_c.id.desc()).limit(limit).offset(offset))
    total = tx.query(select(func.count().label("count")).select_from(Job).where(*where))[0].count
    return [JobRow._make(row) for row in rows], int(total)


def events(tx: Tx, job_id: str) -> list[Any]:
    """The job's history, oldest first."""
    return tx.all(SELECT_EVENTS, job=job_id)


def payloads(tx: Tx, job_ids: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Requests and results (canonical JSON) of these jobs, by job id; erased ones are left out."""
    return service.request_texts(tx, job_ids), service.result_texts(tx, job_ids)


def queue_state(tx: Tx) -> QueueState:
    row = tx.one(QUEUE)
    return QueueState(int(row.depth), None if row.oldest_ms is None else int(row.oldest_ms))


def open_counts(tx: Tx) -> tuple[int, int]:
    """(pending, running) jobs."""
    return int(tx.one(COUNT_PENDING).count), int(tx.one(COUNT_RUNNING).count)


def running_by_miner(tx: Tx) -> dict[str, int]:
    """How many jobs each miner runs now."""
    return {row.miner_id: int(row.count) for row in tx.all(RUNNING_BY_MINER)}


def position(tx: Tx, job: JobRow) -> int | None:
    """1 for the next of its model, 2 for the one after; None where the job is not queued."""
    if not job.queued:
        return None
    ahead = tx.one(AHEAD, job_type=job.job_type, model=job.model, rank=job.rank, job=job.id)
    return int(ahead.count) + 1


def ahead_of_new(tx: Tx, job_type: str, model: str, rank: int) -> int:
    """How many queued jobs of the model would run before a new one of this rank."""
    return int(tx.one(AHEAD, job_type=job_type, model=model, rank=rank, job="~").count)


def recent(tx: Tx, job_type: str, model: str, since_id: str) -> list[Any]:
    """Recently completed jobs of a model, newest first: times in ms and price."""
    return tx.all(RECENT_OF_MODEL, job_type=job_type, model=model, since=since_id)
