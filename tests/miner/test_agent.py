"""The miner against a fake coordinator: jobs, engines, keys."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aitbc.core.causes import Cause
from aitbc.miner.agent import EXIT_FAILED, EXIT_OK
from aitbc.miner.engines.base import EngineError, EngineResult, ModelInfo
from aitbc.miner.gpu import Gpu
from aitbc.miner.lock import AlreadyRunning
from tests.miner.fake_engines import FakeEngine, failing, gated
from tests.miner.fakes import NETWORK_ID, FakeCoordinator
from tests.miner.harness import mining, outbox_of, run, until

OTHER_NETWORK = "7d" * 32


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


@pytest.mark.parametrize("left_s", [0, 0.0, -3, -1e308, 0.05, True, "1", None, 1e308])
def test_what_is_left_of_a_run_bounds_it(tmp_path: Path, left_s: Any) -> None:
    """Nothing left is no time at all; only what is no number of seconds is no bound."""
    is_bound = type(left_s) in (int, float) and left_s <= 0.05

    async def scenario() -> None:
        engine, gate = gated()
        async with FakeCoordinator() as coordinator, mining(coordinator, tmp_path, engine):
            coordinator.told = {"run_left_s": left_s}
            job = coordinator.submit()
            if not is_bound:
                await until(lambda: engine.running)
                await asyncio.sleep(0.1)
                gate.set()
            await until(lambda: job.failures or job.completion)
            assert [failure["cause"] for failure in job.failures] == (["TIMEOUT"] if is_bound else [])
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


def test_an_engine_that_is_not_there_ends_the_miner_with_a_reason(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        engine.offers = []
        async with FakeCoordinator() as coordinator, mining(coordinator, tmp_path, engine) as miner:
            assert await asyncio.wait_for(miner.task, 5) == EXIT_FAILED
            assert "none of the models" in miner.events.named("engine_unusable")[0]["reason"]

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


def test_a_model_is_not_used_for_what_it_cannot_do(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        engine.offers = [
            ModelInfo("tiny:latest", "fake"),
            ModelInfo("vectors", "fake", job_types=frozenset({"embedding"})),
        ]
        async with FakeCoordinator() as coordinator, mining(coordinator, tmp_path, engine):
            assert coordinator.registration["job_types"] == ["embedding", "llm_inference"]
            wrong = coordinator.submit_embedding(["a"], model="tiny")
            await until(lambda: wrong.failures)
            assert (wrong.failures[0]["cause"], wrong.failures[0]["retryable"]) == ("MODEL_NOT_FOUND", True)
            assert engine.ran == []
            right = coordinator.submit("a", model="tiny")
            await until(lambda: right.status == "completed")

    run(scenario())


def test_it_signs_for_the_network_that_it_met_and_for_no_other(tmp_path: Path) -> None:
    async def refused(coordinator: FakeCoordinator, said: str) -> None:
        async with mining(coordinator, tmp_path, FakeEngine()) as miner:
            assert await asyncio.wait_for(miner.task, 5) == EXIT_FAILED
            (told,) = miner.events.named("refused")
            assert (told["code"], said in told["message"]) == ("NETWORK_DOUBTED", True), told
            assert not miner.events.named("registered")

    async def answers(coordinator: FakeCoordinator, **changes: Any) -> None:
        async with mining(coordinator, tmp_path, FakeEngine(), **changes) as miner:
            job = coordinator.submit("abc")
            await until(lambda: job.completion is not None)  # the fake holds the signature to its network
            await until(lambda: miner.events.named("job_done"))
            assert await miner.stop() == EXIT_OK

    async def scenario() -> None:
        async with FakeCoordinator() as coordinator:
            await answers(coordinator)
            coordinator.network_id = ""
            await refused(coordinator, "does not say which network it is")
            coordinator.network_id = OTHER_NETWORK
            await refused(coordinator, f"calls itself {OTHER_NETWORK} now")
            waiting = coordinator.submit("nobody's")
            assert waiting.status == "pending"
            waiting.status = "failed"
            await answers(coordinator, network_id=OTHER_NETWORK)
            await answers(coordinator)
            async with FakeCoordinator() as second:  # another address of the same network
                second.network_id = OTHER_NETWORK
                await answers(second)
            coordinator.network_id = NETWORK_ID
            await refused(coordinator, f"--network-id {NETWORK_ID}")
        known = tmp_path / "miner" / "networks.json"
        assert stat.S_IMODE(known.stat().st_mode) == 0o600

    run(scenario())


def test_a_coordinator_that_becomes_another_network_under_way_gets_nothing_signed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as coordinator, mining(coordinator, tmp_path, FakeEngine()) as miner:
            coordinator.network_id, coordinator.is_registered = OTHER_NETWORK, False
            assert await asyncio.wait_for(miner.task, 10) == EXIT_FAILED
            assert [told["code"] for told in miner.events.named("refused")] == ["NETWORK_DOUBTED"]

    run(scenario())
