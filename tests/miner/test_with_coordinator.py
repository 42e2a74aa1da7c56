"""The miner against the real coordinator: in this process, and as the program `aitbc miner run`."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from aitbc.core.keyset import KeySet
from aitbc.core.receipt import verify_bytes
from tests.miner.fakes import FakeEngine, FakeOpenAI
from tests.miner.harness import Events, RunningMiner, run, until
from tests.support.server import AITBC, ServerProcess

pytestmark = pytest.mark.parametrize("databases", ["sqlite"], indirect=True)

SETTINGS = {"HEARTBEAT_S": "0.2", "LEASE_S": "20"}


class Coordinator:
    """A client's view of a coordinator process, with a key of each role."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.http = httpx.AsyncClient(base_url=server.url, timeout=10, verify=False)
        self.keys: dict[str, str] = {}

    async def make_keys(self) -> None:
        for role in ("client", "miner"):
            process = await asyncio.create_subprocess_exec(
                *(AITBC, "keys", "create", "--role", role, "--account", f"{role}-1", "--json"),
                env=self.server.environment,
                stdout=asyncio.subprocess.PIPE,
            )
            out, _ = await process.communicate()
            self.keys[role] = json.loads(out)["key"]

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        reply = await self.http.request(method, path, json=body, headers={"X-Api-Key": self.keys["client"]})
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


class MinerProcess:
    """`aitbc miner run --json` and the events that it has printed."""

    def __init__(self, coordinator: Coordinator, home: Path, *arguments: str) -> None:
        self._command = [
            *(str(AITBC), "miner", "run", "--json", "--coordinator", coordinator.server.url),
            *("--key", coordinator.keys["miner"], "--home", str(home), "--id", "m1", *arguments),
        ]
        self._environment = coordinator.server.environment | {"OLLAMA_HOST": "127.0.0.1:9"}
        self.events: list[dict[str, Any]] = []
        self.process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> MinerProcess:
        self.process = await asyncio.create_subprocess_exec(
            *self._command, env=self._environment, stdout=asyncio.subprocess.PIPE
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def _read(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        async for line in self.process.stdout:
            self.events.append(json.loads(line))

    async def saw(self, name: str) -> dict[str, Any]:
        await until(lambda: any(event["event"] == name for event in self.events))
        return next(event for event in self.events if event["event"] == name)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def status(self) -> int:
        assert self.process is not None
        return await asyncio.wait_for(self.process.wait(), 10)


Scenario = Callable[[Coordinator], Awaitable[None]]


def against(server: ServerProcess, scenario: Scenario) -> None:
    async def whole() -> None:
        coordinator = Coordinator(server)
        await coordinator.make_keys()
        try:
            await scenario(coordinator)
        finally:
            await coordinator.http.aclose()

    run(whole())


def test_the_program_answers_with_the_starter_model(
    start_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    server = start_server(SETTINGS)

    async def scenario(coordinator: Coordinator) -> None:
        async with MinerProcess(coordinator, tmp_path / "miner") as miner:
            await miner.saw("registered")
            offered = (await coordinator.http.get("/v1/miners")).json()[0]
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
            assert (await coordinator.http.get("/v1/miners")).json()[0]["status"] == "inactive"
        printed = json.dumps(miner.events)
        assert "What is AITBC?" not in printed
        assert done["result"] not in printed

    against(server, scenario)


def test_draining_cancelling_and_outages(start_server: Callable[..., ServerProcess], tmp_path: Path) -> None:
    server = start_server(SETTINGS)

    async def scenario(coordinator: Coordinator) -> None:
        async with FakeOpenAI() as engine:
            gate = asyncio.Event()

            async def wait_then_answer(body: dict[str, Any]) -> Any:
                await gate.wait()
                return await engine.answer(body)

            engine.on_chat = engine.answer_for_ever
            arguments = ("--engine", "openai", "--url", engine.url, "--concurrency", "2", "--price", "0.5")
            async with MinerProcess(coordinator, tmp_path / "miner", *arguments) as miner:
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

    against(server, scenario)
    with sqlite3.connect(server.database_url.removeprefix("sqlite:///")) as database:
        assert database.execute("select sum(balance_units) from accounts").fetchone() == (0,)


def test_told_twice_the_program_ends_at_once(
    start_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    server = start_server(SETTINGS)

    async def scenario(coordinator: Coordinator) -> None:
        async with FakeOpenAI() as engine:
            engine.on_chat = engine.answer_for_ever
            arguments = ("--engine", "openai", "--url", engine.url)
            async with MinerProcess(coordinator, tmp_path / "miner", *arguments) as miner:
                await miner.saw("registered")
                await coordinator.submit("x", "qwen")
                await miner.saw("job_started")
                miner.signal(signal.SIGINT)
                await miner.saw("draining")
                miner.signal(signal.SIGINT)
                assert await asyncio.wait_for(miner.status(), 2) == 130

    against(server, scenario)


def test_another_accounts_miner_id_is_refused_with_a_reason(
    start_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    from aitbc.miner.agent import MinerAgent
    from aitbc.miner.settings import MinerSettings

    server = start_server(SETTINGS)

    async def scenario(coordinator: Coordinator) -> None:
        def settings(home: str, key: str) -> MinerSettings:
            return MinerSettings(coordinator=server.url, key=key, home=tmp_path / home, miner_id="m1")

        first = RunningMiner(
            MinerAgent(settings("a", coordinator.keys["miner"]), FakeEngine(), Events(), gpus=[]), Events()
        )
        await until(lambda: first.agent.miner_id and not first.task.done())
        await asyncio.sleep(0.2)
        client_events = Events()
        agent = MinerAgent(settings("b", coordinator.keys["client"]), FakeEngine(), client_events, gpus=[])
        assert await agent.run() == 1
        assert client_events.named("refused")[0]["code"] == "FORBIDDEN"
        assert await first.stop() == 0

    against(server, scenario)
