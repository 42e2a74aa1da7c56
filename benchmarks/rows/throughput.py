"""Whole jobs per second: one by one against a request that does nothing, in batches, and one at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.databases import Databases
from benchmarks.figures import Figure, Plan, median_figure, medians
from benchmarks.processes import Coordinator, LoadClient

NO_OPS = {"noop": "/bench/noop", "endpoint": "/bench/endpoint"}


def measure(plan: Plan, databases: Databases, folder: Path) -> list[Figure]:
    """Rounds take turns, so that whatever else the machine does meets all of them alike."""
    engine = databases.engine
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in (*NO_OPS, "whole", "batch", "single")}
    timing = {"warm_up_s": plan.warm_up_s, "seconds": plan.seconds}
    # A batch takes a second or more: a short window would count to within too few of them.
    longer = {**timing, "seconds": 3 * plan.seconds}
    with Coordinator(databases.fresh(), folder / "home") as server, LoadClient(server) as client:
        for _ in range(plan.rounds):
            for name, path in NO_OPS.items():
                rounds[name].append(client.do("noop", path=path, connections=plan.connections, **timing))
            rounds["single"].append(client.do("whole", connections=1, model="bench-single", **timing))
            rounds["whole"].append(client.do("whole", connections=plan.connections, **timing))
            rounds["batch"].append(
                client.do("batch", connections=plan.batch_connections, size=plan.batch_size, **longer)
            )
            server.settle()
    rates = {name: [one["per_s"] for one in measured] for name, measured in rounds.items()}
    details = {name: medians(measured) for name, measured in rounds.items()}

    def ratio(row: str, no_op: str) -> Figure:
        pairs = zip(rates["whole"], rates[no_op], strict=True)
        return median_figure(row, engine, "ratio", (whole / (other / 3) for whole, other in pairs))

    return [
        ratio("whole_to_noop", "noop"),
        ratio("whole_to_endpoint", "endpoint"),
        median_figure("whole", engine, "jobs/s", rates["whole"], **details["whole"]),
        median_figure("noop", engine, "requests/s", rates["noop"], **details["noop"]),
        median_figure("endpoint", engine, "requests/s", rates["endpoint"], **details["endpoint"]),
        median_figure("batch", engine, "jobs/s", rates["batch"], **details["batch"]),
        median_figure("single", engine, "jobs/s", rates["single"], **details["single"]),
    ]
