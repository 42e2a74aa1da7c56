"""The GPU market when it is large: its pages, a round of its clock, and what booked GPUs cost others' claims."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from benchmarks import market
from benchmarks.databases import Databases
from benchmarks.figures import Figure, Plan, median_figure
from benchmarks.rows.claims import Queue

BOOKED = 1_000


def measure(plan: Plan, databases: Databases, folder: Path) -> list[Figure]:
    """Pages over HTTP, then the clock, then claims, each on databases of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    engine = databases.engine
    sizes = (plan.market_gpus, plan.market_orders, plan.explorer_requests)
    found = market.pages_ms(databases.fresh(), folder / "home", *sizes)
    prices = found.pop(market.PRICES)
    worst = max(page["p99"] for page in found.values())
    rounds = market.pass_ms(databases.fresh(), plan.open_bookings, plan.rounds)
    return [
        median_figure("market_p99", engine, "ms", [worst], pages=found),
        median_figure("pricing_p99", engine, "ms", [prices["p99"]], pages={market.PRICES: prices}),
        median_figure("market_pass", engine, "ms", rounds),
        _claims(plan, databases),
    ]


def _claims(plan: Plan, databases: Databases) -> Figure:
    """The rate of claims with BOOKED booked GPUs, and jobs that wait for them, ÷ with none; taking turns."""
    prepared = {"none": databases.fresh(), "booked": databases.fresh()}
    market.execute(
        prepared["booked"].url, market.market_rows(BOOKED, BOOKED, BOOKED, int(time.time() * 1000))
    )
    queues = {name: Queue(one) for name, one in prepared.items()}
    rounds: dict[str, list[float]] = {"none": [], "booked": []}
    try:
        queues["booked"].submit_reserved(min(5_000, plan.pending_jobs // 10), "1000001")
        for number in range(plan.rounds + 1):
            costs: dict[str, list[float]] = {"none": [], "booked": []}
            for queue in queues.values():
                queue.prepare(plan.claims)
            for _ in range(plan.claims):
                for name, queue in queues.items():
                    costs[name].append(queue.claim_us())
            if number:  # the first round compiles statements and warms caches
                for name, took in costs.items():
                    rounds[name].append(statistics.median(took))
    finally:
        for queue in queues.values():
            queue.close()
    ratios = (none / booked for none, booked in zip(rounds["none"], rounds["booked"], strict=True))
    detail = {"none_us": statistics.median(rounds["none"]), "booked_us": statistics.median(rounds["booked"])}
    return median_figure("booked_claims", databases.engine, "ratio", ratios, **detail)
