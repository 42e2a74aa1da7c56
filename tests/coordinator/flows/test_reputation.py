"""What a miner's reputation is read off: each fact follows from what happened, and an outage is nobody's fault."""

import pytest

from aitbc.coordinator.errors import MinerNotFound
from aitbc.coordinator.flows.acts import expiry
from aitbc.coordinator.flows.shared import rentals as counting
from aitbc.coordinator.flows.views import miners as views
from aitbc.coordinator.flows.views.miners import MinerRecord
from aitbc.coordinator.miners import reputation
from tests.support.flows import Market, Provider
from tests.support.market import HOUR_MS, Rentals

LAPSE_S = 400


def record(market: Market, miner: Provider) -> MinerRecord:
    return market.db.read_sync(views.record, miner.miner_id)


def time(market: Market, seconds: int, *alive: Provider) -> None:
    """Time passes while a coordinator runs: it counts it, and marks the silent."""
    for _ in range(seconds // 5):
        market.clock.advance(5)
        for miner in alive:
            market.heartbeat(miner)
        market.db.write_sync(counting.count_uptime, market.ctx)
        market.db.write_sync(expiry.lapse_miners, market.ctx)


@pytest.fixture
def miner(market: Market) -> Provider:
    market.db.write_sync(counting.count_uptime, market.ctx)
    return market.miner("m1")


def test_a_newcomer_has_the_priors(market: Market, miner: Provider) -> None:
    found = record(market, miner)
    assert reputation.score_bps(found.facts) == 8_600
    assert found.failures == {}
    with pytest.raises(MinerNotFound):
        market.db.read_sync(views.record, "none")


def test_answers_to_its_own_account_are_no_record(market: Market) -> None:
    owner = market.client("carl")
    own = market.miner("m2", account="carl")
    for _ in range(3):
        job = market.submit(owner)
        market.take(own)
        market.complete(own, job.id)
    found = record(market, own)
    assert (found.facts.delivered, found.facts.units) == (0, 0)
    assert reputation.score_bps(found.facts) == 8_600
    market.check()


def test_answers_and_failures_by_cause(market: Market, miner: Provider) -> None:
    alice = market.client()
    for _ in range(3):
        job = market.submit(alice)
        market.take(miner)
        market.clock.advance(2)
        market.complete(miner, job.id)
    known = record(market, miner).facts
    assert (known.delivered, known.failed, known.run_ms) == (3, 0, 6_000)
    market.miner("m2")  # who could try it next
    job = market.submit(alice)
    market.take(miner)
    market.fail(miner, job.id, "OUT_OF_MEMORY")
    found = record(market, miner)
    assert (found.facts.failed, found.failures) == (1, {"OUT_OF_MEMORY": 1})
    market.check()


def test_a_failure_that_was_the_jobs_is_taken_back(market: Market) -> None:
    miners = [market.miner(f"m{n}") for n in range(3)]
    alice = market.client()
    job = market.submit(alice)
    for _ in range(12):
        market.clock.advance(61)
        for one in miners:
            market.heartbeat(one)
            if market.take(one):
                market.fail(one, job.id, "ENGINE_ERROR")
        market.expire()
        if market.job(job.id).status == "failed":
            break
    assert market.job(job.id).status == "failed"
    for one in miners:
        assert record(market, one).failures == {}
        assert record(market, one).facts.failed == 0


def test_uptime_is_time_between_signs_of_life(market: Market, miner: Provider) -> None:
    time(market, 600, miner)
    known = record(market, miner).facts
    assert (known.up_ms, known.away_ms) == (600_000, 0)
    time(market, LAPSE_S + 600)
    silent = record(market, miner).facts
    assert silent.status == "inactive"
    assert silent.away_ms > 500_000
    market.heartbeat(miner)
    back = record(market, miner).facts
    assert (back.up_ms, back.away_ms, back.lapsed_at_ms) == (600_000, silent.away_ms, 0)
    time(market, 60, miner)
    assert record(market, miner).facts.up_ms == 660_000


def test_an_outage_is_nobodys_fault(market: Market, miner: Provider) -> None:
    """No coordinator ran for a day. The first that does marks all as silent before they can be heard."""
    time(market, 60, miner)
    market.clock.advance(86_400)
    market.db.write_sync(counting.count_uptime, market.ctx)
    market.db.write_sync(expiry.lapse_miners, market.ctx)
    assert record(market, miner).facts.status == "inactive"
    market.clock.advance(5)
    market.db.write_sync(counting.count_uptime, market.ctx)
    market.heartbeat(miner)
    known = record(market, miner).facts
    assert (known.up_ms, known.away_ms) == (60_000, 5_000)


def test_who_leaves_is_not_missing(market: Market, miner: Provider) -> None:
    time(market, 60, miner)
    market.leave(miner)
    time(market, 3600)
    assert record(market, miner).facts.away_ms == 0
    again = market.miner("m1")
    assert (record(market, again).facts.up_ms, record(market, again).facts.away_ms) == (60_000, 0)


def test_what_is_long_ago_counts_less(market: Market, miner: Provider) -> None:
    for _ in range(1 + 30 * 86_400 // 300):
        market.clock.advance(300)
        market.heartbeat(miner)
    assert record(market, miner).facts.up_ms < 16 * 24 * HOUR_MS


def test_bookings_that_were_kept_and_not(market: Market) -> None:
    rentals = Rentals(market)
    rentals.round()
    rig, alice = rentals.rig(), market.client()
    rentals.used(alice, rig, 1_800)
    known = record(market, rig.provider).facts
    assert (known.promised_ms, known.served_ms) == (1_800_000, 1_795_000)
    booked = rentals.book(alice, rig)
    rentals.release(rig.owner, rig, booked.booking.id)
    known = record(market, rig.provider).facts
    assert (known.promised_ms, known.served_ms) == (1_800_000 + HOUR_MS, 1_795_000)
    assert reputation.bookings_bps(known) == rentals.gpu(rig).reliability_bps
    market.check()
