"""Statements over whatever has run out, or would have but for an outage: leases, runs and jobs by their time.

A lease never lasts past the end of its run, so whoever looks for leases that have ended finds those runs too.
"""

from typing import Any

from sqlalchemy import BigInteger, bindparam, case, func, select, update
from sqlalchemy import text as sql

from aitbc.coordinator.database import statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.jobs.models import PENDING, REVIEWED, RUNNING, Job
from aitbc.coordinator.jobs.rows import COLUMNS, JobRow

_jobs: Any = table_of(Job)
_c = _jobs.c
_now: Any = bindparam("now")
_whole_lease: Any = func.coalesce(_c.lease_ms, bindparam("lease", type_=BigInteger)) + _now
_shifted = _c.lease_expires_at_ms + bindparam("shift")
_run_shifted = _c.run_ends_at_ms + bindparam("shift")
_whole_run = _now + _c.max_run_ms
SHIFT_LEASES = statement(
    update(_jobs)
    .where(sql(RUNNING))
    .values(
        lease_expires_at_ms=case((_shifted > _whole_lease, _whole_lease), else_=_shifted),
        run_ends_at_ms=case((_run_shifted > _whole_run, _whole_run), else_=_run_shifted),
    )
)
SHIFT_EXPIRIES = tuple(
    statement(
        update(_jobs)
        .where(sql(open_one), _c.created_at_ms <= bindparam("before"))
        .values(expires_at_ms=_c.expires_at_ms + bindparam("shift"))
    )
    for open_one in (PENDING, RUNNING)
)
RENEW_LEASES = statement(
    update(_jobs)
    .where(sql(RUNNING))
    .values(
        lease_expires_at_ms=_whole_lease,
        run_ends_at_ms=case((_c.run_ends_at_ms < _whole_lease, _whole_lease), else_=_c.run_ends_at_ms),
    )
)
LEASES_EXPIRED = statement(
    select(*COLUMNS)
    .where(sql(RUNNING), _c.lease_expires_at_ms <= _now)
    .order_by(_c.lease_expires_at_ms, _c.id)
    .limit(bindparam("count"))
    .with_for_update(skip_locked=True),
    JobRow,
)
PENDING_EXPIRED = statement(
    select(*COLUMNS)
    .where(sql(PENDING), _c.expires_at_ms <= _now)
    .order_by(_c.expires_at_ms)
    .limit(bindparam("count"))
    .with_for_update(skip_locked=True),
    JobRow,
)
REVIEWS_DUE = statement(
    select(*COLUMNS)
    # Also what a clock that has gone back would keep waiting.
    .where(sql(REVIEWED), (_c.review_at_ms <= _now) | (_c.review_at_ms > bindparam("latest")))
    .order_by(_c.review_at_ms, _c.id)
    .limit(bindparam("count"))
    .with_for_update(skip_locked=True),
    JobRow,
)
