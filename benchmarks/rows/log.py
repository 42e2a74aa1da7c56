"""The log's figures: what it costs whole jobs, sealing and proofs at size, the audit, the explorer's pages."""

from __future__ import annotations

from pathlib import Path

from benchmarks import audit, chain, explorer
from benchmarks.databases import Databases
from benchmarks.figures import Figure, Plan, median_figure, medians
from benchmarks.processes import Coordinator, LoadClient

WITHOUT_LOG = {"BENCH_WITHOUT_LOG": "1"}


def measure_cost(plan: Plan, databases: Databases, folder: Path) -> list[Figure]:
    """Whole jobs per second with the log, and with a coordinator that appends and seals nothing, in turn."""
    options = {"connections": plan.connections, "warm_up_s": plan.warm_up_s, "seconds": plan.seconds}
    with (
        Coordinator(databases.fresh(), folder / "home-log") as server_with,
        Coordinator(databases.fresh(), folder / "home-bare", WITHOUT_LOG) as server_without,
        LoadClient(server_with) as client_with,
        LoadClient(server_without) as client_without,
    ):
        without, with_log = [], []
        for _ in range(plan.rounds):
            without.append(client_without.do("whole", **options))
            with_log.append(client_with.do("whole", **options))
            server_with.settle()  # what it has still to seal and count is not the other's to bear
    pairs = zip(with_log, without, strict=True)
    ratios = (logged["per_s"] / bare["per_s"] for logged, bare in pairs)
    detail = {"with": medians(with_log), "without": medians(without)}
    return [median_figure("log_ratio", databases.engine, "ratio", ratios, **detail)]


def measure_sealing(plan: Plan, folder: Path) -> list[Figure]:
    """Seals of 1,000 leaves and inclusion proofs in a log of a million leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    found = chain.measure(folder, plan.log_leaves)
    units = {target.name: target.unit for target in chain.TARGETS}
    return [median_figure(name, "sqlite", units[name], [value]) for name, value in found.items()]


def measure_audit(plan: Plan, folder: Path) -> list[Figure]:
    """A full audit of a database that the program itself made, in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    url = audit.fill(folder, plan.audited_leaves)
    found = audit.measured_apart(url)
    return [
        median_figure(
            "audit_rate", "sqlite", "leaves/s", [found["leaves_per_cpu_s"]], leaves=found["leaves"]
        ),
        median_figure("audit_memory", "sqlite", "MB", [found["peak_mb"]]),
    ]


def measure_explorer(plan: Plan, folder: Path) -> list[Figure]:
    """The slowest kind of explorer page over a million transactions, at random depth."""
    folder.mkdir(parents=True, exist_ok=True)
    found = explorer.measure(folder, plan.explored_transactions, plan.explorer_requests)
    pages: dict[str, dict[str, float]] = found["pages"]  # type: ignore[assignment]
    worst = max(page["p99"] for page in pages.values())
    return [median_figure("explorer_p99", "sqlite", "ms", [worst], pages=pages)]
