"""What a claim costs with a backlog of other models' jobs, against an empty queue.

Measured inside the transaction, below HTTP and without the commit: both would only dilute the ratio.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.flows.acts import dispatch
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.core.signing import public_to_text
from benchmarks.client.actors import Miner
from benchmarks.databases import Databases, Prepared
from benchmarks.figures import Figure, Plan, median_figure
from benchmarks.fill import (
    MINER_KEY,
    complete,
    fill_pending,
    flow_context,
    register_one,
    submit_one,
)
from benchmarks.processes import CHAIN_ID, MeasurementFailed

MODEL = "bench-claims"


def measure(plan: Plan, databases: Databases) -> list[Figure]:
    """Claims take turns on the two databases, one by one: what else the machine does meets both alike."""
    prepared = {"empty": databases.fresh(), "full": databases.fresh()}
    fill_pending(prepared["full"], plan.pending_jobs)
    rounds: dict[str, list[float]] = {"empty": [], "full": []}
    queues = {name: Queue(one) for name, one in prepared.items()}
    try:
        for number in range(plan.rounds + 1):
            for queue in queues.values():
                queue.prepare(plan.claims)
            costs: dict[str, list[float]] = {"empty": [], "full": []}
            for _ in range(plan.claims):
                for name, queue in queues.items():
                    costs[name].append(queue.claim_us())
            if number:  # the first round compiles statements and warms caches
                for name, found in costs.items():
                    rounds[name].append(statistics.median(found))
    finally:
        for queue in queues.values():
            queue.close()
    ratios = (full / none for full, none in zip(rounds["full"], rounds["empty"], strict=True))
    detail = {"empty_us": statistics.median(rounds["empty"]), "full_us": statistics.median(rounds["full"])}
    return [median_figure("claim_ratio", databases.engine, "ratio", ratios, **detail)]


class Queue:
    """One database, a miner of the model, and the jobs that it claims in a round."""

    def __init__(self, prepared: Prepared) -> None:
        self._database = Database.open(prepared.url)
        self._ctx = flow_context()
        self._miner = Miner("", "bench-claimer", CHAIN_ID)
        key = public_to_text(self._miner.signing_key.public_bytes)
        self._database.write_sync(register_one, self._miner.miner_id, MODEL, key)

    def close(self) -> None:
        self._database.close()

    def prepare(self, count: int) -> None:
        """Submits as many jobs of the miner's model as are going to be claimed."""
        for _ in range(count):
            self._database.write_sync(submit_one, self._ctx, MODEL)

    def submit_reserved(self, count: int, booking_id: str) -> None:
        """Submits jobs that wait for a booked GPU."""
        for _ in range(count):
            self._database.write_sync(submit_one, self._ctx, MODEL, booking_id)

    def claim_us(self) -> float:
        """What one claim costs, in a transaction of its own, in us. The job is completed afterwards."""
        cost_s, job = self._database.write_sync(self._claim, self._ctx)
        self._database.write_sync(complete, self._ctx, self._miner, job)
        return cost_s * 1e6

    def _claim(self, tx: Tx, ctx: FlowContext) -> tuple[float, Any]:
        started = time.perf_counter()
        taken = dispatch.take(tx, ctx, MINER_KEY, self._miner.miner_id, 1)
        took_s = time.perf_counter() - started
        if not taken.assignments:
            raise MeasurementFailed("there was nothing to claim")
        return took_s, taken.assignments[0].job
