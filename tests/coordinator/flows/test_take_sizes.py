"""One ask for work gets so many bytes and no more, however many jobs it may lease."""

import pytest

from aitbc.coordinator.flows.acts import dispatch
from aitbc.coordinator.jobs.rows import JobRow
from aitbc.coordinator.miners import standing
from tests.support.flows import Market, Provider

INPUT = 1000


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "MAX_TAKE_BYTES", 10 * INPUT)
    monkeypatch.setattr(dispatch, "FEW", 4)


def trusted(market: Market, **models: int) -> Provider:
    miner = market.miner(concurrency=100, models=models or None)
    market.db.write_sync(standing.set_approval, miner.principal.account_id, "approved")
    return miner


def sizes(taken: list[JobRow]) -> int:
    return sum(job.prompt_bound for job in taken)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("models", [{}, {"llama": 100, "other": 100}])
def test_takes_are_bounded_in_bytes_and_all_jobs_are_served(market: Market, models: dict[str, int]) -> None:
    client, miner = market.client(), trusted(market, **models)
    ids = {
        market.submit(client, prompt="x" * INPUT, model="other" if models and number % 2 else "llama").id
        for number in range(25)
    }
    served: set[str] = set()
    for _ in range(10):
        taken = market.take(miner, 100, known=served)
        assert sizes(taken) <= 10 * INPUT
        served |= {job.id for job in taken}
        if not taken:
            break
    assert served == ids


@pytest.mark.usefixtures("small")
def test_a_job_that_is_larger_than_all_of_it_is_served_alone(market: Market) -> None:
    client, miner = market.client(), trusted(market)
    large = [market.submit(client, prompt="x" * 20 * INPUT).id for _ in range(2)]
    for job_id in large:
        assert [job.id for job in market.take(miner, 100, known=large[:1])] == [job_id]


@pytest.mark.usefixtures("small")
def test_what_is_handed_out_again_is_bounded_too(market: Market) -> None:
    client, miner = market.client(), trusted(market)
    for _ in range(20):
        market.submit(client, prompt="x" * INPUT)
    first = market.take(miner, 100)
    again = market.take(miner, 100)
    assert [job.id for job in again] == [job.id for job in first], "no more is leased than fits"
    rest = market.take(miner, 100, known=[job.id for job in first])
    assert rest and not {job.id for job in rest} & {job.id for job in first}


def test_few_are_within_it_whatever_they_are() -> None:
    from aitbc.coordinator.config import Settings

    assert dispatch.FEW * Settings.model_fields["max_body_bytes"].default <= dispatch.MAX_TAKE_BYTES
