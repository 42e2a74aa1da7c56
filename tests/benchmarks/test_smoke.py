"""The load client against a real coordinator: it does whole jobs, and what it fills in passes the audit."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.databases import Databases, Prepared
from benchmarks.fill import fill_finished, fill_pending
from benchmarks.processes import Coordinator, LoadClient, environment
from tests.support.server import AITBC

TIMES = {"warm_up_s": 0.0, "seconds": 0.3}


def audit(prepared: Prepared, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(AITBC), "audit", "--database-url", prepared.url, "--home", str(folder)]
    return subprocess.run(command, cwd=folder, env=environment({}), capture_output=True, text=True)


def test_the_load_client_does_whole_jobs_over_a_filled_database(tmp_path: Path) -> None:
    prepared = Databases(tmp_path, None).fresh()
    fill_finished(prepared, 40)
    fill_pending(prepared, 20)
    with Coordinator(prepared, tmp_path / "home") as server, LoadClient(server) as client:
        for path in ("/bench/noop", "/bench/endpoint"):
            assert client.do("noop", path=path, connections=1, **TIMES)["count"]
        assert client.do("whole", connections=2, **TIMES)["count"]
        assert client.do("batch", connections=1, size=5, **TIMES)["count"]
        client.do("wait", miners=3)
        assert client.do("dispatch", per_s=20, seconds=0.25)["jobs"] == 5
        client.do("leave")
        assert server.rss_mb() > 0
    audited = audit(prepared, tmp_path)
    assert audited.returncode == 0, audited.stdout + audited.stderr
