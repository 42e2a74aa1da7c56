"""Payments with Bitcoin: what a round at the chain costs when many are on their way."""

from __future__ import annotations

from benchmarks import exchange
from benchmarks.databases import Databases
from benchmarks.figures import Figure, Plan, median_figure


def measure(plan: Plan, databases: Databases) -> list[Figure]:
    """A round with a new block, all payments still to be decided about; beside it how quickly they are credited."""
    took, credits_per_s = exchange.pass_ms(databases.fresh(), plan.open_payments, plan.rounds)
    return [
        median_figure("exchange_pass", databases.engine, "ms", took, credits_per_s=round(credits_per_s)),
    ]
