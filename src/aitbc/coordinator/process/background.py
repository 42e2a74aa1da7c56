"""Runs the loops that `process/loops` declares, beside the API, from the coordinator's start to its end."""

import asyncio
import pkgutil
import time
from importlib import import_module
from typing import Any

import structlog

from aitbc.coordinator.errors import StorageUnavailable
from aitbc.coordinator.metrics import LOOP_ROUND, LOOP_ROUNDS
from aitbc.coordinator.process import loops
from aitbc.coordinator.process.loops import Loop
from aitbc.coordinator.process.runtime import Runtime

log = structlog.get_logger(__name__)

END_S = 1.0
"""How long a round may still take once the program is to end: one that waits for a witness would overstay."""


def declared() -> tuple[Loop[Any], ...]:
    """Every loop there is, by the names of their modules."""
    names = sorted(module.name for module in pkgutil.iter_modules(loops.__path__))
    return tuple(import_module(f"{loops.__name__}.{name}").LOOP for name in names)


LOOPS = declared()


class Running:
    """A loop of one coordinator, opened."""

    def __init__(self, loop: Loop[Any], runtime: Runtime) -> None:
        self.loop = loop
        self.runtime = runtime
        self._state = runtime if loop.open is None else loop.open(runtime)

    @property
    def waits(self) -> bool:
        """Whether its rounds have to wait, for the clock or for good."""
        if self.loop.needs_steady_clock and not self.runtime.steady.is_steady():
            return True
        return bool(self.runtime.log_refused) and not self.loop.while_log_refused

    async def run_once(self) -> bool:
        """One round, unless it has to wait; True where another one is due at once."""
        return False if self.waits else await self.loop.run_once(self._state)

    async def run(self) -> None:
        """Round after round until shutdown: at once while there is more to do, else after a pause."""
        shutdown = self.runtime.shutdown
        try:
            while not shutdown.is_set():
                if await self._outlived():
                    continue
                try:
                    await asyncio.wait_for(shutdown.wait(), self.loop.every_s(self.runtime.settings))
                except TimeoutError:
                    continue
        finally:
            await self.close()

    async def close(self) -> None:
        if self.loop.close is None:
            return
        try:
            await self.loop.close(self._state)
        except Exception:  # the other loops, and the database, are still to be closed
            log.exception("loop_not_closed", loop=self.loop.name)

    async def _outlived(self) -> bool:
        """One round, counted; a loop outlives a bad one: without it leases would never end."""
        name, began_s = self.loop.name, time.monotonic()
        outcome, more = "done", False
        try:
            if self.waits:
                outcome = "waits"
            else:
                more = await self.loop.run_once(self._state)
        except StorageUnavailable:
            outcome = "failed"
            log.warning("background_round_failed", loop=name)
        except Exception:
            outcome = "failed"
            log.exception("background_round_failed", loop=name)
        LOOP_ROUNDS.labels(name, outcome).inc()
        LOOP_ROUND.labels(name).set(time.monotonic() - began_s)
        return more


def start(runtime: Runtime) -> list[asyncio.Task[None]]:
    """Opens and starts every loop; they end by themselves once `runtime.shutdown` is set."""
    opened = [Running(loop, runtime) for loop in LOOPS]
    return [asyncio.create_task(running.run(), name=running.loop.name) for running in opened]


async def stop(tasks: list[asyncio.Task[None]]) -> None:
    """Waits for the loops' ends, `runtime.shutdown` being set; a round that takes longer than END_S is cut short.

    That does no harm: a transaction under way is done whole or not at all, as after a `kill -9`.
    """
    if not tasks:
        return
    _ended, late = await asyncio.wait(tasks, timeout=END_S)
    for task in late:
        log.warning("background_round_cut_short", loop=task.get_name())
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
