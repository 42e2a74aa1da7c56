"""Ends leases and jobs whose time has come. Clock jumps and outages are not held against miners."""

import structlog

from aitbc.coordinator.flows.acts import expiry
from aitbc.coordinator.metrics import LEASE_EXPIRIES
from aitbc.coordinator.process.loops import Loop
from aitbc.coordinator.process.runtime import Runtime

log = structlog.get_logger(__name__)

EVERY_S = 0.5
JUMP_MS = 2_000  # the wall clock and the monotonic one may drift this far apart between two rounds
OUTAGE_S = 5.0  # without a good round for so long, miners could not reach us: a pause, a full disk


class Expiry:
    """What the last round saw: when it was by both clocks, and since when rescheduling waits."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._wall_ms = runtime.clock.now_ms()
        self._mono_s = runtime.clock.monotonic()
        self._frozen_since_s: float | None = None

    async def run_once(self) -> bool:
        """One round; True where another one is due at once."""
        database, context = self.runtime.db, self.runtime.context
        now_ms, mono_s = self.runtime.clock.now_ms(), self.runtime.clock.monotonic()
        since_s = mono_s - self._mono_s
        jumped_ms = now_ms - self._wall_ms - round(since_s * 1000)
        if abs(jumped_ms) > JUMP_MS:
            count = await database.write(expiry.follow_clock, context, jumped_ms)
            self._wall_ms += jumped_ms
            log.warning("clock_jumped", by_ms=jumped_ms, leases=count)
        if since_s > OUTAGE_S:
            count = await database.write(expiry.renew_leases, context)
            log.warning("leases_renewed", away_s=round(since_s, 1), leases=count)
        frozen_for_s = 0.0 if self._frozen_since_s is None else mono_s - self._frozen_since_s
        found = await database.write(
            expiry.expire_due,
            context,
            frozen_for_ms=round(frozen_for_s * 1000),
            waiting_too=self.runtime.steady.is_steady(),
        )
        self._wall_ms, self._mono_s = now_ms, mono_s  # last: a round that failed is part of an outage
        if found.frozen and self._frozen_since_s is None:
            self._frozen_since_s = mono_s
            log.warning("rescheduling_waits", reason="most miners that hold leases went silent at once")
        elif not found.silent:
            self._frozen_since_s = None
        for cause in found.causes:
            LEASE_EXPIRIES.labels(cause).inc()
        return found.more


LOOP = Loop(
    name="expiry",
    does="ends leases, runs and jobs whose time has come; follows the clock and outages on the miners' behalf",
    every_s=lambda _settings: EVERY_S,
    open=Expiry,
    run_once=Expiry.run_once,
)
