"""Which jobs a claim takes: every condition at its bound, in the queue's order, and what becomes of the row."""

from typing import Any

import pytest

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.flows.acts import job_lifecycle
from aitbc.coordinator.jobs import claims
from aitbc.coordinator.jobs import service as jobs
from aitbc.coordinator.jobs.exclusion import NEWCOMERS, account, set_of
from aitbc.coordinator.jobs.matching.constraints import Ask, MinerNeeds
from aitbc.coordinator.jobs.rows import JobRow, JobSpec
from aitbc.core.jobspec import ANY_MODEL
from tests.support.flows import MODEL, Market, spec_of

LEASE_MS = 60_000
NEEDS = MinerNeeds("m1", "eu", 8_000, "owner")
ASK = Ask("llm_inference", MODEL, 100, 4_000)

AT_THE_BOUND: dict[str, dict[str, Any]] = {
    "plain": {},
    "its price": {"max_price_units": 100},
    "its memory": {"min_memory_mb": 8_000},
    "its region": {"region": "eu"},
    "itself": {"required_miner_id": "m1"},
    "its context": {"min_context": 4_000},
}
BEYOND: dict[str, dict[str, Any]] = {
    "a lower price": {"max_price_units": 99},
    "more memory": {"min_memory_mb": 8_001},
    "another region": {"region": "us"},
    "another miner": {"required_miner_id": "m2"},
    "more context": {"min_context": 4_001},
    "another type": {"job_type": "embedding"},
    "waits for its payment": {"manual_payment": True},
}
KEPT_FROM = {
    "others": set_of(["m2", "m", "m11", account("other"), account("m1"), "owner"]),
    "it": set_of(["m2", "m1"]),
    "its account": set_of(["m2", account("owner")]),
    "newcomers": set_of(["m2", NEWCOMERS]),
}


def spec(**changes: Any) -> JobSpec:
    return spec_of()._replace(**{"min_context": 0, **changes})


@pytest.fixture
def client(market: Market) -> Principal:
    return market.client()


def submit(market: Market, client: Principal, **changes: Any) -> JobRow:
    return market.db.write_sync(job_lifecycle.submit, market.ctx, client, spec(**changes))


def keep(market: Market, job: JobRow, excluded: str) -> None:
    market.db.write_sync(jobs.keep_from, job, excluded, 0)


def heads(tx: Tx, needs: MinerNeeds, ask: Ask, _ids: list[str]) -> list[str]:
    return [one for _rank, one, _bytes in claims.heads(tx, needs, ask, 100)]


def claim(tx: Tx, needs: MinerNeeds, ask: Ask, ids: list[str]) -> list[str]:
    return [one.job.id for one in claims.claim(tx, ids, needs, ask, "lease", LEASE_MS)]


def claim_first(tx: Tx, needs: MinerNeeds, ask: Ask, _ids: list[str]) -> list[str]:
    return [one.job.id for one in claims.claim_first(tx, needs, ask, 100, "lease", LEASE_MS)]


@pytest.mark.parametrize("look", [heads, claim, claim_first])
@pytest.mark.parametrize("proven", [False, True])
@pytest.mark.parametrize("named", [True, False])
def test_all_that_fit_and_no_other(
    market: Market, client: Principal, look: Any, proven: bool, named: bool
) -> None:
    made = {name: submit(market, client, **change) for name, change in {**AT_THE_BOUND, **BEYOND}.items()}
    made["another model"] = submit(market, client, model="other")
    for name, excluded in KEPT_FROM.items():
        made[name] = submit(market, client)
        keep(market, made[name], excluded)
    made["runs already"] = submit(market, client)
    market.db.write_sync(claim, NEEDS, ASK, [made["runs already"].id])
    made["is over"] = submit(market, client, ttl_s=1)
    made["is about to be over"] = submit(market, client, ttl_s=2)
    market.clock.advance(1)
    fit = [*AT_THE_BOUND, "others", "is about to be over"]
    if proven:
        fit.append("newcomers")
    if not named and look is not claim:  # a claim names jobs that were looked up before
        fit.append("another model")
    ask = ASK if named else ASK._replace(model=ANY_MODEL)
    ids = [
        job.id
        for name, job in made.items()
        if look is not claim or name not in ("another model", "another type")
    ]
    found = market.db.write_sync(look, NEEDS._replace(proven=proven), ask, ids)
    names = {job.id: name for name, job in made.items()}
    assert sorted(names[one] for one in found) == sorted(fit)


@pytest.mark.parametrize("named", [True, False])
def test_the_most_urgent_first_and_then_the_oldest(market: Market, client: Principal, named: bool) -> None:
    made = [submit(market, client, priority=priority) for priority in (5, 9, 5, 9, 0)]
    expected = [made[at].id for at in (1, 3, 0, 2, 4)]
    ask = ASK if named else ASK._replace(model=ANY_MODEL)
    for count in (1, 2, 5, 6):
        found = market.db.write_sync(claims.heads, NEEDS, ask, count)
        assert [one for _, one, _ in found] == expected[:count]
        assert [(rank, length) for rank, _, length in found] == [
            (job.rank, job.prompt_bound) for one in expected[:count] for job in made if job.id == one
        ]
    taken = []
    while found := market.db.write_sync(claims.claim_first, NEEDS, ask, 1, "lease", LEASE_MS):
        taken += [one.job.id for one in found]
    assert taken == expected


@pytest.mark.parametrize("max_run_s", [30, 3_600])
@pytest.mark.parametrize("first", [False, True])
def test_what_a_claim_makes_of_a_job(market: Market, client: Principal, first: bool, max_run_s: int) -> None:
    """A second try, so that nothing of the first is left; the lease ends with the run where that is sooner."""
    made = submit(market, client, max_run_s=max_run_s)
    market.submit(client, prompt="other")
    (first_try,) = market.db.write_sync(claims.claim, [made.id], NEEDS, ASK, "before", LEASE_MS, "s1")
    market.clock.advance(5)
    market.db.write_sync(jobs.extend_lease, first_try.job, LEASE_MS, 7)
    tried = market.job(made.id)
    assert (tried.progress_tokens, tried.progress_ms) == (7, 5_000)
    assert market.db.write_sync(
        lambda tx: jobs.requeue(tx, tried, "ENGINE_ERROR", "miner", "oh", review_at_ms=9)
    )
    waiting = market.job(made.id)
    assert (waiting.cause, waiting.message, waiting.review_at_ms) == ("ENGINE_ERROR", "oh", 9)
    market.clock.advance(1)
    now = market.clock.now_ms()
    if first:
        (found,) = market.db.write_sync(claims.claim_first, NEEDS, ASK, 1, "lease", LEASE_MS, "s2")
    else:
        (found,) = market.db.write_sync(claims.claim, [made.id], NEEDS, ASK, "lease", LEASE_MS, "s2")
    expected = waiting._replace(
        status="running",
        queued=0,
        miner_id="m1",
        lease_id="lease",
        lease_expires_at_ms=now + min(LEASE_MS, max_run_s * 1000),
        run_ends_at_ms=now + max_run_s * 1000,
        miner_session="s2",
        progress_tokens=0,
        progress_ms=0,
        unit_price_units=100,
        fee_bps=1000,
        lease_ms=LEASE_MS,
        attempts=2,
        event_count=waiting.event_count + 1,
        cause="",
        message="",
        started_at_ms=now,
        review_at_ms=0,
    )
    assert found.job == market.job(made.id) == expected
    assert '"prompt":"hi"' in str(found.request_text)


def test_jobs_that_were_locked_are_announced_again(market: Market, client: Principal) -> None:
    one, two = submit(market, client), submit(market, client)

    def announced(tx: Tx) -> list[Any]:
        claims.announce(tx, [two.id, "gone", one.id])
        return list(tx.signals)

    assert market.db.write_sync(announced) == [jobs.queued_signal(two), jobs.queued_signal(one)]
