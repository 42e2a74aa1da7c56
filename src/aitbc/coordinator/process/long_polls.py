"""Long polls: look, wait to be woken, look again. Signals are hints; every waiter also looks by itself."""

import random
import time

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.flows.acts import dispatch
from aitbc.coordinator.flows.acts.dispatch import Offered, Taken
from aitbc.coordinator.flows.shared import own_jobs
from aitbc.coordinator.flows.shared.trust import Room
from aitbc.coordinator.jobs.lifecycle import TERMINAL
from aitbc.coordinator.jobs.matching.idle_miners import Ticket
from aitbc.coordinator.jobs.rows import JobRow
from aitbc.coordinator.process.runtime import Runtime

LOOK_S = 10.0  # a waiter looks at least this often without being woken
JITTER = 0.25  # and not all of them at once
FULL_LOOK_S = 1.0  # a miner without a free place is woken by nothing, so it looks more often


async def take(
    runtime: Runtime,
    principal: Principal,
    miner_id: str | None,
    max_jobs: int,
    known: set[str],
    wait_s: float,
    session: str | None = None,
) -> Taken:
    """Leases jobs to the miner, waiting up to `wait_s` for the first; none where none came, and on shutdown."""
    database, context = runtime.db, runtime.context
    until = time.monotonic() + wait_s
    taken = await database.write(dispatch.take, context, principal, miner_id, max_jobs, known, session)
    if taken.assignments or wait_s <= 0:
        return taken
    ticket: Ticket | None = None
    satisfied = False
    try:
        while not runtime.shutdown.is_set():
            profile = taken.profile if taken.may_wait else None
            if ticket is not None and ticket.profile != profile:  # it changed, drains or is full
                runtime.idle_miners.leave(ticket, satisfied=False)
                ticket = None
            left_s = until - time.monotonic()
            pause_s = min(left_s, LOOK_S * random.uniform(1 - JITTER, 1 + JITTER))
            if ticket is None and profile is not None:
                ticket = runtime.idle_miners.enter(profile)
            elif left_s <= 0:
                break
            elif ticket is not None:
                await runtime.idle_miners.wait(ticket, pause_s)
            else:
                await _without_room(runtime, principal, taken.room, left_s)
            taken = await database.write(
                dispatch.take, context, principal, miner_id, max_jobs, known, session
            )
            if taken.assignments:
                satisfied = True
                return taken
        return taken
    finally:
        if ticket is not None:
            runtime.idle_miners.leave(ticket, satisfied=satisfied)


async def _without_room(runtime: Runtime, principal: Principal, room: Room, left_s: float) -> None:
    """Waits until the miner may have work again, or might: it pauses, is full, or drains."""
    look_s = min(left_s, FULL_LOOK_S)
    if room.until_ms:
        look_s = min(look_s, max(0.0, room.until_ms - runtime.clock.now_ms()) / 1000 + 0.01)
    await runtime.db.signals.wait(("idle", principal.account_id), look_s)


async def offer(
    runtime: Runtime, principal: Principal, miner_id: str, wait_s: float, session: str | None = None
) -> Offered:
    """The job that the miner could claim, waiting up to `wait_s` for one."""
    database, context = runtime.db, runtime.context
    until = time.monotonic() + wait_s
    offered = await database.write(dispatch.offer, context, principal, miner_id, session)
    if offered.job is not None or wait_s <= 0:
        return offered
    ticket: Ticket | None = None
    try:
        while not runtime.shutdown.is_set():  # with nothing awaited between this look and the wait
            profile = offered.profile if offered.may_wait else None
            if ticket is not None and ticket.profile != profile:
                runtime.idle_miners.leave(ticket, satisfied=False)
                ticket = None
            left_s = until - time.monotonic()
            if ticket is None and profile is not None:
                ticket = runtime.idle_miners.enter(profile)
            elif left_s <= 0:
                break
            elif ticket is not None:
                await runtime.idle_miners.wait(ticket, min(left_s, LOOK_S))
            else:
                await _without_room(runtime, principal, offered.room, left_s)
            offered = await database.write(dispatch.offer, context, principal, miner_id, session)
            if offered.job is not None:
                break
        return offered
    finally:
        if ticket is not None:
            runtime.idle_miners.leave(ticket, satisfied=offered.job is not None)


async def job_change(
    runtime: Runtime,
    principal: Principal,
    job_id: str,
    wait_s: float,
    *,
    past: tuple[str, ...] = ("pending", "running"),
) -> JobRow:
    """The job once its status is none of `past`, or as it is after `wait_s`. Raises JobNotFound."""
    database = runtime.db
    until = time.monotonic() + wait_s
    key = ("job", job_id)
    while True:
        woken = database.signals.expect(key)
        try:
            job = await database.read(own_jobs.visible, principal, job_id)
            left_s = until - time.monotonic()
            if job.status not in past or job.status in TERMINAL or left_s <= 0 or runtime.shutdown.is_set():
                return job
            await database.signals.wait_for(woken, min(left_s, LOOK_S))
        finally:
            database.signals.forget(key, woken)
