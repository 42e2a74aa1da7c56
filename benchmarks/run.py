"""`python -m benchmarks.run` (`make bench`): measures every row; writes README.md's table and results.json.

`--quick` takes seconds for each row, prints the table and writes nothing. `--only ROWS` measures some parts.
Everything is on the loopback interface and in temporary folders; nothing is left running.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import machine, report
from benchmarks.databases import Databases, Postgres, running_postgres
from benchmarks.figures import ENGINES, Figure, Plan, missing
from benchmarks.processes import MeasurementFailed
from benchmarks.rows import (
    claims,
    dispatch,
    exchange,
    history,
    log,
    market,
    peers,
    power,
    throughput,
    verification,
)

PARTS = (
    "throughput",
    "log",
    "dispatch",
    "claims",
    "history",
    "peers",
    "verification",
    "chain",
    "audit",
    "explorer",
    "market",
    "exchange",
    "governance",
)
FIGURES_OF = {
    "throughput": (
        ("whole_to_noop", "ratio"),
        ("batch", "jobs/s"),
        ("whole", "jobs/s"),
        ("single", "jobs/s"),
    ),
    "log": (("log_ratio", "ratio"),),
    "dispatch": (("dispatch_p50", "ms"), ("dispatch_p99", "ms"), ("memory", "MB")),
    "claims": (("claim_ratio", "ratio"),),
    "history": (("history_ratio", "ratio"),),
    "exchange": (("exchange_pass", "ms"),),
    "market": (
        ("market_p99", "ms"),
        ("pricing_p99", "ms"),
        ("market_pass", "ms"),
        ("booked_claims", "ratio"),
    ),
}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def postgres_if_any(stack_note: list[str]) -> Iterator[Postgres | None]:
    """A PostgreSQL server; None, with the reason in `stack_note`, where there cannot be one."""
    with ExitStack() as stack:
        server: Postgres | None = None
        try:
            server = stack.enter_context(running_postgres())
        except (ImportError, OSError, RuntimeError) as error:
            stack_note.append(f"PostgreSQL did not start: {str(error)[:200]}")
        yield server


def not_measured(parts: tuple[str, ...], engine: str, reason: str) -> list[Figure]:
    """Rows that say why they have no figure."""
    return [missing(row, engine, unit, reason) for part in parts for row, unit in FIGURES_OF.get(part, ())]


class Run:
    """One run: what was measured so far, and under what load."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.figures: list[Figure] = []
        self.loads: dict[str, float | None] = {}

    def part(self, name: str, engine: str, measure: Callable[[], list[Figure]]) -> None:
        """Measures one part; a failure becomes figures that say so, and the run goes on."""
        label = f"{name} ({engine})" if engine else name
        self.loads[label] = machine.load_average()
        started = time.monotonic()
        try:
            found = measure()
        except MeasurementFailed as error:
            say(f"{label} failed: {error}")
            reason = str(error).splitlines()[0][:200]
            found = not_measured((name,), engine, reason)
        self.figures += found
        took_s = time.monotonic() - started
        shown = ", ".join(f"{one.row} {'-' if one.value is None else f'{one.value:.6g}'}" for one in found)
        say(f"{label}: {shown} [{took_s:.0f} s, load {self.loads[label]}]")

    def results(self, described: dict[str, Any]) -> dict[str, Any]:
        return {
            "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "rounds": self.plan.rounds,
            "quick": self.plan.quick,
            "machine": described,
            "load_average": self.loads,
            "figures": [figure.as_json() for figure in self.figures],
        }


def measure_all(plan: Plan, parts: tuple[str, ...], engines: tuple[str, ...]) -> dict[str, Any]:
    """Every part asked for, on every engine asked for."""
    run = Run(plan)
    notes: list[str] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aitbc-bench-")))
        wants_postgres = "postgresql" in engines or "peers" in parts
        postgres = stack.enter_context(postgres_if_any(notes)) if wants_postgres else None
        for engine in engines:
            if engine == "postgresql" and postgres is None:
                run.figures += not_measured(parts, engine, notes[0])
                continue
            databases = Databases(folder, postgres if engine == "postgresql" else None)
            _measure_engine(run, parts, databases, folder / engine)
        if "peers" in parts:
            run.part("peers", "", lambda: peers.measure(plan, postgres, folder / "redis"))
        if "verification" in parts:
            run.part("verification", "", lambda: verification.measure(plan))
        for name, measure in (
            ("chain", log.measure_sealing),
            ("audit", log.measure_audit),
            ("explorer", log.measure_explorer),
            ("governance", power.measure),
        ):
            if name in parts:
                run.part(name, "", partial(measure, plan, folder / name))
        described = machine.describe(postgres.settings() if postgres else {})
    return run.results(described)


def _measure_engine(run: Run, parts: tuple[str, ...], databases: Databases, folder: Path) -> None:
    plan, engine = run.plan, databases.engine
    if "throughput" in parts:
        run.part("throughput", engine, lambda: throughput.measure(plan, databases, folder / "throughput"))
    if "log" in parts:
        run.part("log", engine, lambda: log.measure_cost(plan, databases, folder / "log"))
    if "dispatch" in parts:
        run.part("dispatch", engine, lambda: dispatch.measure(plan, databases, folder / "dispatch"))
    if "claims" in parts:
        run.part("claims", engine, lambda: claims.measure(plan, databases))
    if "history" in parts:
        run.part("history", engine, lambda: history.measure(plan, databases, folder / "history"))
    if "market" in parts:
        run.part("market", engine, lambda: market.measure(plan, databases, folder / "market"))
    if "exchange" in parts:
        run.part("exchange", engine, lambda: exchange.measure(plan, databases))


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    options.add_argument("--quick", action="store_true", help="a few seconds for each row; writes nothing")
    options.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    options.add_argument("--engines", default=",".join(ENGINES), help="sqlite, postgresql or both")
    options.add_argument("--output", type=Path, help="also write the results there, as JSON")
    given = options.parse_args()
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parts, engines = tuple(given.only.split(",")), tuple(given.engines.split(","))
    if unknown := {*parts} - {*PARTS} | {*engines} - {*ENGINES}:
        options.error(f"unknown: {', '.join(sorted(unknown))}")
    plan = Plan.for_development() if given.quick else Plan()
    results = measure_all(plan, parts, engines)
    if given.output is not None:
        given.output.write_text(json.dumps(results, indent=1) + "\n")
    print(report.table(results))
    if not given.quick and set(parts) == set(PARTS) and set(engines) == set(ENGINES):
        report.RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        report.publish(results)
        say(f"written to {report.README} and {report.RESULTS}")


if __name__ == "__main__":
    main()
