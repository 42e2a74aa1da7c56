"""Bookings of GPUs in every state, for the scene that an audit looks at."""

from __future__ import annotations

from tests.support.flows import Market
from tests.support.market import HOUR_MS, Rentals


def rent(market: Market) -> None:
    """Bookings that have ended in each way, one that runs with jobs of its own, one that begins later."""
    rentals = Rentals(market)
    rentals.round()
    alice, frank = market.client("alice"), market.client("frank", limit=10**6)
    for number in range(4):
        market.client(f"owner-rig-{number}")  # with what a deposit takes
    rigs = [rentals.rig(f"rig-{number}") for number in range(4)]
    rentals.book(alice, rigs[0], hours=0.25)
    rentals.book(frank, rigs[1])
    rentals.book(alice, rigs[2])  # of which nothing is heard
    rentals.book(frank, rigs[3], start_ms=market.clock.now_ms() + HOUR_MS)
    rentals.release(frank, rigs[3])
    rentals.passes(130, rigs[:2])
    rentals.release(frank, rigs[1])
    rentals.review(frank, rigs[1], 2, "slow")
    rentals.passes(770, rigs[:1])
    rentals.review(alice, rigs[0], 5)
    running = rentals.book(frank, rigs[0])
    rentals.book(alice, rigs[0], start_ms=market.clock.now_ms() + 2 * HOUR_MS)
    rentals.book(alice, rigs[3])  # begun, and not heard of yet
    rentals.passes(30, rigs[:1])
    holder = rentals.holder(running)
    answered = market.submit(holder)
    market.take(rigs[0].provider)
    market.clock.advance(1)
    market.complete(rigs[0].provider, answered.id)
    market.cancel(holder, market.submit(holder).id)
    market.submit(holder)
