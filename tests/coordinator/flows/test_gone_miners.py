"""What a miner says about itself is bounded, and forgotten once nothing is heard of it for long."""

import dataclasses

import pytest
from sqlalchemy import func, select

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.errors import MinerInactive, MinerNotFound, TooManyMiners, TooManyOffers
from aitbc.coordinator.flows.acts import expiry
from aitbc.coordinator.flows.shared import own_jobs
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.miners import service as miners
from aitbc.coordinator.miners.models import Miner, Offer
from aitbc.coordinator.miners.rows import MinerRow
from tests.support.flows import Market, Provider

DAYS = 30
DAY_S = 86_400


def row_of(market: Market, miner: Provider) -> MinerRow | None:
    return market.db.read_sync(miners.get, miner.miner_id)


def counts(market: Market) -> tuple[int, int]:
    """Rows of miners and of offers."""

    def count(table: type) -> int:
        found = market.db.read_sync(lambda tx: tx.query(select(func.count().label("n")).select_from(table)))
        return int(found[0].n)

    return count(Miner), count(Offer)


def forget(market: Market) -> int:
    market.db.write_sync(expiry.lapse_miners, market.ctx)
    return market.db.write_sync(expiry.forget_miners, DAYS)


def test_a_miner_that_nothing_refers_to_is_forgotten_whole(market: Market) -> None:
    silent, here = market.miner("m1"), market.miner("m2")
    market.clock.advance(DAYS * DAY_S)
    market.heartbeat(here)
    assert forget(market) == 0
    market.clock.advance(1)
    assert forget(market) == 1
    assert counts(market) == (1, 1)
    with pytest.raises(MinerNotFound):
        market.heartbeat(silent)
    assert market.miner("m1").miner_id == "m1", "it registers again"
    assert forget(market) == 0
    market.check()


@pytest.mark.parametrize("how", ["answered", "cancelled", "for nothing"])
def test_of_one_that_did_something_the_row_stays(market: Market, how: str) -> None:
    price = 0 if how == "for nothing" else 1000
    client, miner = market.client(), market.miner(models={"llama": price}, memory_mb=8000)
    job = market.submit(client)
    market.take(miner)
    market.clock.advance(5)
    if how == "cancelled":
        assert market.cancel(client, job.id).price_units > 0
    else:
        market.complete(miner, job.id)
    market.clock.advance(DAYS * DAY_S + 1)
    assert forget(market) == 1
    assert forget(market) == 0
    row = row_of(market, miner)
    assert row is not None
    assert (row.revision, row.capabilities, row.gpus, row.memory_mb) == (0, "[]", "[]", 0)
    assert counts(market) == (1, 0)
    with pytest.raises(MinerInactive):
        market.heartbeat(miner)
    market.check()
    assert market.take(market.miner()) == []
    assert counts(market) == (1, 1)


def test_one_that_failed_is_still_told_of_no_job(market: Market) -> None:
    client, miner = market.client(), market.miner()
    job = market.submit(client, ttl_s=60)
    market.take(miner)
    market.fail(miner, job.id)
    market.clock.advance(DAYS * DAY_S + 1)
    market.expire()
    assert forget(market) == 1
    assert counts(market) == (0, 0)
    both = Principal("alice", "client", "key", frozenset({"client", "miner"}))
    assert market.db.read_sync(own_jobs.visible, both, job.id).status == "failed"
    market.check()


def test_the_deposit_of_a_forgotten_miner_goes_back(market: Market) -> None:
    market.ctx = dataclasses.replace(market.ctx, deposit_units=500)
    market.client("mill")
    market.miner("m1", "mill")
    assert market.balance("mill").held_units == 500
    market.clock.advance(DAYS * DAY_S + 1)
    assert forget(market) == 1
    assert market.balance("mill").held_units == 0
    market.check()


def test_for_one_more_miner_the_longest_gone_is_forgotten(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(miners, "MAX_MINERS", 3)
    made = []
    for name in ("m1", "m2", "m3"):
        made.append(market.miner(name, "mill"))
        market.clock.advance(1)
    with pytest.raises(TooManyMiners) as refused:
        market.miner("m4", "mill")
    assert refused.value.details == {"alive": 3, "limit": 3}
    market.miner("m1", "mill")
    market.miner("other", "another account")
    market.leave(made[2])
    market.clock.advance(1)
    market.leave(made[1])
    market.miner("m4", "mill")
    assert row_of(market, made[2]) is None
    assert row_of(market, made[1]) is not None
    market.miner("m5", "mill")
    assert row_of(market, made[1]) is None
    market.check()


def test_a_registration_makes_so_many_offers(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(miners, "MAX_OFFERS", 6)
    monkeypatch.setattr(miners, "MAX_OFFERS_OF_ACCOUNT", 10)
    models = {f"model{number}:latest": 1 for number in range(4)}
    with pytest.raises(TooManyOffers) as refused:
        market.miner("m1", "mill", models)
    assert {"offers": 8, "limit": 6}.items() <= refused.value.details.items()
    models.popitem()
    market.miner("m1", "mill", models)
    market.miner("m1", "mill", models)
    with pytest.raises(TooManyOffers) as refused:
        market.miner("m2", "mill", models)
    assert {"offers": 12, "limit": 10}.items() <= refused.value.details.items()
    assert counts(market) == (1, 6)
    assert market.db.read_sync(ledger.balance, "mill").held_units == 0
