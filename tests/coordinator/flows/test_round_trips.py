"""How often a whole job asks PostgreSQL, and that what was guessed for it is never relied on."""

import pytest

from aitbc.coordinator.database import Database
from aitbc.coordinator.errors import QueueFull
from aitbc.coordinator.flows.acts import completion, dispatch, job_lifecycle
from aitbc.coordinator.parameters import service as parameters
from aitbc.core.clock import ManualClock
from tests.coordinator.database.groups import trips_of
from tests.support.flows import Market, result_of, set_parameter, spec_of

CAP = "default_max_price_per_1k_tokens"


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
def test_a_whole_job_is_six_round_trips(db: Database, market: Market) -> None:
    client, miner = market.client(), market.miner()
    market.submit(client)  # the first time statements are prepared and offers read
    market.complete(miner, market.take(miner)[0].id)
    job, submitting = trips_of(db, job_lifecycle.submit, market.ctx, client, spec_of())
    taken, taking = trips_of(db, dispatch.take, market.ctx, *miner, 1)
    assert [one.job.id for one in taken.assignments] == [job.id]
    _receipt, completing = trips_of(db, completion.complete, market.ctx, *miner, result_of(job.id))
    assert (submitting, taking, completing) == (1, 3, 2)
    market.check()


def test_a_full_queue_is_seen(db: Database, clock: ManualClock) -> None:
    market = Market(db, clock, max_pending_jobs=2)
    client = market.client()
    for _ in range(2):
        market.submit(client)
    with pytest.raises(QueueFull):
        market.submit(client)
    market.check()


def test_a_parameter_that_was_changed_holds_from_then_on(db: Database, market: Market) -> None:
    client = market.client()
    usual = parameters.DEFINITIONS[CAP].default
    for value in (usual, usual * 2, usual * 3, usual):
        market.db.write_sync(set_parameter, CAP, value)
        for _ in range(2):
            assert market.submit(client, cap=None).max_price_units == value


@pytest.mark.parametrize("models", [{"m": 100}, {"m": 100, "other": 100}], ids=["one-ask", "two"])
def test_what_was_asked_comes_with_the_lease(db: Database, market: Market, models: dict[str, int]) -> None:
    client, miner = market.client(), market.miner(models=models, concurrency=4)
    sent = [market.submit(client, model="m", prompt=f"number {number}") for number in range(3)]
    taken = db.write_sync(dispatch.take, market.ctx, *miner, 2)
    again = db.write_sync(dispatch.take, market.ctx, *miner, 3)
    assert [one.job.id for one in taken.assignments] == [job.id for job in sent[:2]]
    assert [one.job.id for one in again.assignments] == [job.id for job in sent], "what it holds first"
    for number, one in enumerate(again.assignments):
        assert f"number {number}" in one.request_text
    assert taken.assignments[0].request_text == again.assignments[0].request_text
