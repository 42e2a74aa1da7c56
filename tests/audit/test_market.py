"""What the operator's audit sees of GPUs beyond single rows: who has one twice, and whom it really serves."""

import pytest
from sqlalchemy import text

from aitbc.audit.database import audit
from aitbc.coordinator.database import statement
from tests.support.flows import CHAIN, Market
from tests.support.market import HOUR_MS, Rentals


def _problem(market: Market, change: str) -> str:
    market.db.write_sync(lambda tx: tx.run(statement(text(change))))
    report = market.db.read_sync(audit, CHAIN)
    assert not report.ok and report.wrong is not None
    return report.wrong.what


@pytest.fixture
def rentals(market: Market) -> Rentals:
    """One booking that runs, and two for later, side by side in time on two GPUs."""
    made = Rentals(market)
    made.round()
    alice, rig, other = market.client(), made.rig(), made.rig("m2")
    made.book(alice, rig)
    for one in (rig, other):
        made.book(alice, one, start_ms=market.clock.now_ms() + 2 * HOUR_MS)
    made.passes(30, [rig, other])
    market.check()
    return made


def test_a_gpu_that_is_booked_twice_at_a_time(rentals: Rentals, market: Market) -> None:
    earlier = HOUR_MS + HOUR_MS // 2  # it now begins within the one that runs
    change = (
        f"UPDATE bookings SET start_ms = start_ms - {earlier}, end_ms = end_ms - {earlier} WHERE opened = 0"
    )
    assert "has its GPU for some of the same time" in _problem(market, change)


def test_a_booked_gpu_that_serves_everybody(rentals: Rentals, market: Market) -> None:
    assert "its miner is kept for nobody" in _problem(market, "UPDATE miners SET reservation = ''")
