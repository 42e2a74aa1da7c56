"""What time does to jobs and leases: through the loop that a coordinator runs, under a clock that tests move."""

from typing import Any

import pytest

from aitbc.coordinator.errors import InvalidRequest, JobNotRunning, LeaseLost, StorageUnavailable
from aitbc.coordinator.flows.acts import expiry
from aitbc.coordinator.flows.shared.retries import PATIENCE_MS, RECHECK_MS
from aitbc.coordinator.miners import service as miner_rows
from tests.coordinator.flows.loops import LEASE_S, ROUND_S, Loop, run
from tests.support.flows import Market, Provider, runtime_over


@pytest.fixture
def loop(market: Market) -> Loop:
    return Loop(runtime_over(market), market)


# --- leases -------------------------------------------------------------------------------------------------


def test_the_job_of_a_silent_miner_is_requeued_within_a_second_of_its_lease(
    market: Market, loop: Loop
) -> None:
    client, silent, other = market.client(), market.miner("a"), market.miner("b")
    job = market.submit(client)

    async def main() -> None:
        market.take(silent)
        await loop.passes(LEASE_S - ROUND_S)
        assert loop.status(job.id) == "running", "its lease is its own to the last"
        await loop.passes(1)
        assert loop.status(job.id) == "pending"
        assert market.history(job.id)[-1] == ("requeued", "pending")
        assert market.take(silent) == [], "others come first"
        assert [one.id for one in market.take(other)] == [job.id]
        with pytest.raises(LeaseLost):
            market.complete(silent, job.id)
        market.complete(other, job.id)
        market.check()

    run(loop, main)


def test_a_miner_that_is_alive_keeps_its_job(market: Market, loop: Loop) -> None:
    client, miner = market.client(), market.miner()
    job = market.submit(client)

    async def main() -> None:
        market.take(miner)
        await loop.passes(5 * LEASE_S, alive=[miner])
        assert loop.status(job.id) == "running"
        assert market.complete(miner, job.id).job_id == job.id

    run(loop, main)


def test_a_heartbeat_names_what_it_keeps(market: Market, loop: Loop) -> None:
    """A job that the miner no longer names is let go; one that it lost is named back."""
    client, miner = market.client(), market.miner(concurrency=3)
    kept, dropped, cancelled = [market.submit(client).id for _ in range(3)]

    async def main() -> None:
        market.take(miner, 3)
        market.cancel(client, cancelled)
        await loop.passes(30)
        beat = market.heartbeat(miner, [kept, cancelled, "unheard-of"])
        assert [job_id for job_id, _end in beat.leases] == [kept]
        assert sorted(beat.cancelled) == sorted([cancelled, "unheard-of"])
        await loop.passes(31)
        assert loop.status(kept) == "running"
        assert loop.status(dropped) == "pending"

    run(loop, main)


def test_tries_are_bounded(market: Market, loop: Loop) -> None:
    client, miner = market.client(), market.miner()
    job = market.submit(client, ttl_s=7000)

    async def main() -> None:
        for attempt in range(1, 4):
            assert [one.id for one in market.take(miner)] == [job.id], (
                "no other miner: it may try again after a moment"
            )
            assert market.job(job.id).attempts == attempt
            await loop.passes(LEASE_S)
            assert market.take(miner) == []
            await loop.passes(2**attempt)
        ended = market.job(job.id)
        assert (ended.status, ended.cause, ended.actor) == ("failed", "LEASE_EXPIRED", "coordinator")
        assert market.balance("alice").held_units == 0
        assert market.take(miner) == []
        market.check()

    run(loop, main)


def test_a_job_waits_so_long_for_miners_that_have_not_failed_it(market: Market, loop: Loop) -> None:
    """Also while they are busy; then it is tried again by all, since none of them has proven itself."""
    client, first, busy = market.client(), market.miner("a"), market.miner("b")
    market.submit(client, ttl_s=7000)
    market.take(busy)
    job = market.submit(client, ttl_s=7000)

    async def main() -> None:
        market.take(first)
        market.fail(first, job.id)
        for _ in range(5):
            await loop.passes(5, alive=[first, busy])
            assert market.take(first) == []
        await loop.passes(PATIENCE_MS / 1000 - 25 + RECHECK_MS / 1000 + 1, alive=[first, busy])
        assert [one.id for one in market.take(first)] == [job.id]

    run(loop, main)


def test_a_job_goes_back_to_all_when_those_it_waited_for_are_gone(market: Market, loop: Loop) -> None:
    client, first, other = market.client(), market.miner("a"), market.miner("b")
    job = market.submit(client, ttl_s=7000)

    async def main() -> None:
        market.take(first)
        market.fail(first, job.id)
        await loop.passes(3, alive=[first, other])
        assert market.take(first) == []
        market.leave(other)
        await loop.passes(RECHECK_MS / 1000 + 1, alive=[first])
        assert [one.id for one in market.take(first)] == [job.id]

    run(loop, main)


# --- jobs that run out ----------------------------------------------------------------------------------------


def test_a_job_that_nobody_took_in_time_fails_with_its_money_back(market: Market, loop: Loop) -> None:
    client, late = market.client(), market.miner()
    before = market.balance("alice")
    job = market.submit(client, ttl_s=10)

    async def main() -> None:
        await loop.passes(9.5)
        assert loop.status(job.id) == "pending"
        await loop.passes(1)
        ended = market.job(job.id)
        assert (ended.status, ended.cause, ended.actor) == ("failed", "EXPIRED", "coordinator")
        assert market.history(job.id)[-1] == ("expired", "failed")
        assert market.balance("alice") == before
        assert market.take(late) == []
        market.check()

    run(loop, main)


def test_an_expired_job_hides_none_behind_it(market: Market) -> None:
    """Before the loop has come by."""
    client, miner = market.client(), market.miner()
    market.submit(client, ttl_s=5, priority=9)
    following = market.submit(client, ttl_s=500)
    market.clock.advance(6)
    assert [job.id for job in market.take(miner)] == [following.id]


def test_a_job_claimed_in_time_is_answered_and_paid_however_long_it_might_wait(
    market: Market, loop: Loop
) -> None:
    client, miner = market.client(), market.miner()
    job = market.submit(client, ttl_s=5)

    async def main() -> None:
        await loop.passes(4.5)
        market.take(miner)
        await loop.passes(5 * LEASE_S, alive=[miner])
        assert loop.status(job.id) == "running"
        assert market.complete(miner, job.id).price_units > 0
        market.check()

    run(loop, main)


def test_a_run_ends_with_its_time_and_not_before_also_where_its_miner_is_alive(
    market: Market, loop: Loop
) -> None:
    client, miner = market.client(), market.miner()
    job = market.submit(client, max_run_s=100)

    async def main() -> None:
        for _attempt in range(market.ctx.max_attempts):
            assert [one.id for one in market.take(miner)] == [job.id]
            await loop.passes(99, alive=[miner])
            assert loop.status(job.id) == "running"
            await loop.passes(2, alive=[miner])
            assert loop.status(job.id) != "running"
            with pytest.raises((LeaseLost, JobNotRunning)):
                market.complete(miner, job.id)
            await loop.passes(5, alive=[miner])
        ended = market.job(job.id)
        assert (ended.status, ended.cause, ended.actor) == ("failed", "TIMEOUT", "coordinator")
        assert "100 s" in ended.message
        assert market.balance("alice").held_units == 0
        market.check()

    run(loop, main)


def test_a_run_takes_nothing_of_the_time_to_wait(market: Market, loop: Loop) -> None:
    """What was left when it was claimed is left when it is put back."""
    client, miner = market.client(), market.miner()
    job = market.submit(client, ttl_s=40)

    async def main() -> None:
        await loop.passes(30)
        market.take(miner)
        await loop.passes(100, alive=[miner])
        market.fail(miner, job.id)
        await loop.passes(9.5)
        assert loop.status(job.id) == "pending"
        await loop.passes(1)
        assert (market.job(job.id).status, market.job(job.id).cause) == ("failed", "EXPIRED")
        market.check()

    run(loop, main)


def test_a_run_may_not_be_longer_than_the_network_allows(market: Market) -> None:
    client = market.client()
    assert market.submit(client).max_run_ms == market.ctx.default_max_run_ms
    assert market.submit(client, max_run_s=86_400).max_run_ms == 86_400_000
    with pytest.raises(InvalidRequest, match="86400 seconds"):
        market.submit(client, max_run_s=86_401)


@pytest.mark.parametrize("jump_s", [50, 86_400 * 400, -50, -80_000])
def test_a_clock_that_jumps_ends_no_run_and_makes_none_endless(
    market: Market, loop: Loop, jump_s: int
) -> None:
    client, miner = market.client(), market.miner()
    job = market.submit(client, max_run_s=200, ttl_s=604_800)

    async def main() -> None:
        market.take(miner)
        await loop.passes(100, alive=[miner])
        market.clock.jump(jump_s)
        await loop.passes(95, alive=[miner])
        assert loop.status(job.id) == "running"
        await loop.passes(110, alive=[miner])
        assert market.job(job.id).cause == "TIMEOUT"

    run(loop, main)


def test_a_restart_gives_a_run_a_whole_lease(market: Market, loop: Loop) -> None:
    client, miner = market.client(), market.miner()
    job = market.submit(client, max_run_s=100)

    async def main() -> None:
        market.take(miner)
        await loop.passes(90, alive=[miner])
        market.clock.advance(5_000)
        await loop.runtime.db.write(expiry.renew_leases, market.ctx)
        back = Loop(loop.runtime, market)
        await back.passes(LEASE_S - 1)
        assert back.status(job.id) == "running"
        market.complete(miner, job.id)

    run(loop, main)


# --- clocks that jump, coordinators that are away -----------------------------------------------------------------


@pytest.mark.parametrize("jump_s", [3, 50, 3_600, 86_400 * 400, -3, -50, -3_600, -80_000])
def test_a_clock_that_jumps_ends_no_lease_and_spares_no_dead_miner(
    market: Market, loop: Loop, jump_s: int
) -> None:
    """Leases given just after the jump, before the loop notices it, are no exception."""
    client, alive, dead = market.client(), market.miner("alive", concurrency=4), market.miner("dead")
    mine, lost = market.submit(client), market.submit(client, model="other")
    market.miner("dead", account="owner-dead", models={"other": 1})

    async def main() -> None:
        market.take(alive)
        market.take(dead)
        await loop.passes(20)
        market.heartbeat(alive)
        market.clock.jump(jump_s)
        market.heartbeat(alive)
        late = market.submit(client)
        assert len(market.take(alive, 2)) == 2
        await loop.passes(LEASE_S - 25, alive=[alive])
        assert [loop.status(one.id) for one in (mine, lost, late)] == ["running"] * 3
        await loop.passes(LEASE_S, alive=[alive])
        assert loop.status(mine.id) == loop.status(late.id) == "running"
        assert loop.status(lost.id) == "pending", "a lease does not last for ever either"
        for job in (mine, late):
            market.complete(alive, job.id)
        market.check()

    run(loop, main)


def test_a_clock_that_jumps_forward_expires_no_job_that_waits(market: Market, loop: Loop) -> None:
    client = market.client()
    waiting, other = market.submit(client, ttl_s=600), market.submit(client, ttl_s=5000)

    async def main() -> None:
        await loop.passes(10)
        market.clock.jump(86_400)
        await loop.passes(580)
        assert [loop.status(one.id) for one in (waiting, other)] == ["pending"] * 2
        await loop.passes(11)
        assert [loop.status(one.id) for one in (waiting, other)] == ["failed", "pending"]

    run(loop, main)


@pytest.mark.parametrize("away_s", [10, 1_000, 100_000])
@pytest.mark.parametrize("jump_s", [0, 5_000, -5_000])
def test_leases_are_whole_again_after_a_restart(market: Market, loop: Loop, away_s: int, jump_s: int) -> None:
    client, miner = market.client(), market.miner()
    job = market.submit(client, ttl_s=120)

    async def main() -> None:
        market.take(miner)
        await loop.passes(10)
        market.clock.advance(away_s)
        market.clock.jump(jump_s)
        await loop.runtime.db.write(expiry.renew_leases, market.ctx)  # as a coordinator does when it starts
        back = Loop(loop.runtime, market)
        await back.passes(LEASE_S - 1)
        assert back.status(job.id) == "running"
        await back.passes(1.5)
        assert back.status(job.id) != "running"

    run(loop, main)


def test_a_coordinator_that_was_stopped_or_had_no_disk_gives_miners_time_to_come_back(
    market: Market, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, miner = market.client(), market.miner()
    job = market.submit(client)

    async def fails(*_args: Any, **_kwargs: Any) -> None:
        raise StorageUnavailable()

    async def main() -> None:
        market.take(miner)
        await loop.passes(10)
        market.clock.advance(300)  # nothing ran at all
        await loop.passes(LEASE_S - 1)
        assert loop.status(job.id) == "running"
        market.heartbeat(miner)
        with monkeypatch.context() as broken:
            broken.setattr(market.db, "write", fails)
            for _ in range(200):  # it ran, and reached no database
                market.clock.advance(1)
                with pytest.raises(StorageUnavailable):
                    await loop.expiry.run_once()
        await loop.passes(LEASE_S - 1)
        assert loop.status(job.id) == "running"
        await loop.passes(2)
        assert loop.status(job.id) == "pending", "and then it is over"

    run(loop, main)


# --- many miners lost at once ---------------------------------------------------------------------------------------


def crowd(market: Market, count: int) -> tuple[list[Provider], list[str]]:
    client = market.client()
    miners = [market.miner(f"m{n}") for n in range(count)]
    ids = [market.submit(client, ttl_s=100_000).id for _ in miners]
    for miner in miners:
        assert len(market.take(miner)) == 1
    return miners, ids


def test_when_most_miners_fall_silent_rescheduling_waits_one_lease(market: Market, loop: Loop) -> None:
    miners, ids = crowd(market, 8)

    async def main() -> None:
        await loop.passes(LEASE_S - 1, alive=miners[:2])
        await loop.passes(LEASE_S, alive=miners[:2])
        assert [loop.status(job) for job in ids] == ["running"] * 8, "the network failed, not they"
        await loop.passes(3, alive=miners[:2])
        assert [loop.status(job) for job in ids] == ["running"] * 2 + ["pending"] * 6

    run(loop, main)


def test_miners_that_come_back_while_it_waits_keep_their_jobs(market: Market, loop: Loop) -> None:
    miners, ids = crowd(market, 8)

    async def main() -> None:
        await loop.passes(LEASE_S + 30)
        for miner in miners[:7]:
            market.heartbeat(miner)
        await loop.passes(2)
        assert [loop.status(job) for job in ids] == ["running"] * 7 + ["pending"]

    run(loop, main)


def test_a_lease_that_ends_is_one_failure_of_its_miner_and_none_in_an_outage(market: Market) -> None:
    """A miner that dies with three leases failed once; of those that fell silent with most others nobody did."""

    def failures(miners: list[Provider]) -> list[int]:
        rows = [market.db.read_sync(miner_rows.get, miner.miner_id) for miner in miners]
        return [row.strikes for row in rows if row is not None]

    client, two = market.client(), [market.miner(name, concurrency=3) for name in ("x", "y")]
    for miner, leases in zip(two, (3, 1), strict=True):
        for _ in range(leases):
            market.submit(client, ttl_s=100_000)
        assert len(market.take(miner, 3)) == leases
    market.clock.advance(LEASE_S)
    assert market.expire().causes == ["LEASE_EXPIRED"] * 4
    assert failures(two) == [1, 1]
    for miner in two:
        market.leave(miner)
    miners, ids = crowd(market, 6)
    market.clock.advance(LEASE_S)
    assert market.expire(market.ctx.lease_ms) == expiry.Expired([], True, True, False)
    found = market.expire(market.ctx.lease_ms + 1)
    assert (found.causes, found.silent, found.frozen) == (["LEASE_EXPIRED"] * 6, True, False)
    assert {market.job(job).status for job in ids} == {"pending"}
    assert failures(miners) == [0] * 6


def test_it_waits_again_the_next_time(market: Market, loop: Loop) -> None:
    miners, ids = crowd(market, 6)

    async def main() -> None:
        for _ in range(2):
            await loop.passes(2 * LEASE_S - 1)
            assert [loop.status(job) for job in ids] == ["running"] * 6
            await loop.passes(3)
            assert [loop.status(job) for job in ids] == ["pending"] * 6
            await loop.passes(31)
            # Each gets one that it has not failed. They were part of an outage: none of them pauses for it.
            taken = [len(market.take(miner)) for miner in miners]
            assert taken == [1] * 6 or market.job(ids[0]).attempts > 2

    run(loop, main)


def test_a_few_silent_miners_are_just_silent(market: Market, loop: Loop) -> None:
    miners, ids = crowd(market, 9)

    async def main() -> None:
        await loop.passes(LEASE_S + 1, alive=miners[4:])
        assert [loop.status(job) for job in ids] == ["pending"] * 4 + ["running"] * 5

    run(loop, main)


@pytest.mark.parametrize(("silent", "frozen"), [(5, False), (6, True)])
def test_half_of_the_miners_is_not_most_of_them(
    market: Market, loop: Loop, silent: int, frozen: bool
) -> None:
    """Of ten: when five are silent the rest goes on, when six are it waits. Who holds no lease does not count."""
    client, idle = market.client("bob"), [market.miner(f"idle{number}") for number in range(3)]
    for miner in idle:
        market.submit(client)
        market.complete(miner, market.take(miner)[0].id)
    miners, ids = crowd(market, 10)

    async def main() -> None:
        await loop.passes(LEASE_S + 1, alive=miners[silent:])
        expected = "running" if frozen else "pending"
        assert [loop.status(job) for job in ids[:silent]] == [expected] * silent
        assert [loop.status(job) for job in ids[silent:]] == ["running"] * (10 - silent)

    run(loop, main)


def test_four_miners_are_too_few_for_an_outage(market: Market, loop: Loop) -> None:
    """All of them silent: below FREEZE_MINERS a loss is just a loss."""
    miners, ids = crowd(market, expiry.FREEZE_MINERS - 1)
    assert len(miners) == len(ids)

    async def main() -> None:
        await loop.passes(LEASE_S + 1)
        assert [loop.status(job) for job in ids] == ["pending"] * len(ids)

    run(loop, main)


def test_many_leases_at_once_end_in_several_rounds(market: Market, loop: Loop, monkeypatch: Any) -> None:
    monkeypatch.setattr(expiry, "BATCH", 7)
    client, miner = market.client(), market.miner(concurrency=30)
    market.miner("other")
    ids = [market.submit(client, ttl_s=90).id for _ in range(40)]
    market.take(miner, 30)

    async def main() -> None:
        await loop.passes(LEASE_S + 0.5)
        assert [loop.status(job) for job in ids] == ["pending"] * 40
        await loop.passes(90)
        assert [loop.status(job) for job in ids] == ["failed"] * 40
        assert market.balance("alice").held_units == 0
        market.check()

    run(loop, main)


def test_miners_that_leave_use_up_a_job_s_attempts(market: Market) -> None:
    """Or a job that makes its miners leave would go round for as long as it may live."""
    client = market.client()
    job = market.submit(client)
    for number in range(market.ctx.max_attempts):
        miner = market.miner(f"m{number}")
        assert [taken.id for taken in market.take(miner)] == [job.id]
        assert market.leave(miner) == 1
        found = market.job(job.id)
        last = number + 1 == market.ctx.max_attempts
        assert (found.status, found.cause) == ("failed" if last else "pending", "MINER_LEFT")
    assert market.balance(client.account_id).held_units == 0
    market.check()
