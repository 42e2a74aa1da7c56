"""Miners that wait for work in this process, and which of them a newly queued job wakes.

One job wakes one miner: the cheapest that fits, and among equals the one that has waited longest. The
database still decides who gets the job; a miner that wakes in vain waits on.
"""

import asyncio
import heapq
import itertools
from collections import defaultdict
from typing import Any

from aitbc.jobs.matching import MinerProfile, Wanted, reason_against


class Ticket:
    """One waiting miner. `woken_by` is the job it was woken for."""

    __slots__ = ("future", "left", "profile", "woken_by")

    def __init__(self, profile: MinerProfile) -> None:
        self.profile = profile
        self.future: asyncio.Future[None] | None = None
        self.woken_by: Wanted | None = None
        self.left = False


class WaitingMiners:
    """All tickets of this process, by what their miners serve. Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._buckets: defaultdict[tuple[str, str], list[tuple[int, int, Ticket]]] = defaultdict(list)
        self._order = itertools.count()
        self._tickets: set[Ticket] = set()

    def __len__(self) -> int:
        return len(self._tickets)

    def hear(self, signal: Any) -> None:
        """A listener for `Signals`: wakes a miner for each `queued` signal."""
        if signal[0] == "queued":
            self.wake(Wanted(*signal[1:]))

    def enter(self, profile: MinerProfile) -> Ticket:
        """Takes a place. Look for work once more after entering, so that nothing falls between."""
        ticket = Ticket(profile)
        self._tickets.add(ticket)
        for ask in profile.asks:
            place = (ask.price_units, next(self._order), ticket)
            heapq.heappush(self._buckets[ask.job_type, ask.model], place)
        return ticket

    def leave(self, ticket: Ticket, *, satisfied: bool) -> None:
        """Gives the place up. A wake-up that led to nothing passes to the next miner."""
        ticket.left = True
        self._tickets.discard(ticket)
        for ask in ticket.profile.asks:
            self._sweep((ask.job_type, ask.model))
        if ticket.woken_by is not None and not satisfied:
            self.wake(ticket.woken_by)

    async def wait(self, ticket: Ticket, timeout_s: float) -> bool:
        """True when woken within `timeout_s`. The ticket can wait again afterwards."""
        if ticket.woken_by is None:
            ticket.future = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait_for(ticket.future, timeout_s)
            except TimeoutError:
                return False
            finally:
                ticket.future = None
        ticket.woken_by = None
        return True

    def wake(self, wanted: Wanted) -> bool:
        """Wakes one miner that fits; False where none waits."""
        for model in (wanted.model, "*"):
            bucket = self._buckets.get((wanted.job_type, model))
            ticket = self._first(bucket, wanted) if bucket else None
            if ticket is not None:
                ticket.woken_by = wanted
                if ticket.future is not None and not ticket.future.done():
                    ticket.future.set_result(None)
                return True
        return False

    def wake_all(self) -> None:
        """Ends every wait: the process is shutting down."""
        for ticket in self._tickets:
            if ticket.future is not None and not ticket.future.done():
                ticket.future.set_result(None)

    @staticmethod
    def _first(bucket: list[tuple[int, int, Ticket]], wanted: Wanted) -> Ticket | None:
        """The best ticket that is free and fits. Those passed over go back; those gone are dropped."""
        passed: list[tuple[int, int, Ticket]] = []
        found: Ticket | None = None
        while bucket:
            place = heapq.heappop(bucket)
            ticket = place[2]
            if ticket.left:
                continue
            passed.append(place)
            if ticket.woken_by is None and not reason_against(ticket.profile, wanted):
                found = ticket
                break
        for place in passed:
            heapq.heappush(bucket, place)
        return found

    def _sweep(self, key: tuple[str, str]) -> None:
        """Drops what has left once it is most of the bucket, so that a bucket stays as large as its waiters."""
        bucket = self._buckets.get(key)
        if bucket is None:
            return
        while bucket and bucket[0][2].left:
            heapq.heappop(bucket)
        if not bucket:
            del self._buckets[key]
        elif len(bucket) > 2 * len(self._tickets) + 16:
            bucket[:] = [place for place in bucket if not place[2].left]
            heapq.heapify(bucket)
