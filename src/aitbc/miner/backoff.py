"""Waiting longer after each failure, at random, so that a thousand miners do not come back in the same
instant."""

from __future__ import annotations

import asyncio
import random


class Backoff:
    """Exponential backoff with jitter: the n-th wait is between half and the whole of min(cap, first x
    2^n)."""

    def __init__(self, first_s: float, cap_s: float) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._failures = 0

    def next_s(self, at_least_s: float | None = None) -> float:
        """The next wait; `at_least_s` is what the other side asked for (`Retry-After`)."""
        ceiling = min(self._cap_s, self._first_s * 2.0 ** min(self._failures, 30))
        self._failures += 1
        wait_s = random.uniform(ceiling / 2, ceiling)
        return max(wait_s, at_least_s or 0.0)

    def reset(self) -> None:
        """It worked: begin again with the shortest wait."""
        self._failures = 0


async def wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for `event`, but no longer than `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return  # the time is up, which is as good a reason to go on
