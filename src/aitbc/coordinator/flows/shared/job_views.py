"""A job as it is shown: with what was asked and answered, its place in the queue, and what keeps it there."""

from collections.abc import Sequence
from typing import NamedTuple

from aitbc.coordinator.database import Tx
from aitbc.coordinator.flows.shared import on_offer
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.flows.shared.on_offer import Warned
from aitbc.coordinator.jobs import queries
from aitbc.coordinator.jobs import texts as job_texts
from aitbc.coordinator.jobs.rows import JobRow
from aitbc.core.jobspec import Request


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


def admitted(tx: Tx, ctx: FlowContext, job: JobRow, request: Request | None = None) -> JobView:
    """A job that was submitted just now, with its `request` where that is at hand."""
    return JobView(job, request, warned=on_offer.warnings(tx, ctx.on_offer, job))


def shown(tx: Tx, ctx: FlowContext, job: JobRow) -> JobView:
    """A job as its client sees it."""
    result = job_texts.result_text(tx, job.id) if job.status == "completed" else None
    position = queries.position(tx, job) if job.status == "pending" else None
    warned = on_offer.lately(tx, ctx.on_offer, job)
    return JobView(job, job_texts.request_text(tx, job.id), result, position, warned)
