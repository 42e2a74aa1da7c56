"""Claims: the heads of the queue for one ask, and the guarded updates that take them."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy import text as sql
from sqlalchemy.sql.expression import ClauseElement

from aitbc.coordinator.database import Statement, Tx, statement
from aitbc.coordinator.database.columns import among, table_of
from aitbc.coordinator.jobs import history, service
from aitbc.coordinator.jobs.exclusion import NEWCOMERS, account, member
from aitbc.coordinator.jobs.models import QUEUED, Job, JobRequest
from aitbc.coordinator.jobs.rows import ANY_MODEL, COLUMNS, Ask, JobRow, MinerNeeds

_jobs: Any = table_of(Job)
_requests: Any = table_of(JobRequest)
_c = _jobs.c
_now: Any = bindparam("now")
_lease_end: Any = bindparam("lease_expires", type_=BigInteger)
_run_end = _c.max_run_ms + _now


def _lacks(name: str) -> ColumnElement[bool]:
    """That the job's set has not this member. By REPLACE: both databases have it, and it knows no wildcards."""
    without: ColumnElement[bool] = (
        func.replace(_c.excluded, bindparam(name), literal_column("''")) == _c.excluded
    )
    return without


_newcomers: Any = literal_column(f"'{member(NEWCOMERS)}'")
_lacks_newcomers = func.replace(_c.excluded, _newcomers, literal_column("''")) == _c.excluded
_FITS = (
    _c.max_price_units >= bindparam("price"),
    _c.min_memory_mb <= bindparam("memory"),
    (_c.region == literal_column("''")) | (_c.region == bindparam("region")),
    (_c.required_miner_id == literal_column("''")) | (_c.required_miner_id == bindparam("miner")),
    _c.min_context <= bindparam("context"),
    # As `exclusion.keeps_away` has it; nearly always nobody is kept away.
    (_c.excluded == literal_column("''"))
    | and_(
        _lacks("itself"),
        _lacks("account"),
        (bindparam("proven") == 1) | _lacks_newcomers,
    ),
)
_HEAD = (
    select(_c.id, _c.rank, _c.prompt_bound)
    .where(sql(QUEUED), _c.job_type == bindparam("job_type"), *_FITS, _c.expires_at_ms > _now)
    .order_by(_c.rank, _c.id)
    .limit(bindparam("count"))
)
_OF_MODEL = _HEAD.where(_c.model == bindparam("model"))
HEADS = {
    (named, locked): statement(head.with_for_update(skip_locked=True) if locked else head)
    for named, head in ((True, _OF_MODEL), (False, _HEAD))
    for locked in (True, False)
}


class Claimed(NamedTuple):
    """A leased job, and what is asked of it (canonical JSON; None once erased)."""

    job: JobRow
    request_text: str | None


class _ClaimedRow:
    """How a claim's row is read: the job's columns, then the request."""

    @staticmethod
    def _make(values: tuple[Any, ...]) -> Claimed:
        return Claimed(JobRow._make(values[:-1]), values[-1])


def _taking(*conditions: Any) -> ClauseElement:
    made: ClauseElement = (
        update(_jobs)
        .where(*conditions)
        .values(
            status=literal_column("'running'"),
            queued=0,
            miner_id=bindparam("miner"),
            lease_id=bindparam("lease"),
            lease_expires_at_ms=case((_run_end < _lease_end, _run_end), else_=_lease_end),
            run_ends_at_ms=_run_end,
            miner_session=bindparam("session"),
            progress_tokens=0,
            progress_ms=0,
            unit_price_units=bindparam("price"),
            attempts=_c.attempts + 1,
            event_count=_c.event_count + 1,
            cause=literal_column("''"),
            message=literal_column("''"),
            started_at_ms=_now,
            review_at_ms=0,
        )
        .returning(
            *COLUMNS,
            select(_requests.c.request).where(_requests.c.job_id == _c.id).scalar_subquery().label("request"),
        )
    )
    return made


def _in_head(dialect: str, head: Select[Any]) -> ColumnElement[bool]:
    """That the job is one of the first of its queue, which are locked with the look (PostgreSQL).

    As an array there: planned without knowing how many it will be, a join might read all jobs.
    """
    first: Any = head.with_only_columns(_c.id).correlate(None)
    if dialect == "sqlite":
        found: ColumnElement[bool] = _c.id.in_(first)
    else:
        found = _c.id == func.any(func.array(first.with_for_update(skip_locked=True).scalar_subquery()))
    return found


CLAIM = statement(
    lambda dialect: _taking(
        among(dialect, "jobs.id", "jobs"),
        sql(QUEUED),
        _c.status == literal_column("'pending'"),
        _c.expires_at_ms > _now,
        *_FITS,
    ),
    _ClaimedRow,
)


def _claim_first(head: Select[Any]) -> Statement:
    return statement(lambda dialect: _taking(_in_head(dialect, head)), _ClaimedRow)


CLAIM_FIRST = {True: _claim_first(_OF_MODEL), False: _claim_first(_HEAD)}


def heads(
    tx: Tx, needs: MinerNeeds, ask: Ask, count: int, *, lock: bool = True
) -> list[tuple[int, str, int]]:
    """(rank, id, bytes of input) of the first `count` queued jobs that fit this miner and ask, best first.

    `lock` (PostgreSQL): other miners that look meanwhile pass them over; see `announce`.
    """
    named, fits = _fits(tx, needs, ask, count)
    return [(row.rank, row.id, row.prompt_bound) for row in tx.all(HEADS[named, lock], **fits)]


def _fits(tx: Tx, needs: MinerNeeds, ask: Ask, count: int) -> tuple[bool, dict[str, Any]]:
    """Whether the ask names its model, and the parameters of a look."""
    fits = {**_side_of(tx, needs, ask), "job_type": ask.job_type, "count": count}
    named = ask.model != ANY_MODEL
    if named:
        fits["model"] = ask.model
    return named, fits


def _side_of(tx: Tx, needs: MinerNeeds, ask: Ask) -> dict[str, Any]:
    """The miner's side of `_FITS`."""
    return {
        "price": ask.price_units,
        "context": ask.context,
        "memory": needs.memory_mb,
        "region": needs.region,
        "miner": needs.miner_id,
        "itself": member(needs.miner_id),
        "account": member(account(needs.account_id)),
        "proven": 1 if needs.proven else 0,
        "now": tx.now_ms,
    }


def announce(tx: Tx, job_ids: Iterable[str]) -> None:
    """Says again that these jobs wait: a miner that looked while they were locked did not see them."""
    for job_id in job_ids:
        job = service.get(tx, job_id)
        if job is not None:
            tx.signal(service.queued_signal(job))


def claim(
    tx: Tx,
    job_ids: list[str],
    needs: MinerNeeds,
    ask: Ask,
    lease_id: str,
    lease_ms: int,
    session: str = "",
) -> list[Claimed]:
    """Takes queued jobs for the miner, in no order; those taken, expired or unfit are left out.

    The jobs of one claim share its lease id. `session`: the miner's, '' where it has none.
    """
    claimed: list[Claimed] = tx.all(
        CLAIM,
        jobs=json.dumps(job_ids),
        lease=lease_id,
        lease_expires=tx.now_ms + lease_ms,
        session=session,
        **_side_of(tx, needs, ask),
    )
    return _write_down(tx, needs, claimed)


def claim_first(
    tx: Tx, needs: MinerNeeds, ask: Ask, count: int, lease_id: str, lease_ms: int, session: str = ""
) -> list[Claimed]:
    """`claim` of the first `count` jobs for one ask, without asking for them first; in no order."""
    named, fits = _fits(tx, needs, ask, count)
    claimed: list[Claimed] = tx.all(
        CLAIM_FIRST[named],
        lease=lease_id,
        lease_expires=tx.now_ms + lease_ms,
        session=session,
        **fits,
    )
    return _write_down(tx, needs, claimed)


def _write_down(tx: Tx, needs: MinerNeeds, claimed: list[Claimed]) -> list[Claimed]:
    for job, _request in claimed:
        history.record(tx, job.id, job.event_count, "claimed", "running", "miner", miner_id=needs.miner_id)
        tx.signal(("job", job.id))
    return claimed
