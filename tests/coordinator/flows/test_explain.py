"""What a client is told of its job: why it waits, and the one change that would make it run."""

from typing import Any

import pytest

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.errors import JobNotFound
from aitbc.coordinator.flows.acts import job_lifecycle, payment
from aitbc.coordinator.flows.views import explain
from aitbc.coordinator.flows.views.explain import Explanation, Quote
from tests.support.flows import Market, spec_of

ADMIN = Principal("the-operator", "admin", "key", frozenset({"client", "miner", "admin"}))


def explained(market: Market, who: Principal, job_id: str) -> Explanation:
    return market.db.read_sync(explain.explain, market.ctx, who, job_id)


def quoted(market: Market, **spec: Any) -> Quote:
    return market.db.read_sync(explain.quote, market.ctx, spec_of(**spec))


def test_it_is_the_clients_own_business(market: Market) -> None:
    alice, job = market.client(), market.submit(market.client())
    assert explained(market, alice, job.id) == explained(market, ADMIN, job.id)
    for who, job_id in ((market.client("bob"), job.id), (alice, "0" * 26), (ADMIN, "none")):
        with pytest.raises(JobNotFound):
            explained(market, who, job_id)


def test_from_the_submission_to_the_end(market: Market) -> None:
    alice = market.client()
    job, after = market.submit(alice), market.submit(alice)
    told = explained(market, alice, job.id)
    assert (told.status, told.eligible_miners, told.registered_miners, told.reasons) == ("pending", 0, 0, {})
    assert (told.nearest_change, told.queue_position) == (None, 1)
    assert told.summary.startswith("No miner has registered yet")
    miner = market.miner()
    told = explained(market, alice, after.id)
    assert (told.eligible_miners, told.queue_position) == (1, 2)
    assert told.summary == "1 miner(s) could run the job, 1 of them free; it is number 2 in its queue."
    market.take(miner)
    told = explained(market, alice, job.id)
    assert (told.status, told.queue_position) == ("running", None)
    assert told.summary == "A miner is running the job."
    told = explained(market, alice, after.id)
    assert (told.eligible_miners, told.reasons, told.queue_position) == (1, {"BUSY": 1}, 1)
    assert told.summary == "1 miner(s) could run the job, all of them busy; it is number 1 in its queue."
    market.complete(miner, job.id)
    told = explained(market, alice, job.id)
    assert told.status == "completed"
    assert told.summary.startswith("The job has ended: completed")
    market.cancel(alice, after.id)
    assert explained(market, alice, after.id).summary.startswith("The job has ended: cancelled")


@pytest.mark.parametrize(
    ("job", "miner", "reason", "change", "words"),
    [
        ({"cap": 50}, {}, "PRICE_ABOVE_CAP", "max_price", "Raise max_price to 0.000001 AIT"),
        ({"min_memory_gb": 8}, {"memory_mb": 4096}, "NOT_ENOUGH_MEMORY", "min_memory_gb", "to 4."),
        ({"region": "eu"}, {"region": "us"}, "REGION_DIFFERS", "region", "1 miner(s) elsewhere"),
        ({"miner_id": "m9"}, {}, "NOT_THE_REQUIRED_MINER", "miner_id", "other miners could run it"),
        ({"model": "rare"}, {}, "MODEL_NOT_SERVED", "model", "Ask for the model llama: 1 miner(s) serve it."),
        ({"region": "eu", "cap": 50}, {"region": "us"}, "REGION_DIFFERS", "model", "llama"),
    ],
)
def test_the_nearest_change_is_the_one_that_would_do(
    market: Market, job: dict[str, Any], miner: dict[str, Any], reason: str, change: str, words: str
) -> None:
    """Where two would have to be made, none of them is advised."""
    market.miner(**miner)
    alice = market.client()
    waits = market.submit(alice, **job)
    told = explained(market, alice, waits.id)
    assert (told.eligible_miners, told.reasons) == (0, {reason: 1})
    assert told.nearest_change is not None
    assert told.nearest_change.change == change
    assert words in told.nearest_change.text
    assert told.summary == f"No miner that is here now could run the job. {told.nearest_change.text}"
    if change not in ("model", "miner_id"):
        wide = market.submit(alice)
        assert explained(market, alice, wide.id).eligible_miners == 1, "it was that, and nothing else"


def test_miners_that_are_away_serve_nothing(market: Market) -> None:
    alice, miner = market.client(), market.miner()
    job = market.submit(alice)
    market.leave(miner)
    told = explained(market, alice, job.id)
    assert (told.eligible_miners, told.reasons) == (0, {})
    again = market.miner()
    market.heartbeat(again, status="draining")
    assert explained(market, alice, job.id).reasons == {"MINER_INACTIVE": 1}


def test_a_job_that_waits_for_its_payment_says_so(market: Market) -> None:
    alice = market.client()
    market.miner()
    job = market.submit(alice, payment="manual")
    told = explained(market, alice, job.id)
    assert told.nearest_change is not None
    assert (told.nearest_change.change, told.queue_position) == ("payment", None)
    assert told.summary.startswith("The job waits for its payment. Open its escrow")
    market.db.write_sync(payment.open_escrow, alice, job.id)
    told = explained(market, alice, job.id)
    assert (told.nearest_change, told.queue_position) == (None, 1)


def test_a_job_that_failed_is_kept_from_who_failed_it(market: Market) -> None:
    alice, miner = market.client(), market.miner()
    job = market.submit(alice)
    market.take(miner)
    market.fail(miner, job.id)
    told = explained(market, alice, job.id)
    assert (told.status, told.eligible_miners, told.reasons) == ("pending", 0, {"FAILED_IT_BEFORE": 1})
    assert told.nearest_change is not None
    assert (told.nearest_change.change, told.queue_position) == ("wait", 1)
    market.miner("m2")
    assert explained(market, alice, job.id).eligible_miners == 1


def test_a_quote_is_of_the_miners_that_fit(market: Market) -> None:
    none = quoted(market)
    assert (none.eligible_miners, none.asks_units, none.expected_wait_s, none.reasons) == (0, None, None, {})
    for name, price in (("a", 100), ("b", 300), ("c", 200), ("d", 5000)):
        market.miner(name, models={"llama": price})
    quote = quoted(market, cap=1000)
    assert (quote.eligible_miners, quote.asks_units) == (3, (100, 300, 200))
    assert quote.reasons == {"PRICE_ABOVE_CAP": 1}
    assert quote.expected_wait_s == 0.0
    held = market.db.write_sync(job_lifecycle.submit, market.ctx, market.client(), spec_of(cap=1000))
    assert held.held_units == quote.worst_case_units, "what it says is what is held"
    waits = quoted(market, cap=1000).expected_wait_s
    assert waits is not None
    assert waits > 0, "one is ahead"
