"""A disk that fills up under a coordinator: a clear 503, no corruption, and it goes on once there is room."""

import asyncio
import os
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from aitbc.audit.database import audit
from aitbc.coordinator.database import Database
from aitbc.coordinator.errors import StorageUnavailable
from aitbc.coordinator.flows.acts import job_lifecycle
from aitbc.coordinator.flows.acts.onboarding import issue_key
from aitbc.coordinator.miners import standing
from aitbc.coordinator.schema import migrate
from aitbc.core.clock import ManualClock
from tests.coordinator.faults.wire import Wire
from tests.support.flows import CHAIN, Market, in_loop, spec_of
from tests.support.server import ServerProcess

pytestmark = [pytest.mark.faults, pytest.mark.parametrize("databases", ["sqlite"], indirect=True)]
DISK_MB = 6


class Disk:
    """A file system of a few MB: a real one where we may mount one, else a database that may not grow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mounted = os.geteuid() == 0 and self._mount()
        self.url = f"sqlite:///{folder / 'coordinator.db'}"
        migrate.upgrade(self.url)

    def _mount(self) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(self.folder)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    def fill(self) -> None:
        """Takes all the room there is."""
        with (self.folder / "ballast").open("wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(b"\0" * 4096)
            except OSError:
                return

    def limit(self, connection: sqlite3.Connection, pages: int) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    def make_room(self) -> None:
        (self.folder / "ballast").unlink(missing_ok=True)

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture
def disk(databases: Any) -> Iterator[Disk]:
    with tempfile.TemporaryDirectory(prefix="aitbc-disk-", ignore_cleanup_errors=True) as folder:
        made = Disk(Path(folder))
        yield made
        made.close()


@pytest.fixture
def market(disk: Disk, clock: ManualClock) -> Iterator[Market]:
    database = Database.open(disk.url, clock=clock)
    yield Market(database, clock)
    database.close()


def sound(disk: Disk, market: Market) -> None:
    """The file is whole, and so are the books."""
    connection = sqlite3.connect(disk.folder / "coordinator.db")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    report = market.db.read_sync(audit, CHAIN)
    assert report.ok, report.problems


def run_full(disk: Disk, market: Market) -> None:
    """Until there is no room even for a small job. Without a file system of its own, by a limit on pages."""
    if disk.mounted:
        disk.fill()
        return
    backend: Any = market.db.backend
    for connection in (backend._own("writer", readonly=False), backend._writer()):
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        disk.limit(connection, pages)


def make_room(disk: Disk, market: Market) -> None:
    if disk.mounted:
        disk.make_room()
        return
    backend: Any = market.db.backend
    for connection in (backend._own("writer", readonly=False), backend._writer()):
        disk.limit(connection, 1_000_000)


def jobs_in(market: Market) -> set[str]:
    return {row.id for row in market.db.read_sync(lambda tx: tx.query(text("SELECT id FROM jobs")))}


def test_the_group_commit_says_503_and_goes_on_when_there_is_room(disk: Disk, market: Market) -> None:
    client = market.client(units=10**15)
    acknowledged: set[str] = set()

    async def submit(prompt: str) -> bool:
        """Whether it was taken; nothing but 503 may keep it from that."""
        try:
            spec = spec_of(prompt=prompt)
            made = await market.db.write(job_lifecycle.submit, market.ctx, client, spec)
        except StorageUnavailable:
            return False
        acknowledged.add(made.id)
        return True

    async def burst(count: int) -> list[bool]:
        return await asyncio.gather(*(submit(f"{n} " + "x" * 2000) for n in range(count)))

    async def main() -> None:
        for _ in range(2):
            assert all(await burst(20))
            await asyncio.to_thread(run_full, disk, market)
            refused = 0
            for _ in range(40):
                refused += (await burst(10)).count(False)
                if refused >= 50:
                    break
            assert refused >= 50, "it never ran full"
            found = await asyncio.to_thread(jobs_in, market)
            assert found == acknowledged, "what was acknowledged is there, what was refused is not"
            await asyncio.to_thread(make_room, disk, market)
            for _ in range(3):
                assert all(await burst(10))
        found = await asyncio.to_thread(jobs_in, market)
        assert found == acknowledged
        await asyncio.to_thread(sound, disk, market)

    in_loop(market.db, main())


def test_every_flow_says_503_on_a_full_disk(disk: Disk, market: Market) -> None:
    client, miner = market.client(units=10**15), market.miner(concurrency=50)
    market.db.write_sync(standing.set_approval, miner.principal.account_id, "approved")
    running = [market.submit(client, prompt="x" * 500, max_tokens=1000).id for _ in range(6)]
    market.take(miner, 6)
    pending = [market.submit(client).id for _ in range(6)]
    run_full(disk, market)
    for _ in range(2_000):  # what room is left in the log
        try:
            market.submit(client, prompt="x" * 3000)
        except StorageUnavailable:
            break
    big = "y" * 60_000
    specs = [spec_of(prompt=big) for _ in range(20)]
    acts = {
        "submit": lambda: market.submit(client, prompt=big),
        "submit_batch": lambda: market.db.write_sync(job_lifecycle.submit_batch, market.ctx, client, specs),
        "complete": lambda: market.complete(miner, running[0], big),
    }
    before = market.balance("alice"), jobs_in(market)
    for act in acts.values():
        with pytest.raises(StorageUnavailable):
            act()
    assert (market.balance("alice"), jobs_in(market)) == before
    assert market.job(running[0]).status == "running"
    make_room(disk, market)
    market.complete(miner, running[0], big)
    market.fail(miner, running[1], "BAD_REQUEST")
    market.cancel(client, pending[0])
    assert len(market.take(miner, 50)) >= 5
    sound(disk, market)


def test_reads_go_on_while_the_disk_is_full(disk: Disk, market: Market) -> None:
    client = market.client()
    job = market.submit(client)
    run_full(disk, market)
    for _ in range(500):
        try:
            market.submit(client, prompt="x" * 3000)
        except StorageUnavailable:
            break
    assert market.job(job.id).status == "pending"
    make_room(disk, market)
    sound(disk, market)


def test_over_http_it_is_a_503_with_its_code(disk: Disk, tmp_path: Path) -> None:
    """A whole coordinator, its background loops included, on a disk that fills up and is emptied again."""
    if not disk.mounted:  # a limit on pages cannot be set from outside; the tests above have been there
        return
    database = Database.open(disk.url)
    key = database.write_sync(issue_key, role="client", account_id="alice", grant_units=10**12).key
    database.close()
    server = ServerProcess(disk.url, tmp_path / "home", {"LOG_LEVEL": "error", "BLOCK_INTERVAL_S": "0.2"})
    server.start()
    try:
        wire = Wire(server.url, key)
        acknowledged: list[str] = []

        def submit() -> tuple[int, Any]:
            status, answer = wire.once("POST", "/v1/jobs", {"prompt": "x" * 20_000})
            if status == 201:
                acknowledged.append(answer["job_id"])
            return status, answer

        assert submit()[0] == 201
        disk.fill()
        for _ in range(400):
            status, answer = submit()
            if status != 201:
                break
        assert status == 503
        assert answer["error_code"] == answer["error"]["code"] == "STORAGE_UNAVAILABLE"
        assert wire.once("GET", f"/v1/jobs/{acknowledged[0]}")[0] == 200, "what can be read is read"
        disk.make_room()
        for _ in range(100):
            if submit()[0] == 201:
                break
        assert submit()[0] == 201
        assert server.terminate() == 0
    finally:
        server.stop()
    database = Database.open(disk.url)
    kept = {row.id for row in database.read_sync(lambda tx: tx.query(text("SELECT id FROM jobs")))}
    assert set(acknowledged) <= kept
    assert database.read_sync(audit, CHAIN).ok
    database.close()
