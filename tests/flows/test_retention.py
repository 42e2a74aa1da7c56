"""Miners that lapse, prompts that are erased, and loops that go on."""

import asyncio
from typing import Any

import pytest

from aitbc import background
from aitbc.errors import StorageUnavailable
from aitbc.jobs import service as jobs
from aitbc.receipts import service as receipts
from tests.flows.loops import LEASE_S, Loop, run
from tests.support_flows import Market, runtime_over


@pytest.fixture
def loop(market: Market) -> Loop:
    return Loop(runtime_over(market), market)


def test_silent_miners_are_inactive_until_they_are_heard_of(market: Market, loop: Loop) -> None:
    first, second = market.miner("a"), market.miner("b")

    def statuses() -> list[str]:
        from aitbc.miners import service as miners

        return [market.db.read_sync(miners.get, name).status for name in ("a", "b")]  # type: ignore[union-attr]

    async def main() -> None:
        market.clock.advance(LEASE_S)
        market.heartbeat(second)
        market.clock.advance(31)
        await background.lapse_once(loop.runtime)
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
    days = loop.runtime.settings.job_retention_days

    def texts(job_id: str) -> tuple[Any, Any]:
        return market.db.read_sync(jobs.request_text, job_id), market.db.read_sync(jobs.result_text, job_id)

    async def main() -> None:
        market.clock.advance(days * 86_400 - 10)
        recent = market.submit(client, prompt="asked today", ttl_s=604_800)
        await background.erase_once(loop.runtime)
        assert None not in texts(ended.id)
        market.clock.advance(20)
        assert await background.erase_once(loop.runtime) is False
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


def test_the_loop_outlives_a_bad_round(loop: Loop) -> None:
    rounds: list[int] = []

    async def run_once() -> bool:
        rounds.append(1)
        if len(rounds) == 1:
            raise StorageUnavailable()
        if len(rounds) == 2:
            raise KeyError("a bug")
        loop.runtime.shutdown.set()
        return False

    asyncio.run(asyncio.wait_for(background.every(0.001, loop.runtime, run_once, "test"), 5))
    assert len(rounds) == 3


def test_a_result_that_comes_late_but_before_the_lease_was_ended_is_accepted(market: Market) -> None:
    """The lease is over when the coordinator says so, not a moment before."""
    client, miner = market.client(), market.miner()
    job = market.submit(client)
    market.take(miner)
    market.clock.advance(LEASE_S + 0.4)
    assert market.complete(miner, job.id).job_id == job.id
