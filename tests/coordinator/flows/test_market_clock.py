"""The market's clock as coordinators run it: how long they ran, when they wait, and what bounds what it is asked."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aitbc.coordinator.config import Settings
from aitbc.coordinator.errors import TooManyBookings, TooManyGpus
from aitbc.coordinator.flows.acts import expiry, gpu_booking
from aitbc.coordinator.flows.acts import market as clockwork
from aitbc.coordinator.flows.shared import rentals as shared
from aitbc.coordinator.flows.views import statement
from aitbc.coordinator.marketplace import bookings, gpus
from aitbc.coordinator.miners import service as miners
from aitbc.coordinator.process.background import Running
from aitbc.coordinator.process.loops import market as loop
from tests.support.flows import Market, in_loop, runtime_over
from tests.support.market import HOUR_MS, HOUR_UNITS, Rentals, gpu_spec

DAY_S = 86_400


@pytest.fixture
def rentals(market: Market) -> Rentals:
    made = Rentals(market)
    made.round()
    return made


def test_time_counts_while_somebody_runs(rentals: Rentals, market: Market) -> None:
    begun = market.db.read_sync(shared.uptime_ms)
    rentals.passes(20)
    assert market.db.read_sync(shared.uptime_ms) - begun == 20_000
    market.clock.advance(46)  # nobody heard anybody for more than three heartbeats
    rentals.round()
    assert market.db.read_sync(shared.uptime_ms) - begun == 20_000
    market.clock.jump(-100)
    rentals.round()
    rentals.passes(5)
    assert market.db.read_sync(shared.uptime_ms) - begun == 25_000


def test_coordinators_whose_clocks_differ_count_no_time_twice(rentals: Rentals, market: Market) -> None:
    begun = market.db.read_sync(shared.uptime_ms)
    for _ in range(20):
        market.clock.advance(2)
        market.db.write_sync(clockwork.count, market.ctx)
        market.clock.jump(30)  # the other's clock
        market.db.write_sync(clockwork.count, market.ctx)
        market.clock.jump(-30)
    assert 40_000 <= market.db.read_sync(shared.uptime_ms) - begun <= 72_000


def test_many_coordinators_count_the_same_time_once(rentals: Rentals, market: Market) -> None:
    begun = market.db.read_sync(shared.uptime_ms)
    for _ in range(5):
        market.clock.advance(5)
        with ThreadPoolExecutor(4) as pool:
            for _ in pool.map(lambda _: market.db.write_sync(clockwork.count, market.ctx), range(4)):
                pass
    assert market.db.read_sync(shared.uptime_ms) - begun == 25_000


def test_a_clock_in_doubt_ends_no_booking(rentals: Rentals, market: Market) -> None:
    alice, rig = market.client(), rentals.rig()
    booked = rentals.book(alice, rig)
    runtime = runtime_over(market)
    running = Running(loop.LOOP, runtime)

    async def main() -> None:
        market.clock.advance(7_200)
        runtime.steady.distrust()
        assert running.waits
        assert await running.run_once() is False
        assert rentals.booking(booked).state == "active"
        market.clock.advance(Settings.model_fields["clock_steady_s"].default + 1)
        runtime.steady.now_ms()
        assert not running.waits
        while await running.run_once():
            pass
        assert rentals.booking(booked).state == "cancelled"

    in_loop(market.db, main())


def test_a_jumping_clock_bills_nothing_twice(rentals: Rentals, market: Market) -> None:
    alice, rig = market.client(), rentals.rig()
    booked = rentals.book(alice, rig, hours=2)
    rentals.passes(300, [rig])
    market.clock.jump(600)
    market.db.write_sync(expiry.follow_clock, market.ctx, 600_000)
    rentals.round()
    assert rentals.booking(booked).used_ms == 295_000
    rentals.passes(60, [rig])
    assert rentals.booking(booked).used_ms == 295_000 + 60_000
    market.clock.jump(-600)
    market.db.write_sync(expiry.follow_clock, market.ctx, -600_000)
    rentals.passes(300, [rig])
    assert rentals.booking(booked).used_ms == 355_000
    market.check()


def test_a_listed_miners_id_stays_its_owners(rentals: Rentals, market: Market) -> None:
    """Else whoever registered it next would be let by the hour in the owner's name."""
    rig = rentals.rig()
    market.clock.advance(40 * DAY_S)
    market.db.write_sync(expiry.lapse_miners, market.ctx)
    assert market.db.write_sync(expiry.forget_miners, 30) == 1
    kept = market.db.read_sync(miners.get, rig.provider.miner_id)
    assert kept is not None
    assert kept.account_id == rig.owner.account_id


def test_so_many_gpus_and_bookings_of_an_account(
    rentals: Rentals, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, rig = market.client(), rentals.rig()
    now = market.clock.now_ms()
    monkeypatch.setattr(gpus, "MAX_GPUS", 2)
    rentals.db.write_sync(gpu_booking.register, rentals.ctx, rig.owner, gpu_spec(""))
    with pytest.raises(TooManyGpus):
        rentals.db.write_sync(gpu_booking.register, rentals.ctx, rig.owner, gpu_spec(""))
    monkeypatch.setattr(bookings, "MAX_ACTIVE", 2)
    monkeypatch.setattr(bookings, "MAX_A_DAY", 4)
    for n in range(2):
        rentals.book(alice, rig, start_ms=now + n * HOUR_MS)
    with pytest.raises(TooManyBookings, match="not ended"):
        rentals.book(alice, rig, start_ms=now + 5 * HOUR_MS)
    for _ in range(2):
        rentals.release(alice, rig)
        rentals.book(alice, rig, start_ms=now + 5 * HOUR_MS)
        rentals.release(alice, rig)
    with pytest.raises(TooManyBookings, match="24 hours"):
        rentals.book(alice, rig, start_ms=now + 5 * HOUR_MS)
    market.clock.advance(DAY_S + 1)
    market.heartbeat(rig.provider)
    rentals.book(alice, rig)


def test_a_statement_names_the_booking(rentals: Rentals, market: Market) -> None:
    alice, rig = market.client(), rentals.rig()
    booked = rentals.book(alice, rig)
    rentals.passes(3_600, [rig])
    market.clock.advance(1)
    end = market.db.write_sync(statement.settle, 0, None, market.clock.now_ms())
    page = market.db.read_sync(statement.read, "alice", 0, end, 10, None)
    spent = [(row.kind, row.amount_units, row.reference, row.job_id) for row in page.rows[1:]]
    reference = f"booking {booked.booking.id}"
    assert sorted(spent) == [("fee", -HOUR_UNITS // 10, reference, None), ("post", -5_400, reference, None)]


def test_the_state_follows_the_miner(rentals: Rentals, market: Market) -> None:
    rig, quiet = rentals.rig(), rentals.rig("m2")
    market.heartbeat(rig.provider, status="draining")
    rentals.round()
    assert (rentals.gpu(rig).state, rentals.gpu(quiet).state) == ("offline", "available")
    market.heartbeat(rig.provider)
    rentals.round()
    assert rentals.gpu(rig).state == "available"
    seen = market.db.read_sync(clockwork.moved, market.ctx)
    market.leave(rig.provider)
    found: Any = json.loads(json.dumps([rig.gpu.id]))
    assert (
        market.db.write_sync(clockwork.follow, market.ctx, seen._replace(came=found)) == 0
    )  # it has changed since
