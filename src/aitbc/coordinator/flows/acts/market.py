"""What time does to bookings: they begin, are counted, run out, and take their jobs with them; GPUs come and go.

A round is several transactions of bounded size, each whole by itself, so any coordinator may do any of them at any
time. Ends come before beginnings: a GPU goes from one booking to the next in one round.
"""

import json
from typing import Any, NamedTuple

from sqlalchemy import bindparam, literal_column, select, update
from sqlalchemy import text as sql

from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import among, table_of
from aitbc.coordinator.errors import BookingEnded
from aitbc.coordinator.flows.shared import rentals
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.jobs import free
from aitbc.coordinator.jobs import service as jobs
from aitbc.coordinator.jobs.models import QUEUED, RUNNING, Job
from aitbc.coordinator.jobs.rows import COLUMNS, JobRow
from aitbc.coordinator.marketplace import bookings
from aitbc.coordinator.marketplace.models import Gpu
from aitbc.coordinator.marketplace.rows import BookingRow
from aitbc.coordinator.miners import standing
from aitbc.coordinator.miners.models import Miner, Provider

BATCH = 100  # bookings of one transaction, so that others get their turn
JOBS_BATCH = 200
STATES_BATCH = 1_000

_g: Any = table_of(Gpu).c
_m: Any = table_of(Miner).c
_p: Any = table_of(Provider).c
_j: Any = table_of(Job).c

_of_miner = (_m.id == _g.miner_id) & (_m.account_id == _g.owner_id)
_active = _m.status == literal_column("'active'")
CAME = statement(
    select(_g.id)
    .join_from(Gpu, Miner, _of_miner)
    .join(Provider, _p.account_id == _m.account_id)
    # Not by the index of the miners' states, which SQLite would take: nearly all miners are active, few GPUs offline.
    .where(
        sql("gpus.state = 'offline' AND gpus.miner_id <> ''"),
        _m.status.concat("") == literal_column("'active'"),
        standing.ADMITTED,
    )
    .limit(bindparam("count"))
)
WENT = statement(
    select(_g.id)
    .join_from(Miner, Gpu, _m.id == _g.miner_id)
    .where(
        _m.status.in_([literal_column("'draining'"), literal_column("'inactive'")]),
        _g.state == literal_column("'available'"),
    )
    .limit(bindparam("count"))
)
BARRED = statement(
    select(_g.id)
    # From the accounts, of which few are barred, to their GPUs: SQLite would go the other way.
    .join_from(Provider, Gpu, _g.owner_id == _p.account_id.concat(""))
    .where(~standing.ADMITTED, _g.state == literal_column("'available'"))
    .limit(bindparam("count"))
)
_works = (_p.account_id == _m.account_id) & standing.ADMITTED
_is_here = select(_m.id).where(_of_miner, _active, _works).exists()


def _becomes(state: str, *conditions: Any) -> Any:
    """The GPUs among `gpus` of which that still holds; the miner of each is looked at again."""
    return statement(
        lambda dialect: (
            update(Gpu)
            .where(
                among(dialect, "gpus.id", "gpus"),
                *conditions,
                _is_here if state == "available" else ~_is_here,
            )
            .values(state=literal_column(f"'{state}'"))
        )
    )


COME = _becomes("available", _g.state == literal_column("'offline'"))
GO = _becomes("offline", _g.state == literal_column("'available'"))
WAITING_OF = statement(
    select(*COLUMNS)
    .where(sql(QUEUED), _j.reservation == bindparam("booking"))
    .order_by(_j.id)
    .limit(JOBS_BATCH),
    JobRow,
)
RUNNING_OF = statement(
    select(*COLUMNS)
    .where(sql(RUNNING), _j.miner_id == bindparam("miner"), _j.reservation == bindparam("booking"))
    .order_by(_j.id)
    .limit(JOBS_BATCH),
    JobRow,
)


class Round(NamedTuple):
    """What one look did: bookings by what became of them, and whether more is due at once."""

    outcomes: list[str]
    more: bool


def count(tx: Tx, ctx: FlowContext) -> int:
    """Counts the time that coordinators ran, and of it what the booked machines were there; how many moved on."""
    rentals.count_uptime(tx, ctx)
    return rentals.count_all(tx, ctx)


def end_due(tx: Tx, ctx: FlowContext) -> Round:
    """Ends bookings that have run out, and those whose machine did not show up."""
    due = bookings.due(tx, "ended", BATCH)
    awaited = bookings.due(tx, "awaited", BATCH, up_before=rentals.uptime_ms(tx) - ctx.no_show_ms)
    outcomes = []
    for booking_id in dict.fromkeys((*due, *awaited)):
        try:
            outcomes.append(rentals.settle(tx, ctx, booking_id, "coordinator").detail)
        except BookingEnded:  # somebody else was faster
            continue
    return Round(outcomes, BATCH in (len(due), len(awaited)))


def begin_due(tx: Tx) -> bool:
    """Bookings whose time has come have their GPUs from now on; True where more are due at once."""
    due = bookings.due(tx, "unopened", BATCH)
    begun = 0
    for booking_id in due:
        booking = bookings.get(tx, booking_id)
        if booking is not None and booking.state == "active" and not booking.opened:
            begun += rentals.begin(tx, booking)
    return len(due) == BATCH and begun > 0


def clear_jobs(tx: Tx) -> bool:
    """Ends the jobs of bookings that have ended; True where more are left."""
    left = JOBS_BATCH
    due = bookings.due(tx, "clearing", BATCH)
    for booking_id in due:
        booking = bookings.get(tx, booking_id)
        if booking is None:
            continue
        # In this order: what runs may be put back into the queue meanwhile, and nothing of it is claimed any more.
        running = tx.all(RUNNING_OF, miner=booking.miner_id, booking=booking_id)
        waiting = tx.all(WAITING_OF, booking=booking_id)
        moved_on = sum(not _end_job(tx, booking, job) for job in (*running, *waiting))
        left -= len(running) + len(waiting)
        if len(waiting) < JOBS_BATCH and len(running) < JOBS_BATCH and not moved_on:
            bookings.cleared(tx, booking_id)
        if left <= 0:
            return True
    return len(due) == BATCH


def _end_job(tx: Tx, booking: BookingRow, job: JobRow) -> bool:
    """False where it moved meanwhile. A booking that cost nothing has not paid for what its jobs leave behind."""
    if not jobs.end(tx, job, "cancelled", "BOOKING_ENDED", "coordinator"):
        return False
    if not booking.price_units:
        free.count(tx, free.payer(job))
    return True


class Moved(NamedTuple):
    """GPUs whose miners came or went since they were last looked at, by id."""

    came: list[str]
    went: list[str]


def moved(tx: Tx, ctx: FlowContext) -> Moved:
    """A look at which GPUs' miners are here and may have work; it writes nothing."""
    only = int(ctx.only_approved)
    came = tx.all(CAME, count=STATES_BATCH, only_approved=only)
    went = tx.all(WENT, count=STATES_BATCH)
    barred = tx.all(BARRED, count=STATES_BATCH, only_approved=only)
    return Moved([row.id for row in came], [row.id for row in (*went, *barred)])


def follow(tx: Tx, ctx: FlowContext, found: Moved) -> int:
    """Writes down what `moved` saw, where it still holds; how many GPUs changed."""
    only = int(ctx.only_approved)
    came = tx.run(COME, gpus=json.dumps(found.came), only_approved=only) if found.came else 0
    went = tx.run(GO, gpus=json.dumps(found.went), only_approved=only) if found.went else 0
    return came + went
