"""/metrics: the process's counters, and gauges read from the database when they are asked for."""

from __future__ import annotations

import asyncio

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from aitbc.coordinator import metrics
from aitbc.coordinator.flows.views.levels import Levels, levels
from aitbc.coordinator.process.runtime import Runtime

LEVELS_S = 2.0
"""How old the gauges may be."""


class Gauges:
    """The levels of one database, read at most every LEVELS_S however often they are asked for.

    Counting what waits takes the longer the more it is; so it is not done for each who asks, who may be anybody.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._reading: asyncio.Future[Levels] | None = None
        self._known: Levels | None = None
        self._read_s = 0.0

    async def now(self) -> Levels:
        """Levels at most LEVELS_S old. Raises StorageUnavailable.

        All who ask at once wait for one look, and hear of its failure together.
        """
        if self._known is not None and self._runtime.clock.monotonic() - self._read_s < LEVELS_S:
            return self._known
        if self._reading is None or self._reading.done():
            self._reading = asyncio.ensure_future(self._read())
        return await asyncio.shield(self._reading)

    async def _read(self) -> Levels:
        self._known = await self._runtime.db.read(levels)
        self._read_s = self._runtime.clock.monotonic()
        return self._known


def expose(now: Levels) -> tuple[bytes, str]:
    """The metrics' text and its content type."""
    metrics.ACTIVE_JOBS.set(now.pending + now.running)
    metrics.RUNNING_JOBS.set(now.running)
    metrics.QUEUE_DEPTH.set(now.queued)
    metrics.QUEUE_AGE.set(now.queue_age_s)
    metrics.REGISTERED_MINERS.set(now.miners_registered)
    metrics.ACTIVE_MINERS.set(now.miners_active)
    metrics.OPEN_TOPUPS.set(now.open_topups)
    metrics.UNCREDITED_OUTPUTS.set(now.nobodys_outputs)
    metrics.OWED_OUTPUTS.set(now.owed_outputs)
    metrics.BITCOIN_AGE.set(now.bitcoin_age_s)
    return generate_latest(), CONTENT_TYPE_LATEST
