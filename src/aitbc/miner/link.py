"""Whether the coordinator answers, as all of the miner's loops see it together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aitbc.miner.answers import Refused
from aitbc.miner.backoff import Backoff
from aitbc.miner.progress import MinerView, Reporter


class KeyRefused(Exception):
    """The coordinator does not know our key (any more): nothing can go on before a person mends that."""

    def __init__(self, refusal: Refused) -> None:
        self.refusal = refusal
        super().__init__(str(refusal))


class Link:
    """Shared by the loops: the first failure is reported once, the first success afterwards wakes all who
    wait."""

    def __init__(self, reporter: Reporter, new_backoff: Callable[[], Backoff], view: MinerView) -> None:
        self.is_up = True
        self._reporter = reporter
        self._view = view
        self.new_backoff = new_backoff
        self._wake = asyncio.Event()

    def succeeded(self) -> None:
        """The coordinator answered."""
        if not self.is_up:
            self.is_up = True
            self._view.coordinator_trouble = ""
            self._reporter.event("coordinator_back")
            self.nudge()

    async def failed(self, error: Exception, backoff: Backoff) -> None:
        """No answer, or one that says to come back later: report it and wait. KeyRefused: waiting will not
        help."""
        retry_after_s = None
        if isinstance(error, Refused):
            if error.is_about_the_key:
                raise KeyRefused(error)
            retry_after_s = error.retry_after_s
        wait_s = backoff.next_s(retry_after_s)
        if self.is_up:
            self._reporter.event("coordinator_down", reason=str(error), retry_s=round(wait_s, 1))
        self.is_up = False
        self._view.coordinator_trouble = f"{error}; trying again"
        self._reporter.refresh(self._view)
        await self.pause(wait_s)

    async def pause(self, seconds: float) -> None:
        """Wait, but no longer than until the coordinator is back."""
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return  # the whole pause has passed: time to try

    def nudge(self) -> None:
        """Wake everyone who waits."""
        self._wake.set()
