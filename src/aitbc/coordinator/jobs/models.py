"""Jobs, what was asked and answered, and their history."""

from sqlalchemy import CheckConstraint, Index
from sqlalchemy import text as sql
from sqlmodel import SQLModel

from aitbc.coordinator.database.append_only import append_only
from aitbc.coordinator.database.columns import big, listed, small, text
from aitbc.coordinator.jobs.lifecycle import ACTORS, CAUSES, EVENT_TYPES, STATUSES, TERMINAL
from aitbc.coordinator.jobs.matching.constraints import CONSTRAINTS

QUEUED = "queued = 1"
PENDING = "status = 'pending'"
RUNNING = "status = 'running'"
REVIEWED = "queued = 1 AND review_at_ms > 0"
LARGE_INPUT_BYTES = 4096
"""Inputs above this are counted while they wait, and erased at once when their job ends without an answer."""
LARGE_PENDING = f"status = 'pending' AND prompt_bound > {LARGE_INPUT_BYTES}"
FAILED = "status = 'failed'"
CANCELLED = "status = 'cancelled'"
WITH_INDEX = {"pending": PENDING, "running": RUNNING, "failed": FAILED, "cancelled": CANCELLED}
"""States of which lists have an index. Completed jobs have none: it would be a tree more at the end of each job."""


def partial(name: str, *columns: str, where: str) -> Index:
    return Index(name, *columns, sqlite_where=sql(where), postgresql_where=sql(where))


# What a claim filters on, carried in the queue's indexes so that jobs that do not fit are passed over
# without touching their rows.
MATCHED = tuple(constraint.column for constraint in CONSTRAINTS)
# What every claim names by one value stands first: of other values' jobs it does not meet the entries either.
EXACT = tuple(constraint.column for constraint in CONSTRAINTS if constraint.exact)
_PASSED_OVER = tuple(column for column in MATCHED if column not in EXACT)


class Job(SQLModel, table=True):
    """One job. `queued` is 1 while a miner may claim it (pending, and paid for).

    rank     9 - priority, so that the queue's order is (rank, id) ascending; ids are ordered by time.
    held     what the client's account holds for it: worst-case units at the cap, in base units.
    required miner, region: '' for none. min_context: tokens of context that it needs at the least.
    excluded whom it is kept from after failures (see `jobs.exclusion`), looked at again at `review_at_ms`
             (0: never, nobody is kept away).
    manual_payment 1 for a job whose payer opens the escrow and releases it (it has a row in `payments`).
    expires_at_ms  when its time to wait is over; it stands still while the job runs (see `requeue`).
    max_run_ms     how long one run may take; run_ends_at_ms when this one's time is over (0: it does not run).
    progress_tokens, progress_ms  what the miner last said it had generated, and how long into the run (0: nothing).
    paid_run_ms    of a run that was cancelled: how much of it its price is for (`core.metering.cancelled_units`).
    lease_ms       how long the run's lease lasts after each word of its miner, as it was in force when the miner got it
                   (NULL: of a run from before that was kept, or of none)
    fee_bps        the network's share of the run's price, as it was in force when the miner got it, in basis points
                   (None: it does not run; also of runs that ended before this was kept).
    miner_session  the miner's session that was given the lease ('' for a miner that has none).
    reservation    the booking of a GPU under which it runs ('' for none): it goes to that GPU alone, and is paid by it.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        listed("status", "status", STATUSES),
        listed("cause", "cause", ("", *CAUSES)),
        listed("actor", "actor", ("", *ACTORS)),
        CheckConstraint("queued = 0 OR status = 'pending'", name="queued_is_pending"),
        CheckConstraint("(status = 'running') = (lease_id <> '')", name="running_has_a_lease"),
        listed("ended", "status", TERMINAL, "{} = (finished_at_ms IS NOT NULL)"),
        CheckConstraint("(status = 'completed') = (receipt_id <> '')", name="completed_has_a_receipt"),
        CheckConstraint("held_units >= 0 AND max_price_units >= 0 AND price_units >= 0", name="money"),
        CheckConstraint("price_units <= held_units", name="price_within_hold"),
        partial("ix_jobs_queue", *EXACT, "job_type", "model", "rank", "id", *_PASSED_OVER, where=QUEUED),
        partial("ix_jobs_queue_any", *EXACT, "job_type", "rank", "id", *_PASSED_OVER, where=QUEUED),
        # An index more is a tree more to change at every move of a job. What runs is little: the leases that
        # have ended are found among all of it.
        partial("ix_jobs_review", "review_at_ms", where=REVIEWED),
        partial("ix_jobs_expiry", "expires_at_ms", "id", where=PENDING),
        # The state is in these so that jobs are counted without touching their rows.
        partial("ix_jobs_backlog", "client_id", "id", "status", where=PENDING),
        partial("ix_jobs_large", "client_id", "prompt_bound", where=LARGE_PENDING),
        partial("ix_jobs_running", "miner_id", "id", "lease_expires_at_ms", where=RUNNING),
        # These cost a job that is answered nothing.
        partial("ix_jobs_failed", "client_id", "id", "status", where=FAILED),
        partial("ix_jobs_failed_all", "id", "status", where=FAILED),
        partial("ix_jobs_cancelled", "client_id", "id", "status", where=CANCELLED),
        partial("ix_jobs_cancelled_all", "id", "status", where=CANCELLED),
        Index("ix_jobs_client", "client_id", "id"),
        {"sqlite_with_rowid": False},
    )

    id: str = text(primary_key=True)
    client_id: str = text(foreign_key="accounts.id")
    key_id: str = text()
    spend_period_ms: int = big(0)
    job_type: str = text()
    model: str = text()
    status: str = text()
    queued: int = small()
    rank: int = small()
    max_price_units: int = big()
    min_memory_mb: int = big(0)
    region: str = text("")
    required_miner_id: str = text("")
    excluded: str = text("")
    review_at_ms: int = big(0)
    hold_id: str = text("")
    held_units: int = big(0)
    prompt_bound: int = big()
    completion_bound: int = big()
    prompt_hash: str = text()
    attempts: int = small(0)
    event_count: int = small(0)
    miner_id: str = text("")
    lease_id: str = text("")
    lease_expires_at_ms: int = big(0)
    unit_price_units: int = big(0)
    price_units: int = big(0)
    cause: str = text("")
    actor: str = text("")
    message: str = text("")
    receipt_id: str = text("")
    created_at_ms: int = big()
    started_at_ms: int | None = big(None, nullable=True)
    finished_at_ms: int | None = big(None, nullable=True)
    expires_at_ms: int = big()
    manual_payment: int = small(0, sa_column_kwargs={"server_default": "0"})
    max_run_ms: int = big(sa_column_kwargs={"server_default": "1800000"})
    run_ends_at_ms: int = big(0, sa_column_kwargs={"server_default": "0"})
    miner_session: str = text("", sa_column_kwargs={"server_default": sql("''")})
    progress_tokens: int = big(0, sa_column_kwargs={"server_default": "0"})
    progress_ms: int = big(0, sa_column_kwargs={"server_default": "0"})
    paid_run_ms: int = big(0, sa_column_kwargs={"server_default": "0"})
    min_context: int = big(0, sa_column_kwargs={"server_default": "0"})
    fee_bps: int | None = big(None, nullable=True)
    reservation: str = text("", sa_column_kwargs={"server_default": sql("''")})
    lease_ms: int | None = big(None, nullable=True)


class JobRequest(SQLModel, table=True):
    """What was asked (canonical JSON). Private; erased after the retention time."""

    __tablename__ = "job_requests"

    job_id: str = text(primary_key=True, foreign_key="jobs.id")
    request: str = text()


class JobResult(SQLModel, table=True):
    """What was answered (canonical JSON). Private; erased after the retention time."""

    __tablename__ = "job_results"

    job_id: str = text(primary_key=True, foreign_key="jobs.id")
    result: str = text()


class FreeJobs(SQLModel, table=True):
    """How many jobs of an account ended on one day (UTC) without having paid for anything.

    account_day  the day and the account's name, "2026-11-28 alice"; rows of days before yesterday are purged
    """

    __tablename__ = "free_jobs"

    account_day: str = text(primary_key=True)
    jobs: int = big(0)


class JobEvent(SQLModel, table=True):
    """One entry of a job's append-only history; `seq` counts from 1."""

    __tablename__ = "job_events"
    __table_args__ = (
        listed("type", "type", EVENT_TYPES),
        listed("status", "status", STATUSES),
        {"sqlite_with_rowid": False},
    )

    job_id: str = text(primary_key=True, foreign_key="jobs.id")
    seq: int = small(primary_key=True)
    at_ms: int = big()
    type: str = text()
    status: str = text()
    actor: str = text()
    cause: str = text("")
    miner_id: str = text("")


append_only(JobEvent)
