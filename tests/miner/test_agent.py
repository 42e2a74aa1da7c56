"""The miner against a fake coordinator: jobs, leases, outages, draining."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aitbc.miner.agent import EXIT_FAILED, EXIT_FORCED, EXIT_OK
from aitbc.miner.engines.base import Cause, EngineError, EngineResult, ModelInfo
from aitbc.miner.gpu import Gpu
from aitbc.miner.lock import AlreadyRunning
from tests.miner.fakes import FakeCoordinator, FakeEngine, error
from tests.miner.harness import mining, run, until


def failing(cause: Cause, message: str = "no") -> FakeEngine:
    async def behave(request: Mapping[str, Any]) -> EngineResult:
        raise EngineError(cause, message)

    return FakeEngine(behave)


def gated() -> tuple[FakeEngine, asyncio.Event]:
    """An engine whose jobs finish when the event is set."""
    gate = asyncio.Event()

    async def behave(request: Mapping[str, Any]) -> EngineResult:
        await gate.wait()
        return await FakeEngine.echo(request)

    return FakeEngine(behave), gate


def outbox_of(home: Path) -> list[Path]:
    return list((home / "miner" / "m1" / "outbox").glob("*.json"))


def test_a_job_is_run_signed_and_delivered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as coordinator:
            async with mining(coordinator, tmp_path, FakeEngine()) as miner:
                job = coordinator.submit("abc")
                await until(lambda: miner.events.named("job_done"))
                assert job.completion is not None
                assert job.completion["result"] == {"text": "ABC", "finish_reason": "stop"}
                assert job.completion["usage"] == {"prompt_tokens": 3, "completion_tokens": 4}
                assert job.completion["signature"]["key_id"] == miner.agent.key.key_id
                assert miner.events.view.earned_units == 49_000_000
                assert outbox_of(tmp_path) == []
                assert await miner.stop() == EXIT_OK
            assert coordinator.deregistered == 1

    run(scenario())


def test_it_advertises_what_the_engine_has_and_says_so_again_when_that_changes(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        engine.offers = [ModelInfo("tiny", "fake", 512, "Q8_0"), ModelInfo("no name at all", "fake")]
        async with (
            FakeCoordinator() as coordinator,
            mining(
                coordinator,
                tmp_path,
                engine,
                gpus=[Gpu("NVIDIA X", 23.9)],
                region="eu",
                concurrency=3,
                price_units=200_000,
                prices_units={"big": 500_000_000},
            ),
        ):
            said = coordinator.registration
            assert said["models"] == [
                {"name": "tiny", "engine": "fake", "context_length": 512, "quantisation": "Q8_0"}
                | {"price_per_1k": 0.002}
            ]
            assert said["gpus"] == [{"name": "NVIDIA X", "memory_gb": 23.9}]
            assert (said["region"], said["concurrency"]) == ("eu", 3)
            assert said["job_types"] == ["llm_inference"]
            engine.offers = [ModelInfo("big", "fake", job_types=frozenset({"embedding"}))]
            await until(lambda: len(coordinator.registrations) == 2)
            assert coordinator.registration["models"] == [
                {"name": "big", "engine": "fake", "price_per_1k": 5}
            ]
            assert coordinator.registration["job_types"] == ["embedding"]

    run(scenario())


def test_the_key_is_created_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as coordinator:
            keys = []
            for _ in range(2):
                async with mining(coordinator, tmp_path, FakeEngine()) as miner:
                    keys.append(miner.agent.key.public_bytes)
                    assert await miner.stop() == EXIT_OK
            assert keys[0] == keys[1]
        path = tmp_path / "miner" / "key.json"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    run(scenario())


def test_without_an_id_the_key_names_the_miner(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            FakeCoordinator() as coordinator,
            mining(coordinator, tmp_path, FakeEngine(), miner_id=None) as miner,
        ):
            assert coordinator.registrations[0]["miner_id"] == f"miner-{miner.agent.key.key_id}"

    run(scenario())


def test_it_runs_as_many_jobs_at_once_as_it_may(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine, gate = gated()
        async with FakeCoordinator() as coordinator:
            jobs = [coordinator.submit(str(n)) for n in range(9)]
            async with mining(coordinator, tmp_path, engine, concurrency=3):
                await until(lambda: engine.running == 3)
                await asyncio.sleep(0.1)
                assert engine.running == 3
                assert sum(job.status == "pending" for job in jobs) == 6
                gate.set()
                await until(lambda: all(job.status == "completed" for job in jobs))
                assert engine.most_running == 3

    run(scenario())


@pytest.mark.parametrize(
    "cause",
    [Cause.ENGINE_ERROR, Cause.MODEL_NOT_FOUND, Cause.OUT_OF_MEMORY, Cause.CONTEXT_LENGTH_EXCEEDED],
)
def test_an_engine_error_is_a_failure_with_its_cause(tmp_path: Path, cause: Cause) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as coordinator, mining(coordinator, tmp_path, failing(cause, "because")):
            job = coordinator.submit()
            await until(lambda: job.failures)
            assert job.completion is None
            assert job.failures[0]["cause"] == cause
            assert job.failures[0]["message"] == "because"

    run(scenario())


def test_a_job_that_takes_too_long_fails_as_timeout(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine, _ = gated()
        async with FakeCoordinator() as coordinator, mining(coordinator, tmp_path, engine, job_timeout_s=0.1):
            job = coordinator.submit()
            await until(lambda: job.failures)
            assert job.failures[0]["cause"] == "TIMEOUT"
            assert engine.running == 0

    run(scenario())


def test_a_surprise_in_an_adapter_fails_the_job_and_not_the_miner(tmp_path: Path) -> None:
    async def broken(request: Mapping[str, Any]) -> EngineResult:
        raise KeyError("surprise")

    async def scenario() -> None:
        engine = FakeEngine(broken)
        async with FakeCoordinator() as coordinator, mining(coordinator, tmp_path, engine):
            job = coordinator.submit()
            await until(lambda: job.failures)
            assert job.failures[0]["cause"] == "ENGINE_ERROR"
            engine.behave = FakeEngine.echo
            second = coordinator.submit()
            await until(lambda: second.status == "completed")

    run(scenario())


def test_while_the_engine_is_down_it_takes_no_jobs(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = failing(Cause.ENGINE_UNAVAILABLE, "connection refused")
        is_down = True

        async def models() -> list[ModelInfo]:
            if is_down:
                raise EngineError(Cause.ENGINE_UNAVAILABLE, "connection refused")
            return [ModelInfo("tiny", "fake", 512, "Q8_0")]

        async with FakeCoordinator() as coordinator, mining(coordinator, tmp_path, engine) as miner:
            engine.models = models  # type: ignore[method-assign]
            job = coordinator.submit()
            await until(lambda: job.failures)
            assert job.failures[0]["cause"] == "ENGINE_UNAVAILABLE"
            await until(lambda: coordinator.status == "draining")
            waiting = coordinator.submit()
            await asyncio.sleep(0.2)
            assert waiting.status == "pending"
            is_down = False
            engine.behave = FakeEngine.echo
            await until(lambda: waiting.status == "completed")
            names = [name for name, _ in miner.events.all]
            assert names.count("engine_down") == names.count("engine_back") == 1

    run(scenario())


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


def test_an_engine_that_is_not_there_ends_the_miner_with_a_reason(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        engine.offers = []
        async with FakeCoordinator() as coordinator, mining(coordinator, tmp_path, engine) as miner:
            assert await asyncio.wait_for(miner.task, 5) == EXIT_FAILED
            assert "none of the models" in miner.events.named("engine_down")[0]["reason"]

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


def test_two_miners_of_one_id_cannot_share_a_home(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as coordinator, mining(coordinator, tmp_path, FakeEngine()):
            with pytest.raises(AlreadyRunning, match="--id"):
                async with mining(coordinator, tmp_path, FakeEngine()):
                    pass
            async with mining(coordinator, tmp_path, FakeEngine(), miner_id="m2"):
                pass

    run(scenario())
