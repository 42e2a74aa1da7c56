"""From results to the table of README.md."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import ENGINES

README = Path(__file__).parent / "README.md"
RESULTS = Path(__file__).parent / "results.json"
MARKED = re.compile(r"(<!-- results -->\n).*?(<!-- end of results -->)", re.DOTALL)


@dataclass(frozen=True)
class Row:
    """One line of the table. `limit` None: shown for information."""

    name: str
    text: str
    limit: float | None = None
    holds: Callable[[float, float], bool] = operator.ge
    digits: int = 0
    unit: str = ""

    def required(self) -> str:
        if self.limit is None:
            return ""
        sign = "≥" if self.holds is operator.ge else "≤"
        return f"{sign} {self.limit:,g}{self.unit}"


ROWS = (
    Row("whole_to_noop", "whole jobs/s ÷ (no-op POST/s ÷ 3)", 0.65, digits=2),
    Row("batch", "whole jobs/s through the batch endpoints", 3000),
    Row("dispatch_p50", "submit → a waiting miner has it, p50", 5, operator.le, 1, " ms"),
    Row("dispatch_p99", "submit → a waiting miner has it, p99", 25, operator.le, 1, " ms"),
    Row("claim_ratio", "claim cost, 100,000 other jobs pending ÷ none", 1.2, operator.le, 2),
    Row("history_ratio", "whole jobs/s with 1,000,000 finished jobs ÷ with none", 0.9, digits=2),
    Row("memory", "memory with 1,000 waiting miners", 250, operator.le, 0, " MB"),
    Row("verify", "receipt verifications/s, offline, one core", 3000),
    Row("log_ratio", "whole jobs/s with the log ÷ without", 0.9, digits=2),
    Row("seal_ratio", "seal 1,000 leaves at 1,000,000 leaves ÷ at 1,000", 1.5, operator.le, 2),
    Row("seal_large", "seal 1,000 leaves at 1,000,000 leaves", 50, operator.le, 1, " ms"),
    Row("proof_p99", "inclusion proof from 1,000,000 leaves, p99", 10, operator.le, 1, " ms"),
    Row("audit_rate", "full audit, leaves per second of one core", 5000),
    Row("audit_memory", "full audit, most memory", 300, operator.le, 0, " MB"),
    Row("explorer_p99", "slowest explorer page at 1,000,000 transactions, p99", 30, operator.le, 1, " ms"),
    Row("market_p99", "slowest list of 100,000 GPUs and 1,000,000 orders, p99", 30, operator.le, 1, " ms"),
    Row(
        "pricing_p99", "prices of a model, 100,000 GPUs and 1,000,000 orders, p99", 30, operator.le, 1, " ms"
    ),
    Row("exchange_pass", "a round at the Bitcoin chain, 10,000 open payments", 1000, operator.le, 0, " ms"),
    Row("market_pass", "a round of the market's clock, 10,000 open bookings", 1000, operator.le, 0, " ms"),
    Row("booked_claims", "claims/s with 1,000 booked GPUs ÷ with none", 0.95, digits=2),
    Row("power_p99", "an account's voting power at 1,000,000 accounts, p99", 30, operator.le, 1, " ms"),
    Row("whole", "whole jobs/s, 32 connections"),
    Row("single", "whole jobs/s, one connection, one job at a time"),
    Row("noop", "no-op POST/s as FastAPI runs it"),
    Row("endpoint", "no-op POST/s on our own router"),
    Row("whole_to_endpoint", "whole jobs/s ÷ (no-op POST/s on our own router ÷ 3)", digits=2),
)
PEERS = (
    ("AITBC, SQLite, over HTTP", "sqlite", "single", "whole"),
    ("AITBC, PostgreSQL, over HTTP", "postgresql", "single", "whole"),
    ("Celery on Redis, `appendfsync always`", "celery", "peer_single", "peer_whole"),
    ("Procrastinate on PostgreSQL", "procrastinate", "peer_single", "peer_whole"),
)

Figures = dict[tuple[str, str], dict[str, Any]]


def by_name(results: dict[str, Any]) -> Figures:
    return {(one["row"], one["engine"]): one for one in results["figures"]}


def shown(figure: dict[str, Any] | None, row: Row) -> str:
    """A figure as the table has it: the median, and the range of its rounds."""
    if figure is None:
        return ""
    if figure["value"] is None:
        return f"not measured: {figure['note']}"
    text = f"{figure['value']:,.{row.digits}f}"
    if row.limit is not None:
        text += " ✓" if row.holds(figure["value"], row.limit) else " ✗"
    rounds = figure["rounds"]
    if len(rounds) > 1:
        text += f" ({min(rounds):,.{row.digits}f} to {max(rounds):,.{row.digits}f})"
    return text


def table(results: dict[str, Any]) -> str:
    """The tables of one run, as Markdown."""
    figures = by_name(results)
    lines = ["| figure | must reach | SQLite | PostgreSQL |", "| --- | --- | --- | --- |"]
    for row in ROWS:
        offline = figures.get((row.name, "offline"))
        cells = [shown(offline or figures.get((row.name, engine)), row) for engine in ENGINES]
        if offline is not None:
            cells[1] = "the same"
        if any(cells):
            lines.append(f"| {row.text} | {row.required()} | {cells[0]} | {cells[1]} |")
    rate = Row("", "")
    rates = []
    for text, engine, single, many in PEERS:
        found = [shown(figures.get((name, engine)), rate) for name in (single, many)]
        if any(found):
            rates.append(f"| {text} | {found[0]} | {found[1]} |")
    if rates:
        lines += [
            "",
            "| whole jobs or tasks per second | one at a time | 32 in flight |",
            "| --- | --- | --- |",
        ]
    return "\n".join([*lines, *rates, "", measured_on(results), ""])


def measured_on(results: dict[str, Any]) -> str:
    machine = results["machine"]
    postgres = machine["postgresql"]
    database = (
        f"PostgreSQL {postgres['server_version']} (fsync {postgres['fsync']}, synchronous_commit "
        f"{postgres['synchronous_commit']}, full_page_writes {postgres['full_page_writes']})"
        if postgres
        else "no PostgreSQL"
    )
    stores = sorted({one["detail"]["store"] for one in results["figures"] if "store" in one["detail"]})
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    loads = ", ".join(f"{name} {load}" for name, load in results["load_average"].items())
    return (
        f"Measured {results['at']} at commit {machine['commit']}: {machine['processor']}, {machine['cores']} "
        f"cores, {machine['memory_gb']} GB; an fsync of 4 KiB takes {machine['fsync_ms']} ms. Python "
        f"{machine['python']}, SQLite {machine['sqlite']} (WAL, synchronous=FULL), {database}"
        f"{''.join(f', {store}' for store in stores if store.startswith('Redis'))}; {packages}. "
        f"Medians of {results['rounds']} rounds, in brackets the lowest and the highest. Load average before "
        f"each part: {loads}."
    )


def publish(results: dict[str, Any]) -> None:
    """Puts the tables into README.md."""
    text = README.read_text()
    README.write_text(MARKED.sub(lambda found: f"{found[1]}{table(results)}{found[2]}", text))
