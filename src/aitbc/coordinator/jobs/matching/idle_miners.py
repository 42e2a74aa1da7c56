"""Idle miners: those that wait for work in this process, and which of them a newly queued job wakes.

One job wakes one miner: of those that fit the one that costs its client least, all told (`Merit.cost`), among equals
the one of the better reputation (`Merit.rank`), and then the one that has waited longest. Miners that have not proven
themselves come after those that have, but for every NEWCOMER_TURN-th job: so a stranger with a price of zero gets a
share and not everything.
A job that might not fit into the context of some goes to one that surely holds it, if such a one waits.
The database still decides who gets the job; a miner that wakes in vain waits on.
"""

import asyncio
import heapq
import itertools
from collections import defaultdict
from typing import Any

from aitbc.coordinator.jobs.matching.rules import RULES, MinerProfile, Rules, Wanted
from aitbc.core.jobspec import ANY_MODEL

NEWCOMER_TURN = 8
"""One job in so many goes to a newcomer first, where one waits that fits."""


class Ticket:
    """One waiting miner. `woken_by` is the job that it is woken for next, `looking` the one it looks for now."""

    __slots__ = ("future", "left", "looking", "profile", "woken_by")

    def __init__(self, profile: MinerProfile) -> None:
        self.profile = profile
        self.future: asyncio.Future[None] | None = None
        self.woken_by: Wanted | None = None
        self.looking: Wanted | None = None
        self.left = False


Place = tuple[int, int, int, Ticket]
"""Where a ticket stands for one of its asks: cost, rank, order of arrival (no two alike), ticket."""

Bucket = tuple[str, str, bool]
"""Job type, model, and whether the miners in it have proven themselves."""


class IdleMiners:
    """All tickets of this process, by what their miners serve. Belongs to the event loop's thread."""

    def __init__(self, rules: Rules = RULES) -> None:
        self._rules = rules
        self._buckets: defaultdict[Bucket, list[Place]] = defaultdict(list)
        self._order = itertools.count()
        self._turn = 0
        self._tickets: set[Ticket] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._tickets)

    def hear(self, signal: Any) -> None:
        """A listener for `Signals`: wakes a miner for each `queued` signal, and one that has changed or left."""
        if self._tickets and signal[0] == "queued":
            self.wake(self._rules.heard(signal))
        elif self._tickets and signal[0] == "miner":
            self._rouse(signal[1])

    def _rouse(self, miner_id: str) -> None:
        """Has the miner's polls look again, for whether they may still wait."""
        for ticket in self._tickets:
            future = ticket.future
            if ticket.profile.needs.miner_id == miner_id and future is not None and not future.done():
                future.set_result(None)

    def enter(self, profile: MinerProfile) -> Ticket:
        """Takes a place. Look for work once more after entering, so that nothing falls between."""
        ticket = Ticket(profile)
        self._tickets.add(ticket)
        for ask in profile.asks:
            cost = profile.merit.cost(ask.price_units)
            place = (cost, profile.merit.rank, next(self._order), ticket)
            heapq.heappush(self._buckets[ask.job_type, ask.model, profile.merit.proven], place)
        return ticket

    def leave(self, ticket: Ticket, *, satisfied: bool) -> None:
        """Gives the place up. Wake-ups that it did not follow, or that led to nothing, pass to the next miner.

        Also a satisfied miner may have been woken once more, for another job, while it took the first.
        """
        ticket.left = True
        self._tickets.discard(ticket)
        for ask in ticket.profile.asks:
            self._sweep((ask.job_type, ask.model, ticket.profile.merit.proven))
        for wanted in (ticket.woken_by, None if satisfied else ticket.looking):
            if wanted is not None:
                self.wake(wanted)

    async def wait(self, ticket: Ticket, timeout_s: float) -> bool:
        """True when woken within `timeout_s`. The ticket can wait again afterwards; False at once on closing."""
        ticket.looking = None
        if ticket.woken_by is None:
            if self._closed:
                return False
            ticket.future = asyncio.get_running_loop().create_future()
            try:
                # Not wait_for: on Python 3.11 it may swallow a cancellation that meets the wake-up.
                done, _pending = await asyncio.wait({ticket.future}, timeout=timeout_s)
            finally:
                ticket.future = None
            if not done:
                return False
        ticket.looking, ticket.woken_by = ticket.woken_by, None
        return True

    def wake(self, wanted: Wanted) -> bool:
        """Wakes one miner that fits; False where none waits."""
        self._turn += 1
        proven_first = self._turn % NEWCOMER_TURN != 0
        for surely in (True, False):
            for proven in (proven_first, not proven_first):
                buckets = [
                    self._buckets.get((wanted.job_type, model, proven)) for model in (wanted.model, ANY_MODEL)
                ]
                places = [
                    place for bucket in buckets if bucket and (place := self._first(bucket, wanted, surely))
                ]
                if places:
                    self._call(min(places)[-1], wanted)
                    return True
        return False

    @staticmethod
    def _call(ticket: Ticket, wanted: Wanted) -> None:
        ticket.woken_by = wanted
        if ticket.future is not None and not ticket.future.done():
            ticket.future.set_result(None)

    def wake_all(self) -> None:
        """Ends every wait, also those that have not begun: the process is shutting down."""
        self._closed = True
        for ticket in self._tickets:
            if ticket.future is not None and not ticket.future.done():
                ticket.future.set_result(None)

    def _first(self, bucket: list[Place], wanted: Wanted, surely: bool) -> Place | None:
        """The best place whose ticket is free and fits (`surely`: with room for whatever the job comes to).

        All stay in the bucket but those who have left.
        """
        passed: list[Place] = []
        found: Place | None = None
        while bucket:
            place = heapq.heappop(bucket)
            ticket = place[-1]
            if ticket.left:
                continue
            passed.append(place)
            if ticket.woken_by is None and self._rules.fits(ticket.profile, wanted, surely):
                found = place
                break
        for place in passed:
            heapq.heappush(bucket, place)
        return found

    def _sweep(self, key: Bucket) -> None:
        """Drops what has left once it is most of the bucket, so that a bucket stays as large as its waiters."""
        bucket = self._buckets.get(key)
        if bucket is None:
            return
        while bucket and bucket[0][-1].left:
            heapq.heappop(bucket)
        if not bucket:
            del self._buckets[key]
        elif len(bucket) > 2 * len(self._tickets) + 16:
            bucket[:] = [place for place in bucket if not place[-1].left]
            heapq.heapify(bucket)
