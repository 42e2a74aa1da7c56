"""Miners and clients that wait: woken the moment that there is something for them, on both databases."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import JobNotFound
from aitbc.coordinator.flows.acts import completion, dispatch, job_lifecycle
from aitbc.coordinator.jobs import service as jobs
from aitbc.coordinator.process import long_polls
from aitbc.coordinator.process.runtime import Runtime
from tests.support.flows import Market, Provider, in_loop, result_of, runtime_over, spec_of

SOON_S = 5.0  # a lost wake-up would take LOOK_S


@pytest.fixture
def runtime(market: Market) -> Runtime:
    return runtime_over(market)


def poll(runtime: Runtime, miner: Provider, count: int = 1, wait_s: float = 30) -> "asyncio.Task[list[Any]]":
    return asyncio.create_task(take(runtime, miner, count, set(), wait_s))


async def take(runtime: Runtime, miner: Provider, count: int, known: set[str], wait_s: float) -> list[Any]:
    taken = await long_polls.take(runtime, miner.principal, miner.miner_id, count, known, wait_s)
    return taken.assignments


async def settled(runtime: Runtime, waiters: int) -> None:
    """Until so many miners wait."""
    for _ in range(1000):
        if len(runtime.idle_miners) == waiters:
            await asyncio.sleep(0.01)
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"{len(runtime.idle_miners)} wait, not {waiters}")


async def within(seconds: float, what: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(what, seconds)


def submit(runtime: Runtime, market: Market, client: Any, **spec: Any) -> Awaitable[Any]:
    return runtime.db.write(job_lifecycle.submit, market.ctx, client, spec_of(**spec))


def test_a_waiting_miner_gets_a_job_at_once(market: Market, runtime: Runtime) -> None:
    client, miner = market.client(), market.miner()

    async def main() -> None:
        waiter = poll(runtime, miner)
        await settled(runtime, 1)
        started = time.perf_counter()
        job = await submit(runtime, market, client)
        taken = await within(SOON_S, waiter)
        assert [one.job.id for one in taken] == [job.id]
        assert time.perf_counter() - started < SOON_S
        assert len(runtime.idle_miners) == 0

    in_loop(market.db, main())


def test_the_cheaper_miner_is_woken_and_the_other_waits_on(market: Market, runtime: Runtime) -> None:
    client = market.client()
    dear, cheap = market.miner("dear", models={"llama": 200}), market.miner("cheap", models={"llama": 100})

    async def main() -> None:
        waiters = [poll(runtime, dear), poll(runtime, cheap)]
        await settled(runtime, 2)
        await submit(runtime, market, client)
        assert (await within(SOON_S, waiters[1]))[0].job.unit_price_units == 100
        assert not waiters[0].done()
        await submit(runtime, market, client)
        assert (await within(SOON_S, waiters[0]))[0].job.unit_price_units == 200

    in_loop(market.db, main())


def test_a_burst_finds_all_the_miners_that_it_needs(market: Market, runtime: Runtime) -> None:
    client = market.client()
    miners = [market.miner(f"m{n}") for n in range(12)]

    async def main() -> None:
        waiters = [poll(runtime, miner) for miner in miners]
        await settled(runtime, 12)
        made = await asyncio.gather(*(submit(runtime, market, client) for _ in range(12)))
        taken = await within(SOON_S, asyncio.gather(*waiters))
        assert sorted(one[0].job.id for one in taken) == sorted(job.id for job in made)

    in_loop(market.db, main())


def test_jobs_that_come_while_the_first_is_taken_find_the_next_miner(
    market: Market, runtime: Runtime
) -> None:
    """The cheapest is woken for both, takes one, and the other must not sleep until it looks by itself."""
    client = market.client()
    cheap, dear = market.miner("cheap", models={"llama": 1}), market.miner("dear", models={"llama": 2})

    async def main() -> None:
        for _ in range(10):
            waiters = [poll(runtime, cheap), poll(runtime, dear)]
            await settled(runtime, 2)
            first = await submit(runtime, market, client)
            second = asyncio.create_task(submit(runtime, market, client))  # type: ignore[arg-type]
            taken = await within(SOON_S, asyncio.gather(*waiters))
            jobs = {first.id, (await second).id}
            assert {one.job.id for some in taken for one in some} == jobs
            for miner in (cheap, dear):
                for job in await runtime.db.read(lambda tx, m=miner: dispatch.jobs.held_by(tx, m.miner_id)):
                    await runtime.db.write(completion.complete, market.ctx, *miner, result_of(job.id))
        await asyncio.to_thread(market.check)

    in_loop(market.db, main())


def test_a_miner_that_goes_away_loses_no_job_for_the_others(market: Market, runtime: Runtime) -> None:
    """Whenever its poll is cut off, the job is either its own (and comes first when it asks again) or another's."""
    client = market.client()
    first, second = market.miner("a", models={"llama": 1}), market.miner("b", models={"llama": 2})

    async def main() -> None:
        for pause_s in (None, 0, 0.0005, 0.001, 0.002, 0.004):
            gone, stays = poll(runtime, first), poll(runtime, second)
            await settled(runtime, 2)
            job = await submit(runtime, market, client)
            if pause_s is not None:
                await asyncio.sleep(pause_s)
            gone.cancel()
            await asyncio.wait({gone})
            again = poll(runtime, first, wait_s=0.5)
            done, _ = await asyncio.wait({again, stays}, timeout=SOON_S, return_when="FIRST_COMPLETED")
            if again in done and not again.result():
                done, _ = await asyncio.wait({stays}, timeout=SOON_S)
            taken = [one.job for task in done for one in task.result()]
            assert [one.id for one in taken] == [job.id]
            await runtime.db.write(job_lifecycle.cancel, market.ctx, client, job.id)
            stays.cancel()
            again.cancel()
            await asyncio.wait({stays, again})

    in_loop(market.db, main())


@pytest.mark.parametrize("change", ["dearer", "drains", "leaves"])
def test_what_a_changed_miner_is_woken_for_passes_on(market: Market, runtime: Runtime, change: str) -> None:
    """It waits with what it was; the job that wakes it is no longer for it."""
    client = market.client()
    changed, other = market.miner("a", models={"llama": 1}), market.miner("b", models={"llama": 50})
    changes: dict[str, Callable[[], Any]] = {
        "dearer": lambda: market.miner("a", models={"llama": 5000}),
        "drains": lambda: market.heartbeat(changed, status="draining"),
        "leaves": lambda: market.leave(changed),
    }

    async def main() -> None:
        waiters = [poll(runtime, changed), poll(runtime, other)]
        await settled(runtime, 2)
        await asyncio.to_thread(changes[change])
        job = await submit(runtime, market, client)
        assert [one.job.id for one in await within(SOON_S, waiters[1])] == [job.id]
        waiters[0].cancel()
        await asyncio.wait({waiters[0]})

    in_loop(market.db, main())


def test_a_full_miner_gets_its_next_job_soon_after_it_has_room(market: Market, runtime: Runtime) -> None:
    client, miner = market.client(), market.miner(concurrency=1)

    async def main() -> None:
        running = await submit(runtime, market, client)
        assert await poll(runtime, miner)
        waiter = asyncio.create_task(take(runtime, miner, 1, {running.id}, 30))
        following = await submit(runtime, market, client)
        await asyncio.sleep(0.05)
        assert not waiter.done()
        await runtime.db.write(completion.complete, market.ctx, *miner, result_of(running.id))
        assert [one.job.id for one in await within(SOON_S, waiter)] == [following.id]

    in_loop(market.db, main())


def test_a_requeued_job_wakes_another_miner(market: Market, runtime: Runtime) -> None:
    client, first = market.client(), market.miner("a")
    job = market.submit(client)
    market.take(first)
    second = market.miner("b")

    async def main() -> None:
        waiter = poll(runtime, second)
        await settled(runtime, 1)
        await asyncio.to_thread(market.fail, first, job.id)
        assert [one.job.id for one in await within(SOON_S, waiter)] == [job.id]

    in_loop(market.db, main())


def test_an_offer_comes_at_once_and_leases_nothing(market: Market, runtime: Runtime) -> None:
    client, miner = market.client(), market.miner()

    async def main() -> None:
        waiter = asyncio.create_task(long_polls.offer(runtime, miner.principal, miner.miner_id, 30))
        await settled(runtime, 1)
        job = await submit(runtime, market, client)
        offered = await within(SOON_S, waiter)
        assert offered.job is not None
        assert (offered.job.id, offered.job.status) == (job.id, "pending")
        claimed = await runtime.db.write(dispatch.claim, market.ctx, miner.principal, job.id, miner.miner_id)
        assert claimed.job.status == "running"
        empty = await long_polls.offer(runtime, miner.principal, miner.miner_id, 0.05)
        assert empty.job is None

    in_loop(market.db, main())


def test_a_client_hears_of_its_job_at_once(market: Market, runtime: Runtime) -> None:
    client, miner = market.client(), market.miner()
    stranger = market.client("mallory")

    async def main() -> None:
        job = await submit(runtime, market, client)
        ended = asyncio.create_task(long_polls.job_change(runtime, client, job.id, 30))
        left_queue = asyncio.create_task(
            long_polls.job_change(runtime, client, job.id, 30, past=("pending",))
        )
        await asyncio.sleep(0.05)
        await runtime.db.write(dispatch.take, market.ctx, *miner, 1)
        assert (await within(SOON_S, left_queue)).status == "running"
        assert not ended.done()
        await runtime.db.write(completion.complete, market.ctx, *miner, result_of(job.id))
        assert (await within(SOON_S, ended)).status == "completed"
        assert (await long_polls.job_change(runtime, client, job.id, 30)).status == "completed"
        with pytest.raises(JobNotFound):
            await long_polls.job_change(runtime, stranger, job.id, 30)
        assert not runtime.db.signals._waiters

    in_loop(market.db, main())


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
def test_what_a_miner_looked_at_and_left_is_announced_to_those_who_looked_meanwhile(market: Market) -> None:
    """A miner of two models holds the first job of each for a moment and takes one."""
    client = market.client()
    both = market.miner("both", models={"x": 1, "y": 1})
    other = market.miner("other", models={"y": 1})
    first, left = market.submit(client, model="x"), market.submit(client, model="y")

    def looks(tx: Tx) -> tuple[list[Any], list[Any], list[Any]]:
        taken = dispatch.take(tx, market.ctx, *both, 1)
        with ThreadPoolExecutor(1) as pool:
            missed = pool.submit(market.take, other).result()
        return taken.assignments, missed, tx.signals

    taken, missed, signals = market.db.write_sync(looks)
    assert [one.job.id for one in taken] == [first.id]
    assert missed == []
    assert jobs.queued_signal(left) in signals
    assert [job.id for job in market.take(other)] == [left.id]


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
def test_an_offer_hides_its_job_from_nobody(market: Market) -> None:
    client, looker, taker = market.client(), market.miner("a"), market.miner("b")
    job = market.submit(client)

    def looks(tx: Tx) -> tuple[Any, list[Any]]:
        offered = dispatch.offer(tx, market.ctx, *looker)
        with ThreadPoolExecutor(1) as pool:
            return offered.job, pool.submit(market.take, taker).result()

    offered, taken = market.db.write_sync(looks)
    assert offered.id == job.id
    assert [one.id for one in taken] == [job.id]


@pytest.mark.parametrize("late_s", [0, 0.002, 0.05])
def test_polls_end_in_time_and_at_shutdown(market: Market, runtime: Runtime, late_s: float) -> None:
    """Also those that look into the database at that very moment."""
    client, miner = market.client(), market.miner()

    async def main() -> None:
        assert await poll(runtime, miner, wait_s=0.05) == []
        job = await submit(runtime, market, client, region="mars")
        assert (await long_polls.job_change(runtime, client, job.id, 0.05)).status == "pending"
        waiters: list[asyncio.Task[Any]] = []
        for _ in range(20):
            waiters.append(poll(runtime, miner))
            waiters.append(asyncio.create_task(long_polls.job_change(runtime, client, job.id, 30)))
            waiters.append(
                asyncio.create_task(long_polls.offer(runtime, miner.principal, miner.miner_id, 30))
            )
        while len(runtime.idle_miners) < 40:
            await asyncio.sleep(0)
        await asyncio.sleep(late_s)
        started = time.perf_counter()
        runtime.begin_shutdown()
        await within(SOON_S, asyncio.gather(*waiters))
        assert time.perf_counter() - started < SOON_S

    in_loop(market.db, main())


def test_who_may_have_no_work_now_waits_as_others_do(market: Market, runtime: Runtime) -> None:
    """Answered at once it would only ask again at once."""
    client, miner = market.client(), market.miner()
    market.miner("other", models={"none": 1})
    failed = market.submit(client)
    market.take(miner)
    market.fail(miner, failed.id)
    market.cancel(client, failed.id)
    waits = market.submit(client)

    async def main() -> None:
        asked = asyncio.create_task(long_polls.offer(runtime, miner.principal, miner.miner_id, 30))
        await asyncio.sleep(0.2)
        assert not asked.done()
        market.clock.advance(1)  # its pause ends
        offered = await within(SOON_S, asked)
        assert offered.job is not None and offered.job.id == waits.id

    in_loop(market.db, main())
