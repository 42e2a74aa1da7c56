"""What jobs ask and answer, as it is kept until it is erased: canonical JSON, apart from the jobs themselves."""

import json
from typing import Any

from sqlalchemy import bindparam, func, select

from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import among, table_of
from aitbc.coordinator.jobs.models import JobRequest, JobResult

_requests: Any = table_of(JobRequest)
_results: Any = table_of(JobResult)

SELECT_REQUESTS = statement(
    lambda dialect: select(_requests).where(among(dialect, "job_requests.job_id", "jobs"))
)
SHORT_REQUESTS = statement(
    lambda dialect: select(_requests).where(
        among(dialect, "job_requests.job_id", "jobs"), func.length(_requests.c.request) <= bindparam("most")
    )
)
SHORT_RESULTS = statement(
    lambda dialect: select(_results).where(
        among(dialect, "job_results.job_id", "jobs"), func.length(_results.c.result) <= bindparam("most")
    )
)
SELECT_REQUEST = statement(select(_requests.c.request).where(_requests.c.job_id == bindparam("job")))
SELECT_RESULT = statement(select(_results.c.result).where(_results.c.job_id == bindparam("job")))


def request_text(tx: Tx, job_id: str) -> str | None:
    """Canonical JSON of the request; None once erased."""
    row = tx.one(SELECT_REQUEST, job=job_id)
    return None if row is None else str(row.request)


def request_texts(tx: Tx, job_ids: list[str]) -> dict[str, str]:
    """`request_text` of many jobs, by job id; erased ones are left out."""
    if not job_ids:
        return {}
    return {row.job_id: row.request for row in tx.all(SELECT_REQUESTS, jobs=json.dumps(job_ids))}


def short_texts(tx: Tx, job_ids: list[str], most_chars: int) -> tuple[dict[str, str], dict[str, str]]:
    """Requests and results of many jobs, by job id; erased ones, and those of more characters, are left out."""
    if not job_ids:
        return {}, {}
    named = {"jobs": json.dumps(job_ids), "most": most_chars}
    return (
        {row.job_id: row.request for row in tx.all(SHORT_REQUESTS, **named)},
        {row.job_id: row.result for row in tx.all(SHORT_RESULTS, **named)},
    )


def result_text(tx: Tx, job_id: str) -> str | None:
    """Canonical JSON of the result; None while there is none, and once erased."""
    row = tx.one(SELECT_RESULT, job=job_id)
    return None if row is None else str(row.result)
