"""Jobs that paid for nothing, by account and day: each leaves rows for good, so there may be so many of them."""

from typing import Any

from sqlalchemy import bindparam, delete, select, update

from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.jobs.models import FreeJobs
from aitbc.core.clock import rfc3339

DAY_MS = 86_400_000
DAY_CHARS = len("2026-11-28")

_f: Any = table_of(FreeJobs).c
_this = _f.account_day == bindparam("key")
_OPEN = insert_into(FreeJobs, on_conflict_ignore=True)
_COUNT = statement(update(FreeJobs).where(_this).values(jobs=_f.jobs + bindparam("units")))
_USED_UP = statement(select(_f.jobs).where(_this, _f.jobs >= bindparam("most")))
_JOBS = statement(select(_f.jobs).where(_this))
_FORGET = statement(delete(FreeJobs).where(_f.account_day < bindparam("day")))


def payer(job: Any) -> str:
    """For whom a job that paid for nothing counts: its account's own, and those of all its bookings, count apart."""
    return booked(job.client_id) if job.reservation else str(job.client_id)


def booked(account_id: str) -> str:
    """For whom jobs of an account's bookings count: not for each booking, for one that is cancelled costs nothing."""
    return f"{account_id} booked"


def count(tx: Tx, account_id: str) -> None:
    """One more job of the account ended today without having paid for anything."""
    key = _key(tx.now_ms, account_id)
    if tx.tally(_COUNT, key, units=1) != 1:  # the first of its day
        tx.run(_OPEN, account_day=key, jobs=0)
        tx.tally(_COUNT, key, units=1)


def has_room(tx: Tx, account_id: str, most: int) -> bool:
    """Whether fewer than `most` of the account's jobs ended so today, as nearly always; 0: any number may."""
    return not most or tx.none(_USED_UP, key=_key(tx.now_ms, account_id), most=most)


def today(tx: Tx, account_id: str) -> int:
    """How many of the account's jobs ended today without having paid for anything."""
    row = tx.one(_JOBS, key=_key(tx.now_ms, account_id))
    return 0 if row is None else int(row.jobs)


def day_ends_ms(now_ms: int) -> int:
    """When the day (UTC) around `now_ms` is over."""
    return (now_ms // DAY_MS + 1) * DAY_MS


def forget(tx: Tx) -> int:
    """Drops the counts of days before yesterday; how many."""
    return tx.run(_FORGET, day=rfc3339(max(0, tx.now_ms - DAY_MS))[:DAY_CHARS])


def _key(now_ms: int, account_id: str) -> str:
    return f"{rfc3339(now_ms)[:DAY_CHARS]} {account_id}"
