"""Claims: the heads of the queue for one ask, and the guarded updates that take them."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
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
from aitbc.coordinator.jobs.matching.constraints import Ask, MinerNeeds
from aitbc.coordinator.jobs.matching.rules import RULES, Rules
from aitbc.coordinator.jobs.models import QUEUED, Job, JobRequest
from aitbc.coordinator.jobs.rows import COLUMNS, JobRow, in_state_for, state_after
from aitbc.coordinator.parameters import service as parameters
from aitbc.core.jobspec import ANY_MODEL

MS_PER_S = 1000
_jobs: Any = table_of(Job)
_requests: Any = table_of(JobRequest)
_c = _jobs.c
_now: Any = bindparam("now")
_lease: Any = func.coalesce(
    parameters.changed("lease_s") * literal_column(str(MS_PER_S)), bindparam("lease_ms", type_=BigInteger)
)
_lease_end: Any = _lease + _now
_run_end = _c.max_run_ms + _now


def _heads(fits: tuple[Any, ...]) -> dict[bool, Select[Any]]:
    """The queue's first jobs for one ask: of the model that it names (True), or of any."""
    head = (
        select(_c.id, _c.rank, _c.prompt_bound)
        .where(sql(QUEUED), _c.job_type == bindparam("job_type"), *fits, _c.expires_at_ms > _now)
        .order_by(_c.rank, _c.id)
        .limit(bindparam("count"))
    )
    return {True: head.where(_c.model == bindparam("model")), False: head}


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
            status=state_after("claimed"),
            queued=0,
            miner_id=bindparam("miner"),
            lease_id=bindparam("lease"),
            lease_expires_at_ms=case((_run_end < _lease_end, _run_end), else_=_lease_end),
            run_ends_at_ms=_run_end,
            miner_session=bindparam("session"),
            progress_tokens=0,
            progress_ms=0,
            unit_price_units=bindparam("price"),
            fee_bps=parameters.in_force("fee_bps"),
            lease_ms=_lease,
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


class Claims:
    """The statements of the queue for a list of constraints.

    heads  by whether the model is named, and whether the jobs are locked: a look
    claim  of jobs that are named; first: of those that a look would find, by whether the model is named
    """

    def __init__(self, rules: Rules) -> None:
        fits = rules.claims(_c)
        self.side_of = rules.side_of
        self.heads = {
            (named, locked): statement(head.with_for_update(skip_locked=True) if locked else head)
            for named, head in _heads(fits).items()
            for locked in (True, False)
        }
        self.claim = statement(
            lambda dialect: _taking(
                among(dialect, "jobs.id", "jobs"),
                sql(QUEUED),
                in_state_for("claimed"),
                _c.expires_at_ms > _now,
                *fits,
            ),
            _ClaimedRow,
        )
        self.first = {named: _claim_first(head) for named, head in _heads(fits).items()}


def _claim_first(head: Select[Any]) -> Statement:
    return statement(lambda dialect: _taking(_in_head(dialect, head)), _ClaimedRow)


QUEUE = Claims(RULES)


def heads(
    tx: Tx, needs: MinerNeeds, ask: Ask, count: int, *, lock: bool = True
) -> list[tuple[int, str, int]]:
    """(rank, id, bytes of input) of the first `count` queued jobs that fit this miner and ask, best first.

    `lock` (PostgreSQL): other miners that look meanwhile pass them over; see `announce`.
    """
    named, fits = _fits(tx, needs, ask, count)
    return [(row.rank, row.id, row.prompt_bound) for row in tx.all(QUEUE.heads[named, lock], **fits)]


def _fits(tx: Tx, needs: MinerNeeds, ask: Ask, count: int) -> tuple[bool, dict[str, Any]]:
    """Whether the ask names its model, and the parameters of a look."""
    fits = {**QUEUE.side_of(needs, ask), "job_type": ask.job_type, "count": count, "now": tx.now_ms}
    named = ask.model != ANY_MODEL
    if named:
        fits["model"] = ask.model
    return named, fits


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

    The jobs of one claim share its lease id. `lease_ms` is how long the lease lasts where the parameter `lease_s` was
    never changed. `session`: the miner's, '' where it has none.
    """
    claimed: list[Claimed] = tx.all(
        QUEUE.claim,
        jobs=json.dumps(job_ids),
        lease=lease_id,
        lease_ms=lease_ms,
        session=session,
        now=tx.now_ms,
        **QUEUE.side_of(needs, ask),
    )
    return _write_down(tx, needs, claimed)


def claim_first(
    tx: Tx, needs: MinerNeeds, ask: Ask, count: int, lease_id: str, lease_ms: int, session: str = ""
) -> list[Claimed]:
    """`claim` of the first `count` jobs for one ask, without asking for them first; in no order."""
    named, fits = _fits(tx, needs, ask, count)
    claimed: list[Claimed] = tx.all(
        QUEUE.first[named],
        lease=lease_id,
        lease_ms=lease_ms,
        session=session,
        **fits,
    )
    return _write_down(tx, needs, claimed)


def _write_down(tx: Tx, needs: MinerNeeds, claimed: list[Claimed]) -> list[Claimed]:
    for job, _request in claimed:
        history.record(tx, job.id, job.event_count, "claimed", "miner", miner_id=needs.miner_id)
        tx.signal(("job", job.id))
    return claimed
