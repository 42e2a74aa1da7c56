"""A coordinator that is killed under load, again and again: what it acknowledged is there, and paid once."""

import asyncio
import json
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from aitbc.audit.database import audit
from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.flows.acts.onboarding import issue_key
from aitbc.coordinator.ledger import service as ledger
from tests.coordinator.faults.wire import NotAnswered, Wire
from tests.support.databases import Databases
from tests.support.server import ServerProcess

pytestmark = pytest.mark.faults
SETTINGS = {"LEASE_S": "20", "HEARTBEAT_S": "4", "LOG_LEVEL": "error"}
KILLS = {"sqlite": 3, "postgresql": 2}
GRANT_UNITS = 10**11


@pytest.fixture
def durable_url(databases: Databases, tmp_path: Path) -> str:
    """On a real disk, unlike the other tests' here."""
    return databases.migrated(tmp_path)


@pytest.fixture
def books(durable_url: str) -> Iterator[Database]:
    database = Database.open(durable_url)
    yield database
    database.close()


@pytest.fixture
def coordinator(durable_url: str, tmp_path: Path) -> Iterator[ServerProcess]:
    server = ServerProcess(durable_url, tmp_path / "home", SETTINGS)
    yield server
    server.stop()


@dataclass
class Load:
    """Clients and miners that never give up, and what they were told."""

    url: str
    client_key: str
    miner_key: str
    over: threading.Event = field(default_factory=threading.Event)
    jobs: dict[str, str] = field(default_factory=dict)  # by idempotency key
    receipts: dict[str, Any] = field(default_factory=dict)  # by job
    problems: list[str] = field(default_factory=list)
    submitted: int = 0

    def client(self, number: int) -> None:
        wire = Wire(self.url, self.client_key, self.over.is_set)
        while not self.over.is_set():
            key = f"key-{number}-{len(self.jobs)}-{random.random()}"
            body = {"prompt": f"question {key}", "params": {"max_tokens": 20}}
            self.submitted += 1
            status, job = wire.send("POST", "/v1/jobs", body, **{"Idempotency-Key": key})
            if status != 201:
                self.problems.append(f"submit: {status} {job}")
                return
            self.jobs[key] = job["job_id"]
            status, again = wire.send("POST", "/v1/jobs", body, **{"Idempotency-Key": key})
            if (status, again.get("job_id")) != (201, job["job_id"]):
                self.problems.append(f"sent again: {status} {again}")

    def miner(self, number: int) -> None:
        wire = Wire(self.url, self.miner_key, self.over.is_set)
        name = f"miner-{number}"
        wire.send("POST", "/v1/miner/register", {"miner_id": name, "capabilities": ["llama3.2"]})
        while not self.over.is_set():
            status, answer = wire.send("GET", f"/v1/miner/jobs?miner_id={name}&wait=1")
            if status != 200:
                self.problems.append(f"take: {status} {answer}")
                return
            for job in answer["jobs"]:
                result = {
                    "miner_id": name,
                    "job_id": job["job_id"],
                    "result": f"answer to {job['job_id']}",
                    "usage": {"prompt_tokens": 5, "completion_tokens": 7},
                }
                status, receipt = wire.send("POST", "/v1/miner/result", result)
                if status != 200:
                    self.problems.append(f"result: {status} {receipt}")
                    return
                known = self.receipts.setdefault(job["job_id"], receipt)
                if known != receipt:
                    self.problems.append(f"two receipts for {job['job_id']}")

    def run(self, act: Any, number: int) -> None:
        try:
            act(number)
        except NotAnswered as error:
            if not self.over.is_set():
                self.problems.append(str(error))
        except Exception as error:  # noqa: BLE001 - a thread's failure is the test's
            self.problems.append(repr(error))


def rows(tx: Tx, query: str) -> list[Any]:
    return tx.query(text(query))


def test_what_was_acknowledged_survives_kill_9(coordinator: ServerProcess, books: Database) -> None:
    keys = {
        role: books.write_sync(issue_key, role=role, account_id=f"the-{role}", grant_units=GRANT_UNITS)
        for role in ("client", "miner")
    }
    coordinator.start()
    load = Load(coordinator.url, keys["client"].key, keys["miner"].key)
    threads = [
        threading.Thread(target=load.run, args=(act, number))
        for act in (load.client, load.miner)
        for number in range(3)
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in range(KILLS[books.dialect]):
            seen = len(load.receipts)
            until = time.monotonic() + 20
            while len(load.receipts) < seen + 15 and time.monotonic() < until and not load.problems:
                time.sleep(0.02)
            time.sleep(random.uniform(0, 0.05))
            coordinator.kill9()
            report = books.read_sync(audit)
            assert report.ok, report.problems
            coordinator.start()
        until = time.monotonic() + 20
        while len(load.receipts) < seen + 20 and time.monotonic() < until and not load.problems:
            time.sleep(0.02)
    finally:
        load.over.set()
        for thread in threads:
            thread.join(40)
    assert not load.problems
    assert coordinator.terminate() == 0
    holds_what_was_told(books, load)


def holds_what_was_told(books: Database, load: Load) -> None:
    report = books.read_sync(audit)
    assert report.ok, report.problems
    jobs = {row.id: row for row in books.read_sync(rows, "SELECT * FROM jobs")}
    receipts = {row.id: row for row in books.read_sync(rows, "SELECT * FROM receipts")}
    assert len(load.receipts) >= KILLS[books.dialect] * 15
    assert set(load.jobs.values()) <= set(jobs)
    assert len(set(load.jobs.values())) == len(load.jobs)
    assert len(jobs) <= load.submitted, "no request made two jobs"
    for job_id, receipt in load.receipts.items():
        row = receipts[receipt["receipt_id"]]
        assert (row.job_id, jobs[job_id].receipt_id, jobs[job_id].status) == (job_id, row.id, "completed")
        assert json.loads(row.body)["result_hash"] == receipt["result_hash"]
    done = [job for job in jobs.values() if job.status == "completed"]
    assert len(done) == len(receipts), "one receipt each"
    paid = sum(job.price_units for job in done)
    held = sum(job.held_units for job in jobs.values() if job.finished_at_ms is None)
    client, miner, treasury = (
        books.read_sync(ledger.balance, name) for name in ("the-client", "the-miner", "system:treasury")
    )
    assert (client.balance_units, client.held_units) == (GRANT_UNITS - paid, held)
    assert miner.balance_units - GRANT_UNITS + treasury.balance_units == paid > 0
    if books.dialect == "sqlite":
        assert [row[0] for row in books.read_sync(rows, "PRAGMA integrity_check")] == ["ok"]


POLLS = 200


def test_sigterm_ends_two_hundred_long_polls_and_loses_nothing(
    coordinator: ServerProcess, books: Database
) -> None:
    keys = {
        role: books.write_sync(issue_key, role=role, account_id=f"the-{role}", grant_units=GRANT_UNITS).key
        for role in ("client", "miner")
    }
    coordinator.start()
    wire = Wire(coordinator.url, keys["miner"])
    wire.send("POST", "/v1/miner/register", {"miner_id": "m", "capabilities": ["nothing-that-is-asked-for"]})
    client = Wire(coordinator.url, keys["client"])
    _, job = client.send("POST", "/v1/jobs", {"prompt": "?", "model": "what-nobody-has"})
    paths = [
        ("/v1/miner/jobs?miner_id=m&wait=60", keys["miner"]),
        ("/v1/jobs/available?miner_id=m&wait=60", keys["miner"]),
        (f"/v1/jobs/{job['job_id']}/result?wait=60", keys["client"]),
    ]

    async def poll(path: str, key: str) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", coordinator.port)
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Api-Key: {key}\r\nConnection: close\r\n\r\n".encode()
        )
        answer = await reader.read()
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        json.loads(body)
        return int(head.split()[1])

    async def submit(acknowledged: list[str]) -> None:
        def loop() -> None:
            while True:
                status, made = client.once(
                    "POST", "/v1/jobs", {"prompt": "one more", "model": "what-nobody-has"}
                )
                if status != 201:
                    return
                acknowledged.append(made["job_id"])

        try:
            await asyncio.to_thread(loop)
        except Exception:  # noqa: BLE001 - however the connection ends
            return

    async def main() -> tuple[list[int], float, int, list[str]]:
        acknowledged: list[str] = []
        polls = [asyncio.create_task(poll(*paths[n % 3])) for n in range(POLLS)]
        submitting = asyncio.create_task(submit(acknowledged))
        waiting = 0
        while waiting < POLLS:
            await asyncio.sleep(0.05)
            waiting = await asyncio.to_thread(open_polls, coordinator)
        assert not any(one.done() for one in polls)
        started = time.monotonic()
        status = await asyncio.to_thread(coordinator.terminate)
        took_s = time.monotonic() - started
        answers = await asyncio.wait_for(asyncio.gather(*polls), 10)
        await asyncio.wait_for(submitting, 20)
        return answers, took_s, status, acknowledged

    answers, took_s, status, acknowledged = asyncio.run(main())
    assert status == 0
    assert took_s < 5
    assert set(answers) <= {200, 202}, "each poll got its answer"
    assert acknowledged
    jobs = {row.id for row in books.read_sync(rows, "SELECT id FROM jobs")}
    assert set(acknowledged) <= jobs
    report = books.read_sync(audit)
    assert report.ok, report.problems


def open_polls(coordinator: ServerProcess) -> int:
    import urllib.request

    with urllib.request.urlopen(f"{coordinator.url}/metrics", timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    found = [line.split()[1] for line in lines if line.startswith("aitbc_waiting_polls ")]
    return int(float(found[0]))
