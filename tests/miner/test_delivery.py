"""The miner against a fake coordinator that goes away, refuses, takes back; and draining."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aitbc.miner.agent import EXIT_FAILED, EXIT_FORCED, EXIT_OK
from aitbc.miner.engines.base import EngineResult, ModelInfo
from tests.miner.fake_engines import FakeEngine, gated
from tests.miner.fakes import FakeCoordinator, error
from tests.miner.harness import mining, outbox_of, run, until


def test_results_finished_during_an_outage_are_delivered_after_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine, gate = gated()
        async with (
            FakeCoordinator() as coordinator,
            mining(coordinator, tmp_path, engine, concurrency=2) as miner,
        ):
            jobs = [coordinator.submit("a"), coordinator.submit("b")]
            await until(lambda: engine.running == 2)
            await coordinator.stop()
            gate.set()
            await until(lambda: len(outbox_of(tmp_path)) == 2)
            await until(lambda: miner.events.named("coordinator_down"))
            assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in outbox_of(tmp_path))
            await coordinator.start()
            await until(lambda: all(job.status == "completed" for job in jobs))
            await until(lambda: outbox_of(tmp_path) == [])
            third = coordinator.submit("c")
            await until(lambda: third.status == "completed")
            assert len(miner.events.named("coordinator_down")) == 1

    run(scenario())


def test_a_restarted_miner_delivers_what_its_last_run_could_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine, gate = gated()
        async with FakeCoordinator() as coordinator:
            async with mining(coordinator, tmp_path, engine) as miner:
                job = coordinator.submit("a")
                await until(lambda: engine.running == 1)
                await coordinator.stop()
                gate.set()
                await until(lambda: outbox_of(tmp_path))
                assert await miner.stop() == EXIT_OK
                assert miner.events.named("undelivered") == [{"count": 1}]
            await coordinator.start()
            second = FakeEngine()
            async with mining(coordinator, tmp_path, second) as miner:
                await until(lambda: job.status == "completed")
                await until(lambda: outbox_of(tmp_path) == [])
                assert second.ran == []
                assert miner.events.named("outbox_found") == [{"count": 1}]

    run(scenario())


def test_answers_for_another_coordinator_stay_where_they_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine, gate = gated()
        async with FakeCoordinator() as first, FakeCoordinator() as second:
            async with mining(first, tmp_path, engine) as miner:
                first.submit("a")
                await until(lambda: engine.running == 1)
                await first.stop()
                gate.set()
                await until(lambda: outbox_of(tmp_path))
                await miner.stop()
            (tmp_path / "miner" / "m1" / "outbox" / "torn.json").write_text('{"kind": "comp')
            async with mining(second, tmp_path, FakeEngine()) as miner:
                assert miner.events.named("outbox_elsewhere") == [{"count": 1, "coordinator": first.url}]
                assert len(miner.events.named("outbox_unreadable")) == 1
                await miner.stop()
            assert len(outbox_of(tmp_path)) == 2

    run(scenario())


def test_a_transient_refusal_is_tried_again_and_a_final_one_is_shown(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as coordinator, mining(coordinator, tmp_path, FakeEngine()) as miner:
            coordinator.refuse_complete = [error(503, "STORAGE_UNAVAILABLE"), error(429, "RATE_LIMITED")]
            job = coordinator.submit()
            await until(lambda: job.status == "completed")
            coordinator.refuse_complete = [error(409, "LEASE_LOST", "too late")]
            coordinator.submit()
            await until(lambda: miner.events.named("result_refused"))
            shown = miner.events.named("result_refused")[0]
            assert (shown["code"], shown["message"]) == ("LEASE_LOST", "too late")
            await until(lambda: outbox_of(tmp_path) == [])

    run(scenario())


def test_a_result_that_will_never_be_taken_fails_the_job(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as coordinator, mining(coordinator, tmp_path, FakeEngine()):
            coordinator.refuse_complete = [error(413, "BODY_TOO_LARGE")]
            job = coordinator.submit()
            await until(lambda: job.failures)
            assert job.failures[0]["cause"] == "ENGINE_ERROR"
            assert "BODY_TOO_LARGE" in job.failures[0]["message"]

    run(scenario())


def test_a_job_taken_back_is_stopped_and_nothing_is_sent_for_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine, _ = gated()
        async with FakeCoordinator() as coordinator, mining(coordinator, tmp_path, engine) as miner:
            job = coordinator.submit()
            await until(lambda: engine.running == 1)
            coordinator.take_back(job)
            await until(lambda: engine.running == 0)
            assert miner.events.named("job_lost")
            assert (job.failures, job.completion) == ([], None)
            engine.behave = FakeEngine.echo
            second = coordinator.submit()
            await until(lambda: second.status == "completed")

    run(scenario())


def test_a_job_given_again_under_a_new_lease_is_not_run_twice(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine, gate = gated()
        async with (
            FakeCoordinator(heartbeat_s=30) as coordinator,
            mining(coordinator, tmp_path, engine, concurrency=2),
        ):
            job = coordinator.submit()
            await until(lambda: engine.running == 1)
            job.status = "pending"  # its lease ran out and the queue has it again
            await until(lambda: job.lease == 2)
            await asyncio.sleep(0.05)
            gate.set()
            await until(lambda: job.status == "completed")
            assert len(engine.ran) == 1

    run(scenario())


def test_a_coordinator_that_forgot_the_miner_is_told_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as coordinator, mining(coordinator, tmp_path, FakeEngine()):
            coordinator.is_registered = False
            await until(lambda: len(coordinator.registrations) >= 2)
            job = coordinator.submit()
            await until(lambda: job.status == "completed")

    run(scenario())


def test_a_miner_started_before_its_coordinator_waits_for_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        coordinator = FakeCoordinator()

        async def later() -> None:
            await asyncio.sleep(0.15)
            await coordinator.start()

        starting = asyncio.create_task(later())
        async with mining(coordinator, tmp_path, FakeEngine()) as miner:
            assert miner.events.named("coordinator_down")
            job = coordinator.submit()
            await until(lambda: job.status == "completed")
        await starting
        await coordinator.stop()

    run(scenario())


def test_a_refused_key_ends_the_miner_with_a_reason(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        async with (
            FakeCoordinator() as coordinator,
            mining(coordinator, tmp_path, engine, key="wrong") as miner,
        ):
            assert await asyncio.wait_for(miner.task, 5) == EXIT_FAILED
            assert miner.events.named("refused")[0]["code"] == "UNAUTHORIZED"
            assert engine.is_closed

    run(scenario())


def test_a_key_revoked_under_way_keeps_the_answers_for_the_next_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine, gate = gated()
        async with (
            FakeCoordinator() as coordinator,
            mining(coordinator, tmp_path, engine, concurrency=2) as miner,
        ):
            coordinator.submit()
            await until(lambda: engine.running == 1)
            coordinator.refuse_complete = [error(401, "UNAUTHORIZED") for _ in range(9)]
            gate.set()
            assert await asyncio.wait_for(miner.task, 5) == EXIT_FAILED
            assert len(outbox_of(tmp_path)) == 1

    run(scenario())


def test_draining_finishes_what_runs_and_takes_nothing_new(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine, gate = gated()
        async with (
            FakeCoordinator() as coordinator,
            mining(coordinator, tmp_path, engine, concurrency=2) as miner,
        ):
            running = coordinator.submit("a")
            await until(lambda: engine.running == 1)
            miner.agent.stop()
            await until(lambda: coordinator.status == "draining")
            late = coordinator.submit("b")
            await asyncio.sleep(0.1)
            gate.set()
            assert await asyncio.wait_for(miner.task, 5) == EXIT_OK
            assert (running.status, late.status) == ("completed", "pending")
            assert coordinator.deregistered == 1
            assert engine.is_closed
            assert miner.events.is_closed

    run(scenario())


def test_draining_gives_up_on_jobs_that_outlast_the_grace(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine, _ = gated()
        async with (
            FakeCoordinator() as coordinator,
            mining(coordinator, tmp_path, engine, drain_grace_s=0.1) as miner,
        ):
            job = coordinator.submit()
            await until(lambda: engine.running == 1)
            assert await miner.stop() == EXIT_OK
            assert job.failures[0]["cause"] == "SHUTTING_DOWN"

    run(scenario())


def test_told_twice_it_leaves_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine, _ = gated()
        async with (
            FakeCoordinator() as coordinator,
            mining(coordinator, tmp_path, engine, drain_grace_s=60) as miner,
        ):
            coordinator.submit()
            await until(lambda: engine.running == 1)
            miner.agent.stop()
            await asyncio.sleep(0.05)
            miner.agent.stop()
            assert await asyncio.wait_for(miner.task, 1) == EXIT_FORCED

    run(scenario())


def test_with_no_model_left_it_drains_and_does_not_offer_everything(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        async with FakeCoordinator() as coordinator, mining(coordinator, tmp_path, engine):
            engine.offers = []
            await until(lambda: coordinator.status == "draining")
            assert len(coordinator.registrations) == 1
            engine.offers = [ModelInfo("tiny", "fake")]
            await until(lambda: len(coordinator.registrations) == 2)
            job = coordinator.submit()
            await until(lambda: job.status == "completed")

    run(scenario())


def test_answers_that_wait_go_together_and_are_judged_one_by_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine, gate = gated()
        coordinator = FakeCoordinator()
        async with coordinator, mining(coordinator, tmp_path, engine, concurrency=5) as miner:
            jobs = [coordinator.submit(str(n)) for n in range(5)]
            await until(lambda: engine.running == 5)
            await coordinator.stop()
            gate.set()
            await until(lambda: len(outbox_of(tmp_path)) == 5)
            coordinator.take_back(jobs[0])
            coordinator.refuse_complete = [error(503, "STORAGE_UNAVAILABLE")]
            await coordinator.start()
            await until(lambda: outbox_of(tmp_path) == [])
            assert coordinator.batches == 1
            assert sorted(job.status for job in jobs) == ["cancelled"] + ["completed"] * 4
            assert len(miner.events.named("result_refused")) == 1

    run(scenario())


def test_a_large_result_takes_the_route_with_room_for_it(tmp_path: Path) -> None:
    async def vectors(request: Mapping[str, Any]) -> EngineResult:
        rows = [[0.123456789] * 1000 for _ in request["input"]["input"]]
        return EngineResult({"embeddings": rows}, 9, 0)

    async def scenario() -> None:
        engine = FakeEngine(vectors)
        engine.offers = [ModelInfo("tiny", "fake", job_types=frozenset({"embedding"}))]
        async with FakeCoordinator() as coordinator, mining(coordinator, tmp_path, engine) as miner:
            job = coordinator.submit_embedding(["a"] * 60)
            await until(lambda: miner.events.named("job_done"))
            assert coordinator.batches == 1
            assert miner.events.named("job_done")[0]["earned_units"] == 49_000_000
            assert job.status == "completed"
            coordinator.refuse_complete = [error(409, "LEASE_LOST")]
            coordinator.submit_embedding(["a"] * 60)
            await until(lambda: miner.events.named("result_refused"))
            assert miner.events.named("result_refused")[0]["code"] == "LEASE_LOST"

    run(scenario())


def test_an_answer_that_cannot_be_written_to_disk_is_still_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: dict[str, Any]) -> None:
        raise OSError(28, "No space left on device")

    async def scenario() -> None:
        engine = FakeEngine()
        async with FakeCoordinator() as coordinator, mining(coordinator, tmp_path, engine) as miner:
            monkeypatch.setattr("aitbc.miner.outbox._write_durably", full)
            job = coordinator.submit()
            await until(lambda: job.status == "completed")
            assert "No space left" in miner.events.named("outbox_full_disk")[0]["reason"]

    run(scenario())
