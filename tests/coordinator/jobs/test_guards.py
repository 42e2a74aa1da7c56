"""Every move of a job is guarded by its state and its lease: who looks at an old row moves nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import JobNotRunning, LeaseLost, MinerSessionReplaced
from aitbc.coordinator.flows.acts import dispatch
from aitbc.coordinator.jobs import service as jobs
from aitbc.coordinator.jobs import texts as job_texts
from aitbc.coordinator.jobs.models import LARGE_INPUT_BYTES
from aitbc.coordinator.jobs.rows import JobRow
from tests.support.flows import Market

MOVES: dict[str, Callable[[Tx, JobRow], Any]] = {
    "complete": lambda tx, job: jobs.complete(tx, job, 1, "receipt", "{}"),
    "end": lambda tx, job: jobs.end(tx, job, "failed", "ENGINE_ERROR", "miner"),
    "requeue": lambda tx, job: jobs.requeue(tx, job, "ENGINE_ERROR", "miner"),
}


@pytest.mark.parametrize("move", MOVES)
def test_a_lease_that_was_given_anew_is_not_the_old_one(market: Market, move: str) -> None:
    """The same job runs again, under another lease: a result, an end or a return of the first is too late."""
    client, miner = market.client(), market.miner()
    job = market.submit(client)
    (first,) = market.take(miner)
    market.leave(miner)
    again = market.miner("m2")
    (second,) = market.take(again)
    assert (second.id, second.status) == (job.id, "running")
    assert second.lease_id != first.lease_id
    # All but the lease as it is now, so that nothing but the guard can tell.
    stale = second._replace(lease_id=first.lease_id)
    assert market.db.write_sync(MOVES[move], stale) is False
    assert market.job(job.id) == second
    market.complete(again, job.id)
    market.check()


@pytest.mark.parametrize("move", MOVES)
def test_an_ended_job_does_not_move(market: Market, move: str) -> None:
    client, miner = market.client(), market.miner()
    job = market.submit(client)
    (running,) = market.take(miner)
    market.complete(miner, job.id)
    ended = market.job(job.id)
    for seen in (running, ended):
        assert market.db.write_sync(MOVES[move], seen) is False
        assert market.job(job.id) == ended
    market.check()


def test_nobody_fails_what_another_runs(market: Market) -> None:
    """Neither another account's miner nor a second one of the same account, nor under an older lease."""
    client, holder = market.client(), market.miner("holder", account="owner")
    job = market.submit(client)
    (running,) = market.take(holder)
    sibling, stranger = market.miner("sibling", account="owner"), market.miner("stranger")
    for other in (sibling, stranger):
        for cause in ("ENGINE_ERROR", "BAD_REQUEST"):
            with pytest.raises(LeaseLost):
                market.fail(other, job.id, cause)
    with pytest.raises(LeaseLost):
        market.fail(holder, job.id, lease_id="another")
    assert market.job(job.id) == running
    market.complete(holder, job.id)
    for miner in (holder, sibling, stranger):
        with pytest.raises(JobNotRunning):
            market.fail(miner, job.id)
    market.check()


def test_an_old_lease_counts_no_try_and_a_running_job_is_kept_from_nobody(market: Market) -> None:
    client, miner = market.client(), market.miner()
    market.submit(client)
    (running,) = market.take(miner)
    market.db.write_sync(jobs.count_try, running._replace(lease_id="another"))
    market.db.write_sync(jobs.keep_from, running, "|m1|", 5)
    assert market.job(running.id) == running
    other = market.submit(client)
    market.db.write_sync(jobs.keep_from, other._replace(excluded="|seen before|"), "|m1|", 5)
    assert market.job(other.id) == other
    market.db.write_sync(jobs.count_try, running)
    assert [market.job(job.id).attempts for job in (running, other)] == [running.attempts + 1, 0]


def test_texts_are_of_the_job_that_was_asked_for(market: Market) -> None:
    client, miner = market.client(), market.miner(concurrency=2)
    one, two = (market.submit(client, prompt=name) for name in ("first", "second"))
    market.take(miner, 2)
    for job, text in ((two, "answer to second"), (one, "answer to first")):
        market.complete(miner, job.id, text)

    def texts(tx: Tx, job_id: str) -> list[str]:
        requests, results = job_texts.short_texts(tx, [job_id], 10_000)
        found = [job_texts.request_text(tx, job_id), job_texts.result_text(tx, job_id)]
        for by_job in (job_texts.request_texts(tx, [job_id]), requests, results):
            assert list(by_job) == [job_id]
            found += by_job.values()
        return [str(text) for text in found]

    for job, own, other in ((one, "first", "second"), (two, "second", "first")):
        for text in market.db.read_sync(texts, job.id):
            assert own in text
            assert other not in text
    assert market.db.read_sync(job_texts.result_text, "unknown") is None
    assert market.db.read_sync(job_texts.short_texts, [one.id, two.id], 5) == ({}, {}), (
        "longer ones are left out"
    )


def test_a_backlog_is_of_one_client_and_of_what_waits(market: Market) -> None:
    client, other, miner = market.client(), market.client("other"), market.miner()
    for who in (client, other, other):
        market.submit(who)
    (running,) = market.take(miner)
    assert running.client_id == client.account_id
    market.submit(client)
    for who, waiting in ((client, 1), (other, 2)):
        name = who.account_id
        assert market.db.read_sync(jobs.backlog, name, 10) == waiting
        assert market.db.read_sync(jobs.backlog, name, 1) == 1
        for count in (1, 2, 3):
            assert market.db.read_sync(jobs.backlog_reaches, name, count) is (waiting >= count)
            assert market.db.read_sync(jobs.has_room, name, count) is (waiting < count)


def test_a_large_input_goes_with_its_own_job(market: Market) -> None:
    client, other = market.client(), market.client("other")
    large = "x" * (LARGE_INPUT_BYTES + 1)
    gone, kept, small = (
        market.submit(who, prompt=text) for who, text in ((client, large), (client, large), (other, "hi"))
    )
    assert market.db.read_sync(jobs.large_bytes, client.account_id) == gone.prompt_bound + kept.prompt_bound
    assert market.db.read_sync(jobs.large_bytes, other.account_id) == 0
    market.cancel(client, gone.id)
    assert market.db.read_sync(job_texts.request_text, gone.id) is None
    assert market.db.read_sync(jobs.large_bytes, client.account_id) == kept.prompt_bound
    for job in (kept, small):
        assert market.db.read_sync(job_texts.request_text, job.id) is not None


def test_whoever_waits_hears_of_what_moved(market: Market) -> None:
    """A job's end reaches who waits for it, a payment that was made the miners that wait."""
    client = market.client()
    job = market.submit(client, payment="manual")

    def paid(tx: Tx) -> list[Any]:
        assert jobs.put_into_queue(tx, job, key_id="", spend_period_ms=0, hold_id="h", held_units=1)
        return list(tx.signals)

    def paid_again(tx: Tx) -> list[Any]:
        assert not jobs.put_into_queue(tx, job, key_id="", spend_period_ms=0, hold_id="h2", held_units=2)
        return list(tx.signals)

    def ended(tx: Tx) -> list[Any]:
        assert jobs.end(tx, waiting, "expired", "EXPIRED", "coordinator")
        return list(tx.signals)

    assert market.db.write_sync(paid) == [jobs.queued_signal(job)]
    assert market.db.write_sync(paid_again) == []
    waiting = market.job(job.id)
    assert waiting.hold_id == "h"
    assert market.db.write_sync(ended) == [("job", job.id)]

    def given_back(tx: Tx) -> list[Any]:
        assert jobs.requeue(tx, running, "ENGINE_ERROR", "miner")
        return list(tx.signals)

    def completed(tx: Tx) -> list[Any]:
        assert jobs.complete(tx, running, 0, "receipt", "{}")
        return list(tx.signals)

    other, miner = market.submit(client), market.miner()
    (running,) = market.take(miner)
    assert market.db.write_sync(given_back) == [("job", other.id), jobs.queued_signal(other)]
    (running,) = market.take(miner)
    assert market.db.write_sync(completed) == [("job", other.id)]


def test_whoever_waits_hears_of_a_job_that_is_kept_from_fewer(market: Market) -> None:
    client = market.client()
    job = market.submit(client)

    def kept(tx: Tx, seen: JobRow, excluded: str) -> list[Any]:
        jobs.keep_from(tx, seen, excluded, 5)
        return list(tx.signals)

    def keep(seen: JobRow, excluded: str) -> list[Any]:
        return market.db.write_sync(kept, seen, excluded)

    assert keep(job, "") == [], "as before, but for the next review"
    assert market.job(job.id) == job._replace(review_at_ms=5)
    assert keep(job, " m1 m2 ") == [jobs.queued_signal(job._replace(excluded=" m1 m2 "))]
    assert keep(job, " m1 ") == [], "it is not as it was seen"
    now = market.job(job.id)
    assert (now.excluded, keep(now, "")) == (" m1 m2 ", [jobs.queued_signal(job)])


def test_a_claim_names_the_miners_session_of_now(market: Market) -> None:
    client, miner = market.client(), market.miner()
    job = market.submit(client)
    with pytest.raises(MinerSessionReplaced):
        market.db.write_sync(dispatch.claim, market.ctx, miner.principal, job.id, miner.miner_id, "another")
    assert market.job(job.id) == job
    assert market.claim(miner, job.id).status == "running"
