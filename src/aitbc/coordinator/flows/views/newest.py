"""The newest time that the database knows of: what a clock is held against when a coordinator starts."""

from typing import Any

from sqlalchemy import func, select

from aitbc.coordinator.chain import sealer
from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.jobs.models import Job
from aitbc.core.ids import id_time_ms

NEWEST_JOB = statement(select(func.max(table_of(Job).c.id).label("id")))


def time_ms(tx: Tx) -> int:
    """When the newest job was submitted or the newest block sealed, whichever is later; 0 where there are none."""
    job: Any = tx.one(NEWEST_JOB).id
    head = sealer.head(tx)
    sealed_ms = 0 if head is None or head.height == 0 else int(head.time_ms)
    return max(sealed_ms, 0 if job is None else id_time_ms(job))
