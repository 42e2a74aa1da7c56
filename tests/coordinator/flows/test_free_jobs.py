"""Every job leaves rows for good. So many of an account's may end on one day without having paid for anything."""

import dataclasses

import pytest
from sqlalchemy import func, select

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.errors import FreeJobsUsedUp
from aitbc.coordinator.flows.acts import job_lifecycle
from aitbc.coordinator.jobs import free
from aitbc.coordinator.jobs.models import FreeJobs
from tests.support.flows import Market, spec_of

DAY_S = 86_400
ENDS = ("cancelled", "cancelled while it runs", "expired", "failed", "answered for nothing", "manual")


def end(market: Market, client: Principal, how: str) -> None:
    """A job that ends in this way and pays nothing."""
    miner = market.miner(models={"llama": 100, "gratis": 0})
    model = "gratis" if how == "answered for nothing" else "llama"
    job = market.submit(client, model=model, ttl_s=60, payment="manual" if how == "manual" else "auto")
    if how in ("cancelled", "manual"):
        market.cancel(client, job.id)
    elif how == "expired":
        market.clock.advance(61)
        market.expire()
    else:
        while market.job(job.id).status == "pending":
            market.clock.advance(1)
            market.expire()
            market.miner(models={"llama": 100, "gratis": 0})
            for _ in market.take(miner):
                if how == "failed":
                    market.fail(miner, job.id)
        if how == "answered for nothing":
            market.complete(miner, job.id)
        elif how != "failed":
            market.cancel(client, job.id)
    assert market.job(job.id).price_units == 0


def ended(market: Market, client: Principal) -> int:
    return market.db.read_sync(free.today, client.account_id)


@pytest.mark.parametrize("how", ENDS)
def test_what_ends_without_having_paid_counts(market: Market, how: str) -> None:
    client = market.client()
    end(market, client, how)
    assert ended(market, client) == 1
    end(market, client, how)
    assert ended(market, client) == 2
    market.check()


def test_what_was_paid_does_not_count(market: Market) -> None:
    client, miner = market.client(), market.miner()
    job = market.submit(client)
    market.take(miner)
    market.complete(miner, job.id)
    assert market.job(job.id).price_units > 0
    assert ended(market, client) == 0


def test_nobody_submits_more_on_that_day(market: Market) -> None:
    market.ctx = dataclasses.replace(market.ctx, max_free_jobs=2)
    client, other = market.client(), market.client("bob")
    for job in [market.submit(client) for _ in range(2)]:
        market.cancel(client, job.id)
    with pytest.raises(FreeJobsUsedUp) as refused:
        market.submit(client)
    assert {"limit": 2, "ended": 2}.items() <= refused.value.details.items()
    assert refused.value.details["resets_at"].endswith("T00:00:00.000Z")
    with pytest.raises(FreeJobsUsedUp):
        market.db.write_sync(job_lifecycle.submit_batch, market.ctx, client, [spec_of()])
    assert market.submit(other).status == "pending"
    market.clock.advance(DAY_S)
    assert market.submit(client).status == "pending"
    market.check()


def test_a_batch_counts_each_of_its_jobs(market: Market) -> None:
    """Also where they end together, on a day on which none has ended yet."""
    client = market.client()
    for _day in range(2):
        market.db.write_sync(job_lifecycle.submit_batch, market.ctx, client, [spec_of(ttl_s=60)] * 5)
        market.clock.advance(DAY_S)
        market.expire()
        assert ended(market, client) == 5


def test_days_are_forgotten(market: Market) -> None:
    client = market.client()
    rows = select(func.count().label("count")).select_from(FreeJobs)
    for day in range(4):
        market.cancel(client, market.submit(client).id)
        market.db.write_sync(free.forget)
        assert market.db.read_sync(lambda tx: tx.query(rows))[0].count == min(day + 1, 2)
        market.clock.advance(DAY_S)
