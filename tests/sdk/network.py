"""A small network for tests: a real coordinator process, accounts, and a miner whose answers are scripted.

ScriptedMiner is a fake of the model only: it speaks to the coordinator as any miner does.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from aitbc.coordinator.api_keys.service import NewKey
from aitbc.coordinator.database import Database
from aitbc.coordinator.flows.acts.onboarding import issue_key
from aitbc.coordinator.parameters.service import set_value
from aitbc.coordinator.schema.migrate import upgrade
from tests.support.server import ServerProcess

GRANT_UNITS = 1000 * 100_000_000
MODEL = "scripted"


class ScriptedMiner:
    """Takes jobs of a few models and answers at once; "fail" in a prompt is reported as a failure."""

    def __init__(self, url: str, key: str, miner_id: str = "scripted-miner") -> None:
        self.miner_id = miner_id
        self._http = httpx.Client(base_url=url, headers={"X-Api-Key": key}, timeout=30, trust_env=False)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        names = (MODEL, "llama3.2", "nomic-embed-text")
        models = [{"name": name, "price_per_1k": 0.01} for name in names]
        capabilities = {
            "models": models,
            "job_types": ["llm_inference", "embedding"],
            "gpus": [],
            "region": "eu",
        }
        body = {"miner_id": self.miner_id, "capabilities": capabilities}
        self._http.post("/v1/miners/register", json=body).raise_for_status()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)
        self._http.close()

    def _work(self) -> None:
        while not self._stop.is_set():
            query = {"miner_id": self.miner_id, "max": 4, "wait": 0.5}
            for job in self._http.get("/v1/miner/jobs", params=query).json()["jobs"]:
                self._answer(job["request"], {"miner_id": self.miner_id, "job_id": job["job_id"]})

    def _answer(self, request: dict[str, Any], body: dict[str, Any]) -> None:
        source = request["input"]
        if "fail" in str(source.get("prompt")):
            body |= {"cause": "CONTEXT_LENGTH_EXCEEDED", "message": "too long for me"}
            self._http.post("/v1/miner/fail", json=body).raise_for_status()
            return
        if "input" in source:
            result: Any = {"embeddings": [[0.25, -0.5, float(len(text))] for text in source["input"]]}
        else:
            text = source.get("prompt") or source["messages"][-1]["content"]
            result = {"text": f"You said: {text}", "finish_reason": "stop"}
        body |= {"result": result, "usage": {"prompt_tokens": 4, "completion_tokens": 6}}
        self._http.post("/v1/miner/result", json=body).raise_for_status()


class Network:
    """`url`, and the keys of three clients and a miner, each with 1000 AIT."""

    def __init__(self, folder: Path) -> None:
        self.database_url = f"sqlite:///{folder}/coordinator.db"
        self.server = ServerProcess(self.database_url, folder)
        upgrade(self.database_url)
        self.alice = self.key("client", "alice")
        self.dora = self.key("client", "dora")
        self.bob = self.key("client", "bob")
        self.carol = self.key("miner", "carol")

    @property
    def url(self) -> str:
        return self.server.url

    def key(self, role: str, account: str) -> NewKey:
        database = Database.open(self.database_url)
        try:
            return database.write_sync(
                lambda tx: issue_key(tx, role=role, account_id=account, grant_units=GRANT_UNITS)
            )
        finally:
            database.close()

    def govern(self) -> None:
        """Whoever has something may propose, for a small deposit; a vote opens in a minute."""
        database = Database.open(self.database_url)
        rules = {"age_s": 0, "min_power": 1, "deposit": 100_000_000, "delay_s": 60}
        try:
            for name, value in rules.items():
                database.write_sync(set_value, f"governance_{name}", value, "operator", "for a test")
        finally:
            database.close()


_SHARED = pytest.StashKey["Network"]()


def shared_network(request: pytest.FixtureRequest, folders: pytest.TempPathFactory) -> Iterator[Network]:
    """The body of a session fixture: one network for all folders of tests whose conftest has it."""
    running = request.config.stash.get(_SHARED, None)
    if running is not None:
        yield running
        return
    with running_network(folders.mktemp("network")) as started:
        request.config.stash[_SHARED] = started
        yield started


@contextmanager
def running_network(folder: Path) -> Iterator[Network]:
    """A network with its scripted miner at work."""
    network = Network(folder)
    network.server.start()
    miner = ScriptedMiner(network.url, network.carol.key)
    try:
        miner.start()
        yield network
        miner.stop()
    finally:
        network.server.stop()
