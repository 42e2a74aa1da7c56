"""Every move of a job is guarded by its state and its lease: who looks at an old row moves nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from aitbc.database import Tx
from aitbc.errors import JobNotRunning, LeaseLost
from aitbc.jobs import service as jobs
from aitbc.jobs.rows import JobRow
from tests.support_flows import Market

MOVES: dict[str, Callable[[Tx, JobRow], Any]] = {
    "complete": lambda tx, job: jobs.complete(tx, job, 1, "receipt", "{}"),
    "end": lambda tx, job: jobs.end(tx, job, "failed", "failed", "ENGINE_ERROR", "miner"),
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
    assert market.db.write_sync(MOVES[move], running) is False
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
