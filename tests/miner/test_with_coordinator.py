"""The miner against the real coordinator: in this process, and as the program `aitbc miner run`."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import JSONResponse

from aitbc.core.log.keyset import KeySet
from aitbc.core.receipt import verify_bytes
from aitbc.miner.agent import MinerAgent
from aitbc.miner.settings import MinerSettings
from tests.miner.fake_engines import FakeEngine, FakeOpenAI
from tests.miner.fakes import free_port
from tests.miner.harness import Events, RunningMiner, run, until
from tests.support.aitbc import Aitbc, run_aitbc
from tests.support.server import ServerProcess

CLIENT_KEY = "client-key-of-these-tests"
OTHER_MINER_KEY = "key-of-another-miner"
MINER_KEY = "miner-key-of-these-tests"
STATUS_KEY = "key-of-the-miner-that-is-asked-how-it-stands"
SETTINGS = {
    "HEARTBEAT_S": "0.2",
    "LEASE_S": "20",
    "API_KEYS": f"client:{CLIENT_KEY},miner:{MINER_KEY},miner:{OTHER_MINER_KEY},miner:{STATUS_KEY}",
    "SECRET_KEY": "a secret of these tests",
}


@pytest.fixture(scope="module")
def coordinator_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One coordinator on SQLite for this module: starting one costs more than any of the tests."""
    home = tmp_path_factory.mktemp("coordinator")
    server = ServerProcess(f"sqlite:///{home}/coordinator.db", home, SETTINGS)
    yield server.start()
    server.stop()


class Coordinator:
    """A client's view of a coordinator process, with a key of each role."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.http = httpx.AsyncClient(base_url=server.url, timeout=10, verify=False)

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        reply = await self.http.request(method, path, json=body, headers={"X-Api-Key": CLIENT_KEY})
        assert reply.is_success, reply.text
        return reply.json()

    async def submit(self, prompt: str, model: str, **more: Any) -> str:
        body = {"prompt": prompt, "model": model, **more}
        return str((await self.call("POST", "/v1/jobs", body))["job_id"])

    async def job(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = await self.call("GET", f"/v1/jobs/{job_id}")
        return job

    async def ended(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = await self.call("GET", f"/v1/jobs/{job_id}/result?wait=10")
        return job

    async def miner(self, miner_id: str) -> dict[str, Any]:
        miners: list[dict[str, Any]] = (await self.http.get("/v1/miners")).json()
        return next(miner for miner in miners if miner["miner_id"] == miner_id)


class MinerProcess:
    """`aitbc miner run --json` and the events that it has printed."""

    def __init__(self, coordinator: Coordinator, home: Path, miner_id: str, *arguments: str) -> None:
        self._words = [
            *("miner", "run", "--json", "--coordinator", coordinator.server.url),
            *("--key", MINER_KEY, "--home", str(home), "--id", miner_id, *arguments),
        ]
        self._environment = coordinator.server.environment | {"OLLAMA_HOST": "127.0.0.1:9"}
        self.events: list[dict[str, Any]] = []
        self.process: Aitbc | None = None
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> MinerProcess:
        self.process = Aitbc(self._words, env=self._environment, stdout=subprocess.PIPE)
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.process is not None
        self.process.kill()
        await asyncio.to_thread(self.process.wait)
        assert self._reading is not None
        await self._reading

    async def _read(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        while line := await asyncio.to_thread(self.process.stdout.readline):
            self.events.append(json.loads(line))
        self.process.stdout.close()

    async def saw(self, name: str) -> dict[str, Any]:
        await until(lambda: any(event["event"] == name for event in self.events))
        return next(event for event in self.events if event["event"] == name)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def status(self) -> int:
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, 10)


Scenario = Callable[[Coordinator], Awaitable[None]]


def against(server: ServerProcess, scenario: Scenario) -> None:
    async def whole() -> None:
        coordinator = Coordinator(server)
        try:
            await scenario(coordinator)
        finally:
            await coordinator.http.aclose()

    run(whole())


def test_the_program_answers_with_the_starter_model(
    coordinator_process: ServerProcess, tmp_path: Path
) -> None:
    server = coordinator_process

    async def scenario(coordinator: Coordinator) -> None:
        async with MinerProcess(coordinator, tmp_path, "m-starter") as miner:
            await miner.saw("registered")
            offered = await coordinator.miner("m-starter")
            assert offered["models"][0]["name"] == "aitbc-starter"
            assert offered["models"][0]["context_length"] == 1024
            assert offered["models"][0]["quantisation"] == "Q8_0"
            assert offered["gpus"] == []
            done = await coordinator.ended(await coordinator.submit("What is AITBC?", "aitbc-starter"))
            assert done["status"] == "completed"
            assert done["result"]
            receipt = await coordinator.http.get(f"/v1/receipts/{done['receipt_id']}")
            keys = KeySet.from_json((await coordinator.http.get("/v1/keys")).json())
            verified = verify_bytes(receipt.content, keys)
            assert verified.ok, verified
            assert receipt.json()["metering"] == "engine"
            body = {
                "job_type": "embedding",
                "parameters": {"input": ["a", "b"], "model": "aitbc-starter"},
            }
            job_id = (await coordinator.call("POST", "/v1/client/jobs", body))["job_id"]
            vectors = (await coordinator.ended(job_id))["output"]["embeddings"]
            assert [len(vector) for vector in vectors] == [160, 160]
            earned = (await miner.saw("job_done"))["earned"]
            assert earned > 0
            miner.signal(signal.SIGTERM)
            assert await miner.status() == 0
            assert (await coordinator.miner("m-starter"))["status"] == "inactive"
        printed = json.dumps(miner.events)
        assert "What is AITBC?" not in printed
        assert done["result"] not in printed

    against(server, scenario)


def test_the_program_through_cancel_outage_drain_and_being_told_twice(
    coordinator_process: ServerProcess, tmp_path: Path
) -> None:
    server = coordinator_process

    async def scenario(coordinator: Coordinator) -> None:
        async with FakeOpenAI() as engine:
            gate = asyncio.Event()

            async def wait_then_answer(body: dict[str, Any]) -> Any:
                await gate.wait()
                return await engine.answer(body)

            engine.on_chat = engine.answer_for_ever
            arguments = ("--engine", "openai", "--url", engine.url, "--concurrency", "2", "--price", "0.5")
            async with MinerProcess(coordinator, tmp_path, "m-engine", *arguments) as miner:
                await miner.saw("registered")

                cancelled = await coordinator.submit("long", "qwen", constraints={"max_price": 1})
                await miner.saw("job_started")
                await coordinator.call("POST", f"/v1/jobs/{cancelled}/cancel")
                await asyncio.wait_for(engine.closed_early.wait(), 5)
                assert (await miner.saw("job_lost"))["job_id"] == cancelled

                engine.on_chat = wait_then_answer
                through_outage = await coordinator.submit("outage", "qwen", constraints={"max_price": 1})
                await until(lambda: len(engine.bodies) == 2)
                await asyncio.to_thread(server.kill9)
                await miner.saw("coordinator_down")
                gate.set()
                await miner.saw("job_answered")
                await asyncio.to_thread(server.restart)
                done = await coordinator.ended(through_outage)
                assert (done["status"], done["result"]) == ("completed", "Hello")
                await miner.saw("job_done")

                gate.clear()
                last = await coordinator.submit("drain", "qwen", constraints={"max_price": 1})
                await until(lambda: len(engine.bodies) == 3)
                miner.signal(signal.SIGTERM)
                await miner.saw("draining")
                late = await coordinator.submit("late", "qwen", constraints={"max_price": 1})
                gate.set()
                assert await miner.status() == 0
                assert (await coordinator.job(last))["status"] == "completed"
                assert (await coordinator.job(late))["status"] == "pending"

            engine.on_chat = engine.answer_for_ever
            async with MinerProcess(coordinator, tmp_path, "m-engine", *arguments) as miner:
                await miner.saw("job_started")  # the late one
                miner.signal(signal.SIGINT)
                await miner.saw("draining")
                miner.signal(signal.SIGINT)
                assert await miner.status() == 130
                assert (await miner.saw("interrupted"))["jobs"] == [late]

    against(server, scenario)
    with sqlite3.connect(server.database_url.removeprefix("sqlite:///")) as database:
        assert database.execute("select sum(balance_units) from accounts").fetchone() == (0,)


def test_another_accounts_miner_id_is_refused_with_a_reason(
    coordinator_process: ServerProcess, tmp_path: Path
) -> None:
    server = coordinator_process

    async def scenario(coordinator: Coordinator) -> None:
        def agent(home: str, key: str, events: Events) -> MinerAgent:
            settings = MinerSettings(
                coordinator=server.url, key=key, home=tmp_path / home, miner_id="m-owned"
            )
            return MinerAgent(settings, FakeEngine(), events, gpus=[])

        events = Events()
        owner = RunningMiner(agent("a", MINER_KEY, events), events)
        await until(lambda: events.named("registered"))
        others = Events()
        assert await agent("b", OTHER_MINER_KEY, others).run() == 1
        assert others.named("refused")[0]["code"] == "FORBIDDEN"
        clients = Events()
        assert await agent("c", CLIENT_KEY, clients).run() == 1
        assert clients.named("refused")[0]["code"] == "FORBIDDEN"
        assert await owner.stop() == 0

    against(server, scenario)


def test_a_copied_home_is_refused_until_it_takes_over_and_the_first_is_told(
    coordinator_process: ServerProcess, tmp_path: Path
) -> None:
    server = coordinator_process

    def agent(home: str, events: Events, *, takeover: bool = False) -> MinerAgent:
        settings = MinerSettings(
            coordinator=server.url, key=MINER_KEY, home=tmp_path / home, miner_id="copied", takeover=takeover
        )
        return MinerAgent(settings, FakeEngine(), events, gpus=[])

    async def scenario(coordinator: Coordinator) -> None:
        first = RunningMiner(agent("first", seen := Events()), seen)
        await until(lambda: seen.named("registered"))
        shutil.copytree(tmp_path / "first" / "miner", tmp_path / "second" / "miner")
        second = RunningMiner(agent("second", refused := Events()), refused)
        await until(lambda: refused.named("id_in_use"))
        assert refused.named("id_in_use")[0]["code"] == "MINER_ID_IN_USE"
        assert await second.stop() == 0 and not refused.named("registered")
        third = RunningMiner(agent("second", taking := Events(), takeover=True), taking)
        await until(lambda: taking.named("registered"))
        assert await asyncio.wait_for(first.task, 10) == 1
        assert seen.named("refused")[0]["code"] == "MINER_SESSION_REPLACED"
        job = await coordinator.ended(await coordinator.submit("hello", "tiny"))
        assert job["status"] == "completed" and not refused.named("job_started")
        assert await third.stop() == 0

    against(server, scenario)


def test_status_says_what_was_done_earned_failed_and_missed(
    coordinator_process: ServerProcess, tmp_path: Path
) -> None:
    server = coordinator_process

    async def scenario(coordinator: Coordinator) -> None:
        async def status(*more: str) -> tuple[int, str]:
            words = ["miner", "status", "--url", server.url, "--key", STATUS_KEY]
            words += ["--home", str(tmp_path), "--id", "m-status", *more]
            return await asyncio.to_thread(run_aitbc, words, env=server.environment)

        async with FakeOpenAI() as engine:
            engine.models = [{"id": "status-model", "max_model_len": 4096}]
            arguments = ("--engine", "openai", "--url", engine.url, "--price", "0.9", "--key", STATUS_KEY)
            async with MinerProcess(coordinator, tmp_path, "m-status", *arguments) as miner:
                await miner.saw("registered")
                assert (await miner.saw("price_above_cap"))["cap"] == 0.1
                wants = {"constraints": {"max_price": 1}}
                done = await coordinator.ended(await coordinator.submit("one", "status-model", **wants))
                assert done["status"] == "completed"

                async def refuse(body: dict[str, Any]) -> Any:
                    return JSONResponse({"error": "bad"}, 400)

                engine.on_chat = refuse
                assert (await coordinator.ended(await coordinator.submit("two", "status-model", **wants)))[
                    "cause"
                ]
                await miner.saw("fail_reported")
                code, shown = await status("--json")
                assert code == 0, shown
                facts = json.loads(shown)
                assert facts["runs_here"] is True
                assert facts["at_coordinator"]["status"] in ("active", "draining")
                standing = facts["at_coordinator"]["standing"]
                assert (standing["approval"], standing["delivered"]) == ("none", 1)
                assert standing["leases_earned"] > 1
                assert facts["at_coordinator"]["models"][0]["name"] == "status-model"
                assert facts["earned"]["earned"] == (await miner.saw("job_done"))["earned"] > 0
                assert facts["earned"]["jobs"] == 1
                miner.signal(signal.SIGTERM)
                assert await miner.status() == 0
            code, shown = await status("--json")
            here = json.loads(shown)["here"]
            assert (here["completed"], here["failed"], here["lost"]) == (1, {"BAD_REQUEST": 1}, 0)
            code, shown = await status()
            assert code == 0
            for words in ("m-status", "not running", "BAD_REQUEST", "status-model", "above the 0.1"):
                assert words in shown, shown
            code, shown = await status("--url", f"http://127.0.0.1:{free_port()}")
            assert code == 3 and "no coordinator answers at" in shown and "BAD_REQUEST" in shown

    against(server, scenario)
