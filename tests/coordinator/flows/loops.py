"""The expiry loop of a coordinator, under a clock that tests move."""

from collections.abc import Callable, Coroutine
from typing import Any

from aitbc.coordinator.process.loops.expiry import EVERY_S, Expiry
from aitbc.coordinator.process.runtime import Runtime
from tests.support.flows import Market, Provider, in_loop

LEASE_S = 60
ROUND_S = EVERY_S


class Loop:
    """The expiry loop of one coordinator."""

    def __init__(self, runtime: Runtime, market: Market) -> None:
        self.runtime = runtime
        self.market = market
        self.expiry = Expiry(runtime)

    async def passes(self, seconds: float, alive: list[Provider] | None = None) -> None:
        """Time passes in rounds, as in a coordinator that runs; these miners send their heartbeats."""
        for n in range(round(seconds / ROUND_S)):
            self.market.clock.advance(ROUND_S)
            if alive and n % 30 == 0:
                for miner in alive:
                    self.market.heartbeat(miner)
            while await self.expiry.run_once():
                pass

    def status(self, job_id: str) -> str:
        return self.market.job(job_id).status


def run(loop: Loop, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    in_loop(loop.market.db, main())
