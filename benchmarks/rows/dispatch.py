"""A thousand miners wait: how soon one of them has a new job, and how much memory the coordinator needs."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.databases import Databases
from benchmarks.figures import Figure, Plan, median_figure, medians
from benchmarks.processes import Coordinator, LoadClient, MeasurementFailed

GATHER_S = 60.0


def measure(plan: Plan, databases: Databases, folder: Path) -> list[Figure]:
    engine = databases.engine
    with Coordinator(databases.fresh(), folder / "home") as server, LoadClient(server) as client:
        at_start_mb = server.rss_mb()
        client.do("wait", miners=plan.waiting_miners)
        _until_all_wait(server, plan.waiting_miners)
        waiting_mb = [server.rss_mb()]
        client.do("dispatch", per_s=plan.dispatch_per_s, seconds=1)  # warms both up; not counted
        rounds = []
        for _ in range(plan.rounds):
            rounds.append(client.do("dispatch", per_s=plan.dispatch_per_s, seconds=plan.dispatch_s))
            waiting_mb.append(server.rss_mb())
        client.do("leave")
    detail = medians(rounds)
    return [
        median_figure("dispatch_p50", engine, "ms", (one["p50_ms"] for one in rounds), **detail),
        median_figure("dispatch_p99", engine, "ms", (one["p99_ms"] for one in rounds), **detail),
        # The most it ever had, not the median: memory must suffice at every moment.
        Figure("memory", engine, "MB", max(waiting_mb), waiting_mb, {"at_start_mb": at_start_mb}),
    ]


def _until_all_wait(server: Coordinator, count: int) -> None:
    until = time.monotonic() + GATHER_S
    while server.metric("aitbc_waiting_polls") < count:
        if time.monotonic() > until:
            raise MeasurementFailed(f"after {GATHER_S:.0f} s not all of {count} miners wait")
        time.sleep(0.1)
    time.sleep(1)
