"""Jobs as their clients, their miners and admins see them, one by one and in lists."""

from typing import Any, NamedTuple

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.flows.shared import job_views, own_jobs
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.flows.shared.job_views import JobView
from aitbc.coordinator.jobs import queries
from aitbc.coordinator.jobs import texts as job_texts


class ListedJobs(NamedTuple):
    """A page of jobs, how many there are, and where the next page begins."""

    views: list[JobView]
    total: int
    next_before: str | None


def visible(tx: Tx, ctx: FlowContext, principal: Principal, job_id: str) -> JobView:
    """A job for its client, its miner or an admin. Raises JobNotFound.

    To its miner what was asked is shown while it holds the lease, and what was answered not at all: it has
    both, and a key that is lost later must not tell what was asked for weeks.
    """
    job = own_jobs.visible(tx, principal, job_id)
    if own_jobs.is_owner(principal, job):
        return job_views.shown(tx, ctx, job)
    return JobView(job, job_texts.request_text(tx, job.id) if job.status == "running" else None)


def owned(tx: Tx, ctx: FlowContext, principal: Principal, job_id: str) -> JobView:
    """A job for its client or an admin. Raises JobNotFound."""
    return job_views.shown(tx, ctx, own_jobs.owned(tx, principal, job_id))


def listed(
    tx: Tx, principal: Principal, *, status: str | None, limit: int, offset: int, before_id: str | None
) -> ListedJobs:
    """The account's jobs, everybody's for an admin; its booking's for the key of one."""
    page = queries.listed(
        tx,
        None if principal.is_admin else principal.account_id,
        status=status,
        limit=limit,
        offset=offset,
        before_id=before_id,
        reservation=principal.reservation,
    )
    asked, answered = queries.payloads(tx, [row.id for row in page.rows])
    views = [JobView(row, asked.get(row.id), answered.get(row.id)) for row in page.rows]
    return ListedJobs(views, page.total, page.next_before)


def history(tx: Tx, principal: Principal, job_id: str) -> list[Any]:
    """What happened to a job, oldest first. Raises JobNotFound."""
    own_jobs.visible(tx, principal, job_id)
    return queries.events(tx, job_id)
