"""What a full audit costs: `python -m benchmarks.audit` prints JSON.

The SQLite file is made by the program itself: jobs are submitted, claimed, answered and paid through the flows,
and sealed in blocks, so that every signature, hash and balance is real. The audit then runs in a process of its
own, whose processor time and peak memory are what is measured.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from aitbc.audit.database import audit
from aitbc.coordinator.chain import founding, sealer
from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.receipts import service as receipts
from aitbc.core.signing import public_to_text
from benchmarks import machine
from benchmarks.client.actors import Miner
from benchmarks.databases import Databases
from benchmarks.fill import finish_one, flow_context, register_one, submit_one
from benchmarks.processes import CHAIN_ID, ROOT, MeasurementFailed, environment

LEAVES = 200_000
PER_JOB = 4  # hold, post, fee, receipt
JOBS_AT_ONCE = 250
LEAST_PER_S = 5_000
MOST_MB = 300
MODEL = "bench-template"


def fill(folder: Path, leaves: int) -> str:
    """The URL of a database with at least so many leaves, all sealed but the last few."""
    url = Databases(folder, None).fresh().url
    database = Database.open(url)
    ctx, miner = flow_context(), Miner("", MODEL, CHAIN_ID)
    try:
        database.write_sync(receipts.publish_key, ctx.signing_key, CHAIN_ID)
        founded = database.write_sync(founding.ensure, CHAIN_ID, ctx.signing_key)
        ctx = replace(ctx, network_id=founded.network_id)
        public_key = public_to_text(miner.signing_key.public_bytes)
        database.write_sync(register_one, miner.miner_id, MODEL, public_key, concurrency=2)
        for _ in range(0, leaves, PER_JOB * JOBS_AT_ONCE):
            database.write_sync(_jobs, ctx, miner)
            made = database.read_sync(sealer.draft, CHAIN_ID, ctx.signing_key)
            if made is None or not database.write_sync(sealer.seal, made):
                raise MeasurementFailed("nothing was sealed")
        database.write_sync(_jobs, ctx, miner)
    finally:
        database.close()
    return url


def _jobs(tx: Tx, ctx: FlowContext, miner: Miner) -> None:
    for _ in range(JOBS_AT_ONCE):
        submit_one(tx, ctx, MODEL)
        finish_one(tx, ctx, miner)


def peak_mb() -> float:
    """The most memory that this program has had resident, MB. getrusage would count its parent's as well."""
    status = Path("/proc/self/status")
    if not status.exists():
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1)
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
    if found is None:
        raise MeasurementFailed("the system does not say how much memory was used")
    return round(int(found[1]) * 1024 / 1e6, 1)


def measured(url: str) -> dict[str, Any]:
    """Audits in this process."""
    database = Database.open(url)
    began, cpu = time.perf_counter(), time.process_time()
    report = database.read_sync(audit, CHAIN_ID)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - began
    database.close()
    if report.wrong is not None:
        raise MeasurementFailed(f"the audit found {report.wrong}")
    leaves = report.counts["leaves"]
    return {
        "leaves": leaves,
        "counts": report.counts,
        "cpu_s": round(cpu, 2),
        "wall_s": round(wall, 2),
        "leaves_per_cpu_s": round(leaves / cpu),
        "leaves_per_s": round(leaves / wall),
        "peak_mb": peak_mb(),
    }


def measured_apart(url: str) -> dict[str, Any]:
    """`measured` in a process of its own, whose memory is the audit's alone. Raises MeasurementFailed."""
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks.audit", "--url", url],
        cwd=ROOT,
        env=environment({}),
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        raise MeasurementFailed(child.stderr[-2000:])
    figures: dict[str, Any] = json.loads(child.stdout)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leaves", type=int, default=LEAVES)
    parser.add_argument("--url", help="audit this database instead of one that is made")
    given = parser.parse_args()
    if given.url:
        print(json.dumps(measured(given.url)))
        return
    with tempfile.TemporaryDirectory(prefix="aitbc-bench-") as folder:
        print(f"making {given.leaves} leaves", file=sys.stderr, flush=True)
        url = fill(Path(folder), given.leaves)
        figures = measured_apart(url)
    reached = figures["leaves_per_cpu_s"] >= LEAST_PER_S and figures["peak_mb"] <= MOST_MB
    target = {"leaves_per_s": LEAST_PER_S, "peak_mb": MOST_MB}
    print(
        json.dumps(
            {**figures, "target": target, "reached": reached, "machine": machine.describe({})}, indent=2
        )
    )


if __name__ == "__main__":
    main()
