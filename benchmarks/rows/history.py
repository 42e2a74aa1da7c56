"""The rate of whole jobs over a database with a million finished ones, against an empty one."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.databases import Databases
from benchmarks.figures import Figure, Plan, median_figure, medians
from benchmarks.fill import fill_finished
from benchmarks.processes import Coordinator, LoadClient

COUNTING_S = 300.0


def measure(plan: Plan, databases: Databases, folder: Path) -> list[Figure]:
    """Two coordinators take turns, so that whatever else the machine does meets both alike."""
    engine = databases.engine
    empty, full = databases.fresh(), databases.fresh()
    started = time.monotonic()
    fill_finished(full, plan.finished_jobs)
    filled_s = time.monotonic() - started
    options = {"connections": plan.connections, "warm_up_s": plan.warm_up_s, "seconds": plan.seconds}
    with (
        Coordinator(empty, folder / "home-empty") as server_empty,
        Coordinator(full, folder / "home-full") as server_full,
        LoadClient(server_empty) as client_empty,
        LoadClient(server_full) as client_full,
    ):
        server_full.settle(COUNTING_S)  # it counts for the explorer what it finds
        without, with_history = [], []
        # Filling takes far longer than a round, and the two rates are nearly alike: twice the rounds.
        for _ in range(2 * plan.rounds):
            without.append(client_empty.do("whole", **options))
            server_empty.settle()
            with_history.append(client_full.do("whole", **options))
            server_full.settle()
    pairs = zip(with_history, without, strict=True)
    ratios = (full["per_s"] / empty["per_s"] for full, empty in pairs)
    detail = {"with": medians(with_history), "without": medians(without), "filled_s": filled_s}
    return [median_figure("history_ratio", engine, "ratio", ratios, **detail)]
