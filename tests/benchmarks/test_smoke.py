"""The load client against a real coordinator does whole jobs, and what is filled in adds up."""

from __future__ import annotations

import sqlite3
import subprocess
from pathlib import Path

from aitbc.coordinator.database import sqlite_path
from benchmarks import explorer, governance
from benchmarks.databases import Databases
from benchmarks.fill import fill_finished, fill_pending
from benchmarks.processes import Coordinator, LoadClient, environment
from tests.support.aitbc import AITBC

TIMES = {"warm_up_s": 0.0, "seconds": 0.5}


def test_the_load_client_does_whole_jobs(tmp_path: Path) -> None:
    prepared = Databases(tmp_path, None).fresh()
    with Coordinator(prepared, tmp_path / "home") as server, LoadClient(server) as client:
        for path in ("/bench/noop", "/bench/endpoint"):
            assert client.do("noop", path=path, connections=1, **TIMES)["count"]
        assert client.do("whole", connections=2, **TIMES)["count"]
        assert client.do("batch", connections=1, size=5, **TIMES)["count"]
        client.do("wait", miners=260)  # more than one account may have
        assert client.do("dispatch", per_s=20, seconds=0.25)["jobs"] == 5
        client.do("leave")
        assert server.rss_mb() > 0
    command = [str(AITBC), "audit", "--database-url", prepared.url, "--home", str(tmp_path)]
    audited = subprocess.run(command, cwd=tmp_path, env=environment({}), capture_output=True, text=True)
    assert audited.returncode == 0, audited.stdout + audited.stderr


def test_filled_databases_add_up(tmp_path: Path) -> None:
    prepared = Databases(tmp_path, None).fresh()
    fill_finished(prepared, 30)
    fill_pending(prepared, 20)
    with sqlite3.connect(sqlite_path(prepared.url)) as connection:

        def value(sql: str) -> int:
            found: int = connection.execute(f"SELECT {sql}").fetchone()[0]
            return found

        assert value("count(*) FROM jobs WHERE status = 'completed'") == 31
        assert value("count(*) FROM jobs WHERE status = 'pending'") == 21
        assert value("sum(balance_units) FROM accounts") == 0
        held = value("sum(held_units) FROM jobs WHERE status = 'pending'")
        assert value("sum(held_units) FROM accounts") == held
        lines = value("count(*) FROM transfers") + value("count(*) FROM receipts")
        assert value("count(*) FROM leaves") == lines
        assert value("max(tree_size) FROM blocks") == lines - 21  # the pending jobs' holds wait for a block


def test_the_explorers_pages_are_there_at_any_size(tmp_path: Path) -> None:
    found = explorer.measure(tmp_path, 1_500, 2)
    assert found["pages"]


def test_voting_power_is_there_at_any_size(tmp_path: Path) -> None:
    found = governance.measure(tmp_path, 300, 1_200, 2)
    assert found["powers"]
