"""Begins, counts and ends the bookings of GPUs, and keeps up with which GPUs are here."""

from aitbc.coordinator.flows.acts import market
from aitbc.coordinator.metrics import BOOKINGS_ENDED
from aitbc.coordinator.process.loops import Loop
from aitbc.coordinator.process.runtime import Runtime

EVERY_S = 2.0


async def run_once(runtime: Runtime) -> bool:
    """One round; True where another one is due at once."""
    database, context = runtime.db, runtime.context
    await database.write(market.count, context)
    ended = await database.write(market.end_due, context)
    begun = await database.write(market.begin_due)
    cleared = await database.write(market.clear_jobs)
    found = await database.read(market.moved, context)
    if found.came or found.went:
        await database.write(market.follow, context, found)
    for outcome in ended.outcomes:
        BOOKINGS_ENDED.labels(outcome).inc()
    return ended.more or begun or cleared


LOOP = Loop(
    name="market",
    does="begins, counts and ends bookings of GPUs and their jobs; marks GPUs whose miners came or went",
    every_s=lambda _settings: EVERY_S,
    run_once=run_once,
    needs_steady_clock=True,
)
