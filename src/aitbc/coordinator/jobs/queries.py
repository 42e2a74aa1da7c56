"""Reads over jobs: lists, history, the queue's size and age, recent speeds."""

from typing import Any, NamedTuple

from sqlalchemy import bindparam, func, literal_column, select, union_all
from sqlalchemy import text as sql

from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.jobs import texts
from aitbc.coordinator.jobs.lifecycle import MAX_PRIORITY
from aitbc.coordinator.jobs.models import PENDING, QUEUED, RUNNING, WITH_INDEX, Job, JobEvent
from aitbc.coordinator.jobs.rows import COLUMNS, JobRow
from aitbc.core.jobspec import JOB_TYPES

_c: Any = table_of(Job).c
_e: Any = table_of(JobEvent).c

SELECT_EVENTS = statement(select(table_of(JobEvent)).where(_e.job_id == bindparam("job")).order_by(_e.seq))
# The heads of all queues, one for each job type and rank, of which the index holds the first: what this costs
# does not grow with the queue.
_heads = union_all(
    *(
        select(func.min(_c.id).label("id")).where(
            sql(QUEUED),
            _c.reservation == literal_column("''"),  # what waits for a booked GPU is its booker's business
            _c.job_type == literal_column(f"'{name}'"),
            _c.rank == literal_column(str(rank)),
        )
        for name in JOB_TYPES
        for rank in range(MAX_PRIORITY + 1)
    )
).subquery()
OLDEST_QUEUED = statement(
    select(_c.created_at_ms).where(_c.id == select(func.min(_heads.c.id)).scalar_subquery())
)
COUNT_QUEUED = statement(select(func.count().label("count")).select_from(Job).where(sql(QUEUED)))
COUNT_PENDING = statement(select(func.count().label("count")).select_from(Job).where(sql(PENDING)))
COUNT_RUNNING = statement(select(func.count().label("count")).select_from(Job).where(sql(RUNNING)))
RUNNING_BY_MINER = statement(
    select(_c.miner_id, func.count().label("count")).where(sql(RUNNING)).group_by(_c.miner_id)
)
MAX_POSITION = 1_000  # places in the queue beyond which nobody counts
_COMPLETED = _c.status == literal_column("'completed'")
_queue_of_model = (
    sql(QUEUED),
    _c.reservation == bindparam("reservation"),
    _c.job_type == bindparam("job_type"),
    _c.model == bindparam("model"),
)
_before = union_all(
    select(literal_column("1").label("one"))
    .where(*_queue_of_model, _c.rank < bindparam("rank"))
    .limit(MAX_POSITION)
    .subquery()
    .select(),
    select(literal_column("1").label("one"))
    .where(*_queue_of_model, _c.rank == bindparam("rank"), _c.id < bindparam("job"))
    .limit(MAX_POSITION)
    .subquery()
    .select(),
).subquery()
AHEAD = statement(select(func.count().label("count")).select_from(_before))


MAX_COUNTED = 10_000  # jobs of a list that are counted
LOOKED_AT = 2_000  # jobs among which one page of completed ones is looked for


LISTED_CHARS = 512
"""A list of jobs shows a request, and a result, whose canonical JSON has no more characters."""


class QueueState(NamedTuple):
    """Queued jobs, and the creation time of the oldest (ms; None where the queue is empty)."""

    depth: int
    oldest_ms: int | None


class JobPage(NamedTuple):
    """Jobs, newest first; how many there are, counted up to MAX_COUNTED; where the next page begins (None: nowhere).

    A page of completed jobs may be short, or empty, and yet have a next one: see `listed`.
    """

    rows: list[JobRow]
    total: int
    next_before: str | None


def listed(
    tx: Tx,
    client_id: str | None,
    *,
    status: str | None,
    limit: int,
    offset: int,
    before_id: str | None = None,
    reservation: str = "",
) -> JobPage:
    """A client's jobs (everybody's for None); of a booking where one is named.

    `before_id` continues below that job, whatever was submitted or changed its state meanwhile. Completed ones are
    looked for among LOOKED_AT jobs at a time, and counted among the newest MAX_COUNTED: nearly all are completed, but
    they may be few among many that failed.
    """
    # Jobs of a booking are younger than it: their ids are greater than its own.
    booked = [_c.reservation == reservation, _c.id > reservation] if reservation else []
    mine: list[Any] = [*([] if client_id is None else [_c.client_id == client_id]), *booked]
    below = [] if before_id is None else [_c.id < before_id]
    if status == "completed":
        total = _count_completed(tx, client_id, mine, booked)
        return _sought(tx, mine, below, _COMPLETED, total, limit, offset)
    where = list(mine) if status is None else [*_in_state(status, client_id), *booked]
    total = _count(tx, where)
    if status == "pending" and client_id is None:
        return _sought(tx, mine, below, _c.status == literal_column("'pending'"), total, limit, offset)
    ids = _unindexed(_c.id) if status == "running" else _c.id
    if before_id is not None:
        where.append(ids < before_id)
    rows = tx.query(select(*COLUMNS).where(*where).order_by(ids.desc()).limit(limit).offset(offset))
    return _page(rows, total, limit, None)


def _unindexed(column: Any) -> Any:
    """The text of a column, so that no index is chosen for it: SQLite would rather walk through all jobs in their
    order than sort the few that run."""
    return column.concat(literal_column("''"))


def _in_state(status: str, client_id: str | None) -> list[Any]:
    """A client's jobs of a state that has an index; as the index has it, or it would not be used."""
    client = _unindexed(_c.client_id) if status == "running" else _c.client_id
    return [sql(WITH_INDEX[status]), *([] if client_id is None else [client == client_id])]


def _sought(
    tx: Tx, mine: list[Any], below: list[Any], wanted: Any, total: int, limit: int, offset: int
) -> JobPage:
    """Jobs in a state for which there is no index, among the next LOOKED_AT."""
    looked = select(_c.id).where(*mine, *below).order_by(_c.id.desc()).limit(LOOKED_AT).subquery()
    (seen,) = tx.query(select(func.count().label("count"), func.min(looked.c.id).label("last")))
    if not seen.count:
        return _page([], total, limit, None)
    found = select(*COLUMNS).where(*mine, *below, _c.id >= seen.last, wanted).order_by(_c.id.desc())
    rows = tx.query(found.limit(limit).offset(offset))
    return _page(rows, total, limit, str(seen.last) if seen.count == LOOKED_AT else None)


def _count_completed(tx: Tx, client_id: str | None, mine: list[Any], booked: list[Any]) -> int:
    """Of the newest MAX_COUNTED jobs those that are in none of the states that have an index."""
    newest = select(_c.id).where(*mine).order_by(_c.id.desc())
    oldest = tx.query(newest.limit(1).offset(MAX_COUNTED - 1))
    others = 0
    for status in WITH_INDEX:
        ids = _unindexed(_c.id) if status == "running" else _c.id
        among = [ids >= oldest[0].id] if oldest else []
        others += _count(tx, [*_in_state(status, client_id), *booked, *among])
    return max(0, _count(tx, mine) - others)


def _page(rows: list[Any], total: int, limit: int, looked_to: str | None) -> JobPage:
    """`looked_to`: the last job that was looked at, where there may be more below it."""
    jobs = [JobRow._make(row) for row in rows]
    return JobPage(jobs, total, jobs[-1].id if len(jobs) == limit else looked_to)


def _count(tx: Tx, where: list[Any]) -> int:
    """How many jobs there are, up to MAX_COUNTED."""
    some = (
        select(literal_column("1").label("one")).select_from(Job).where(*where).limit(MAX_COUNTED).subquery()
    )
    return int(tx.query(select(func.count().label("count")).select_from(some))[0].count)


def events(tx: Tx, job_id: str) -> list[Any]:
    """The job's history, oldest first."""
    return tx.all(SELECT_EVENTS, job=job_id)


def payloads(tx: Tx, job_ids: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Requests and results (canonical JSON) of a list's jobs, by job id, where they are short: a page of jobs is
    small whatever they asked and got."""
    return texts.short_texts(tx, job_ids, LISTED_CHARS)


def queue_state(tx: Tx) -> QueueState:
    oldest = tx.one(OLDEST_QUEUED)
    depth = int(tx.one(COUNT_QUEUED).count)
    return QueueState(depth, None if oldest is None else int(oldest.created_at_ms))


def open_counts(tx: Tx) -> tuple[int, int]:
    """(pending, running) jobs."""
    return int(tx.one(COUNT_PENDING).count), int(tx.one(COUNT_RUNNING).count)


def running_by_miner(tx: Tx) -> dict[str, int]:
    """How many jobs each miner runs now."""
    return {row.miner_id: int(row.count) for row in tx.all(RUNNING_BY_MINER)}


def position(tx: Tx, job: JobRow) -> int | None:
    """1 for the next of its model, 2 for the one after; MAX_POSITION for that place and all behind it.

    None where the job is not queued.
    """
    if not job.queued:
        return None
    ahead = tx.one(
        AHEAD,
        reservation=job.reservation,
        job_type=job.job_type,
        model=job.model,
        rank=job.rank,
        job=job.id,
    )
    return min(int(ahead.count) + 1, MAX_POSITION)


def ahead_of_new(tx: Tx, job_type: str, model: str, rank: int) -> int:
    """How many queued jobs of the model would run before a new one of this rank; counted to MAX_POSITION."""
    ahead = tx.one(AHEAD, reservation="", job_type=job_type, model=model, rank=rank, job="~")
    return min(int(ahead.count), MAX_POSITION)
