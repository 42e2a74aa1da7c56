"""Miners that lapse, prompts that are erased, and loops that go on."""

import dataclasses
from typing import Any

import pytest

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.errors import InputQuotaExceeded
from aitbc.coordinator.flows.acts import expiry, job_lifecycle
from aitbc.coordinator.jobs import texts as job_texts
from aitbc.coordinator.jobs.models import LARGE_INPUT_BYTES
from aitbc.coordinator.jobs.rows import JobRow
from aitbc.coordinator.process.loops import erasing, lapsing
from aitbc.coordinator.receipts import service as receipts
from tests.coordinator.flows.loops import LEASE_S, Loop, run
from tests.support.flows import Market, runtime_over, spec_of


@pytest.fixture
def loop(market: Market) -> Loop:
    return Loop(runtime_over(market), market)


def test_silent_miners_are_inactive_until_they_are_heard_of(market: Market, loop: Loop) -> None:
    first, second = market.miner("a"), market.miner("b")

    def statuses() -> list[str]:
        from aitbc.coordinator.miners import service as miners

        return [market.db.read_sync(miners.get, name).status for name in ("a", "b")]  # type: ignore[union-attr]

    async def main() -> None:
        market.clock.advance(LEASE_S)
        market.heartbeat(second)
        market.clock.advance(31)
        await lapsing.run_once(loop.runtime)
        assert statuses() == ["inactive", "active"]
        assert market.take(first) == []
        assert statuses() == ["active", "active"]
        market.leave(first)
        assert statuses() == ["inactive", "active"]

    run(loop, main)


def test_prompts_and_results_are_erased_and_proofs_stay(market: Market, loop: Loop) -> None:
    client, miner = market.client(), market.miner(concurrency=9)
    ended = market.submit(client, prompt="a secret question", ttl_s=604_800)
    failed = market.submit(client, prompt="another", ttl_s=604_800)
    open_job = market.submit(client, prompt="still asked", ttl_s=604_800)
    market.take(miner, 2)
    receipt = market.complete(miner, ended.id, "a secret answer")
    market.fail(miner, failed.id, "BAD_REQUEST")
    market.pass_time(10)
    days = loop.runtime.settings.job_retention_days

    def texts(job_id: str) -> tuple[Any, Any]:
        return market.db.read_sync(job_texts.request_text, job_id), market.db.read_sync(
            job_texts.result_text, job_id
        )

    async def main() -> None:
        market.clock.advance(days * 86_400 - 10)
        recent = market.submit(client, prompt="asked today", ttl_s=604_800)
        await erasing.run_once(loop.runtime)
        assert None not in texts(ended.id)
        market.clock.advance(20)
        assert await erasing.run_once(loop.runtime) is False
        assert texts(ended.id) == texts(failed.id) == (None, None)
        assert texts(open_job.id)[0] is not None, "it may still run"
        assert texts(recent.id)[0] is not None
        assert market.db.read_sync(receipts.of_job, ended.id) == receipt
        assert market.job(ended.id).prompt_hash == ended.prompt_hash
        assert [kind for kind, _ in market.history(ended.id)] == ["created", "claimed", "completed"]
        again = market.complete(miner, ended.id, "a secret answer")
        assert again == receipt, "the same result sent again still gets the first receipt"
        market.check()

    run(loop, main)


def test_what_is_erased_ended_so_long_ago_to_the_millisecond_and_nothing_else(market: Market) -> None:
    client, miner = market.client(), market.miner()
    days, jobs = 3, []
    for text in ("old", "new"):
        jobs.append(market.submit(client, prompt=text).id)
        market.clock.advance(1)
        market.take(miner)
        market.complete(miner, jobs[-1], text)
        market.clock.advance(1)

    def erase() -> tuple[int, list[bool]]:
        erased = market.db.write_sync(expiry.erase_old, days)
        texts = (job_texts.request_text, job_texts.result_text)
        return erased, [market.db.read_sync(text, job) is not None for job in jobs for text in texts]

    market.clock.advance(days * 86_400 - 3.001)
    assert erase() == (0, [True] * 4)
    market.clock.advance(0.001)
    assert erase() == (1, [False, False, True, True])
    market.clock.advance(2)
    assert erase() == (1, [False] * 4)


def test_a_result_that_comes_late_but_before_the_lease_was_ended_is_accepted(market: Market) -> None:
    """The lease is over when the coordinator says so, not a moment before."""
    client, miner = market.client(), market.miner()
    job = market.submit(client)
    market.take(miner)
    market.clock.advance(LEASE_S + 0.4)
    assert market.complete(miner, job.id).job_id == job.id


LONG = "x" * (LARGE_INPUT_BYTES + 1)


def stored(market: Market, job_id: str) -> bool:
    return market.db.read_sync(job_texts.request_text, job_id) is not None


@pytest.mark.parametrize("end", ["cancel", "expire", "fail"])
def test_a_large_input_goes_with_its_job_where_nobody_paid_for_it(market: Market, end: str) -> None:
    client, miner = market.client(), market.miner(concurrency=9)
    large, small = (market.submit(client, prompt=prompt, ttl_s=60) for prompt in (LONG, "short"))
    if end == "cancel":
        for job in (large, small):
            market.cancel(client, job.id)
    elif end == "expire":
        market.clock.advance(61)
        market.expire()
    else:
        for _ in range(market.ctx.max_attempts):
            market.pass_time(10)
            for job in market.take(miner, 2):
                market.fail(miner, job.id)
    assert {market.job(job.id).status for job in (large, small)} <= {"failed", "cancelled"}
    assert (stored(market, large.id), stored(market, small.id)) == (False, True)
    market.check()


def test_a_large_input_that_is_tried_again_or_answered_stays(market: Market) -> None:
    client, miner = market.client(), market.miner()
    job = market.submit(client, prompt=LONG)
    market.take(miner)
    market.fail(miner, job.id)
    assert stored(market, job.id)
    market.pass_time(10)
    assert [taken.id for taken in market.take(miner)] == [job.id]
    market.complete(miner, job.id)
    assert stored(market, job.id)


def test_large_inputs_that_wait_have_a_bound(market: Market) -> None:
    """In all, whether they come one by one or in a batch; small ones are bounded by their number."""
    ctx = dataclasses.replace(market.ctx, max_pending_bytes=4 * len(LONG) - 1)
    client, other = market.client(), market.client("bob")
    write = market.db.write_sync

    def submit(who: Principal, prompt: str = LONG) -> JobRow:
        return write(job_lifecycle.submit, ctx, who, spec_of(prompt=prompt))

    waiting = [submit(client), submit(client)]
    done = write(
        job_lifecycle.submit_batch, ctx, client, [spec_of(prompt=LONG), spec_of(prompt=LONG), spec_of()]
    )
    assert [type(item) for item in done] == [JobRow, InputQuotaExceeded, JobRow]
    with pytest.raises(InputQuotaExceeded) as refused:
        submit(client)
    assert refused.value.details["limit_bytes"] == ctx.max_pending_bytes
    assert refused.value.details["waiting_bytes"] > 3 * LARGE_INPUT_BYTES
    assert submit(client, "short").status == submit(other).status == "pending"
    market.cancel(client, waiting[0].id)
    assert submit(client).status == "pending"
    market.check()
