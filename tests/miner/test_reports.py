"""What the coordinator refuses of a miner's reports, and the engine that is not ready: nothing runs in a circle."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from aitbc.core.causes import Cause
from aitbc.miner.agent import EXIT_FORCED
from aitbc.miner.delivery import MAX_SERVER_ERRORS
from aitbc.miner.engines.base import EngineNotReady, EngineResult
from aitbc.miner.engines.openai_compatible import OpenAIEngine
from aitbc.miner.work import Failure
from tests.miner.fake_engines import FakeEngine, FakeOpenAI, failing, gated
from tests.miner.fakes import FakeCoordinator, error
from tests.miner.harness import mining, outbox_of, run, until


@pytest.mark.parametrize("status", [400, 413, 422, 500])
def test_a_failure_report_that_is_refused_is_sent_with_less_and_then_not(tmp_path: Path, status: int) -> None:
    async def scenario() -> None:
        engine = failing(Cause.OUT_OF_MEMORY, "words")
        async with FakeCoordinator() as coordinator, mining(coordinator, tmp_path, engine) as miner:
            coordinator.refuse_fail = [error(status, "INVALID_REQUEST") for _ in range(50)]
            job = coordinator.submit()
            await until(lambda: miner.events.named("let_go"))
            await asyncio.sleep(0.3)  # the coordinator gives it again and again
            tries = 1 if status < 500 else MAX_SERVER_ERRORS
            sent = [(body["cause"], body["message"]) for body in coordinator.fail_bodies]
            assert sent == [("OUT_OF_MEMORY", "words")] * tries + [("ENGINE_ERROR", "")] * tries
            assert len(engine.ran) == 1
            assert coordinator.polls < 20
            assert outbox_of(tmp_path) == []
            # Nothing keeps its lease alive, so that it ends; under a new one the job is tried once more.
            assert job.job_id not in coordinator.heartbeats[-1]["jobs"]
            coordinator.refuse_fail = []
            job.status = "pending"
            await until(lambda: job.failures)
            assert len(engine.ran) == 2

    run(scenario())


@pytest.mark.parametrize("refusals", [["RESULT_TOO_LARGE"], ["RESULT_TOO_LARGE", "INVALID_REQUEST"]])
def test_a_result_that_is_refused_is_a_failure_and_not_sent_again(
    tmp_path: Path, refusals: list[str]
) -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        async with FakeCoordinator() as coordinator, mining(coordinator, tmp_path, engine):
            coordinator.refuse_complete = [error(413, refusals[0])]
            coordinator.refuse_fail = [error(400, code) for code in refusals[1:]]
            job = coordinator.submit()
            await until(lambda: job.failures)
            said = "" if len(refusals) > 1 else "the coordinator refused the result: RESULT_TOO_LARGE"
            assert job.failures == [
                {"miner_id": "m1", "job_id": job.job_id, "cause": "ENGINE_ERROR"}
                | {"message": said, "lease_id": "lease-1"}
            ]
            assert len(engine.ran) == 1

    run(scenario())


def test_an_error_of_the_coordinator_is_met_a_few_times_and_an_outage_for_ever(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as coordinator, mining(coordinator, tmp_path, FakeEngine()):
            coordinator.refuse_complete = [error(503, "STORAGE_UNAVAILABLE") for _ in range(9)]
            job = coordinator.submit()
            await until(lambda: job.status == "completed")
            coordinator.refuse_complete = [error(500, "INTERNAL_ERROR") for _ in range(MAX_SERVER_ERRORS)]
            second = coordinator.submit()
            await until(lambda: second.failures)
            assert coordinator.refuse_complete == []

    run(scenario())


def test_one_answer_that_breaks_the_coordinator_does_not_keep_the_others_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine, gate = gated()
        coordinator = FakeCoordinator()
        async with coordinator, mining(coordinator, tmp_path, engine, concurrency=3):
            jobs = [coordinator.submit(str(n)) for n in range(3)]
            await until(lambda: engine.running == 3)
            await coordinator.stop()
            gate.set()
            await until(lambda: len(outbox_of(tmp_path)) == 3)
            coordinator.break_batches = 1000
            await coordinator.start()
            await until(lambda: all(job.status == "completed" for job in jobs))

    run(scenario())


def test_words_of_an_engine_are_clean_before_they_are_sent() -> None:
    body = Failure(Cause.ENGINE_ERROR, "a\x00b\ud800c\x1b[2Jd\u2028" + "x" * 9000).body("m", "j")
    message = body["message"]
    message.encode()
    assert message.isprintable() and len(message) == 500 and message.startswith("a b?c [2Jd x")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("cannot open /home/bob/models/x.gguf: denied", "cannot open x.gguf: denied"),
        ("failed ('/Users/Bob Smith/models/tiny.gguf')", "failed ('tiny.gguf')"),
        (r'no "C:\Users\bob\x.gguf" there', 'no "x.gguf" there'),
        ("~/.cache/hub/models--a--b/blob missing", "blob missing"),
        ("file:///data/m/x.bin!", "x.bin!"),
        ("(/srv/models/)", "()"),
        ("path=/srv/models/x.gguf", "path=x.gguf"),
        ("model org/name:tag not found", "model org/name:tag not found"),
        ("see https://example.org/a/b and 3/4 of 7/8", "see https://example.org/a/b and 3/4 of 7/8"),
        ("24 tokens/s", "24 tokens/s"),
    ],
)
def test_places_on_the_owner_s_disk_are_not_told(said: str, told: str) -> None:
    assert Failure(Cause.ENGINE_ERROR, said).body("m", "j")["message"] == told


def test_a_loading_engine_costs_no_attempt_and_takes_nothing_new(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as coordinator, FakeOpenAI() as server:
            loading = JSONResponse({"error": {"code": 503, "message": "Loading model"}}, 503)

            async def not_yet(body: dict[str, Any]) -> Response:
                return loading

            server.on_chat = not_yet
            async with mining(coordinator, tmp_path, OpenAIEngine(server.url), concurrency=2) as miner:
                first = coordinator.submit(model="qwen")
                await until(lambda: miner.events.named("engine_loading"))
                await until(lambda: coordinator.status == "draining")
                second = coordinator.submit(model="qwen")
                await asyncio.sleep(0.6)
                assert (first.status, second.status) == ("running", "pending")
                assert first.job_id in coordinator.heartbeats[-1]["jobs"]
                assert "Loading model" in miner.events.named("engine_loading")[0]["reason"]
                server.on_chat = server.answer
                await until(lambda: first.status == second.status == "completed")
                assert (first.failures, first.lease, second.lease) == ([], 1, 1)
                assert (
                    len(miner.events.named("engine_loading")) == len(miner.events.named("engine_back")) == 1
                )

    run(scenario())


def test_an_engine_that_loads_for_longer_than_the_job_may_take_is_unavailable(tmp_path: Path) -> None:
    async def never(request: Mapping[str, Any]) -> EngineResult:
        raise EngineNotReady("Loading model", is_loading=True)

    async def scenario() -> None:
        engine = FakeEngine(never)
        async with FakeCoordinator() as coordinator, mining(coordinator, tmp_path, engine, job_timeout_s=0.3):
            job = coordinator.submit()
            await until(lambda: job.failures)
            assert job.failures[0]["cause"] == "ENGINE_UNAVAILABLE"
            assert "Loading model" in job.failures[0]["message"]

    run(scenario())


def test_an_answer_that_has_begun_is_not_begun_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as coordinator, FakeOpenAI() as server:

            async def half(body: dict[str, Any]) -> Response:
                begun = 'data: {"choices":[{"delta":{"content":"half"}}]}\n\n'
                return Response(f'{begun}data: {{"error":{{"code":503,"message":"x"}}}}\n\n')

            server.on_chat = half
            async with mining(coordinator, tmp_path, OpenAIEngine(server.url)):
                job = coordinator.submit(model="qwen")
                await until(lambda: job.failures)
                assert len(server.bodies) == 1

    run(scenario())


def test_a_miner_starts_as_soon_as_its_engine_has_loaded(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as coordinator, FakeOpenAI() as server:
            server.health = 503

            async def load() -> None:
                await asyncio.sleep(0.2)
                assert coordinator.registrations == []
                server.health = 200

            loading = asyncio.create_task(load())
            async with mining(coordinator, tmp_path, OpenAIEngine(server.url)) as miner:
                await loading
                assert miner.events.named("engine_loading") == [{"reason": "Loading model"}]
                assert miner.events.named("registered")

    run(scenario())


def test_a_price_above_the_networks_cap_is_said(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as coordinator:
            async with mining(coordinator, tmp_path, FakeEngine(), price_units=5_000_001) as miner:
                said = {"models": ["tiny"], "price_units": 5_000_001, "cap_units": 5_000_000}
                assert miner.events.named("price_above_cap") == [said]
                await miner.stop()
            async with mining(coordinator, tmp_path, FakeEngine(), price_units=5_000_000) as miner:
                assert miner.events.named("price_above_cap") == []

    run(scenario())


def test_told_twice_it_says_what_that_interrupts(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine, _ = gated()
        async with (
            FakeCoordinator() as coordinator,
            mining(coordinator, tmp_path, engine, drain_grace_s=60) as miner,
        ):
            job = coordinator.submit()
            await until(lambda: engine.running == 1)
            miner.agent.stop()
            await until(lambda: miner.events.named("draining"))
            assert miner.events.named("draining") == [{"running": 1, "jobs": [job.job_id]}]
            miner.agent.stop()
            assert await asyncio.wait_for(miner.task, 1) == EXIT_FORCED
            assert miner.events.named("interrupted") == [
                {"jobs": [job.job_id], "undelivered": 0, "lease_s": 60}
            ]

    run(scenario())


def test_the_picture_says_that_the_coordinator_is_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as coordinator, mining(coordinator, tmp_path, FakeEngine()) as miner:
            await coordinator.stop()
            await until(lambda: miner.events.view.coordinator_trouble)
            assert "trying again" in miner.events.view.coordinator_trouble
            await coordinator.start()
            await until(lambda: not miner.events.view.coordinator_trouble)

    run(scenario())


def test_a_reason_for_no_work_is_said_once_and_its_time_is_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as coordinator:
            coordinator.no_work = {"reason": "PAUSED", "message": "It pauses.", "retry_after_s": 1.5}
            async with mining(coordinator, tmp_path, FakeEngine()) as miner:
                await until(lambda: miner.events.named("no_work"))
                await asyncio.sleep(1)
                assert coordinator.polls == 1
                assert miner.events.named("no_work") == [{"code": "PAUSED", "message": "It pauses."}]
                assert miner.events.view.no_work == "It pauses."
                coordinator.no_work = {}
                job = coordinator.submit()
                await until(lambda: job.status == "completed")
                assert len(miner.events.named("work_again")) == 1

    run(scenario())


def test_more_jobs_than_a_poll_can_name_are_no_reason_to_poll_in_a_circle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        monkeypatch.setattr("aitbc.miner.client.MAX_KNOWN_CHARS", 12)
        engine, gate = gated()
        async with FakeCoordinator() as coordinator, mining(coordinator, tmp_path, engine, concurrency=5):
            jobs = [coordinator.submit(str(n)) for n in range(4)]
            await until(lambda: engine.running == 4)
            before = coordinator.polls
            await asyncio.sleep(1)
            assert coordinator.polls - before < 4
            gate.set()
            await until(lambda: all(job.status == "completed" for job in jobs))
            assert sorted(engine.ran) == ["0", "1", "2", "3"]

    run(scenario())
