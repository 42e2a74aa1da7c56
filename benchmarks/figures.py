"""What a measurement comes to: a figure with its rounds, and how rounds become one number."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

ENGINES = ("sqlite", "postgresql")


@dataclass
class Plan:
    """How much to measure. `quick` is for development: seconds instead of minutes, not to be published."""

    quick: bool = False
    rounds: int = 5
    warm_up_s: float = 1.0
    seconds: float = 5.0
    connections: int = 32
    batch_connections: int = 5
    batch_size: int = 1000
    waiting_miners: int = 1000
    dispatch_per_s: float = 100
    dispatch_s: float = 12
    pending_jobs: int = 100_000
    claims: int = 200
    finished_jobs: int = 1_000_000
    verifications: int = 4000
    peer_tasks: int = 1500
    log_leaves: int = 1_000_000
    audited_leaves: int = 100_000
    explored_transactions: int = 1_000_000
    explorer_requests: int = 300
    market_gpus: int = 100_000
    market_orders: int = 1_000_000
    open_bookings: int = 10_000
    open_payments: int = 10_000
    voting_accounts: int = 1_000_000

    @classmethod
    def for_development(cls) -> Plan:
        return cls(
            quick=True,
            rounds=3,
            warm_up_s=0.5,
            seconds=1.5,
            waiting_miners=300,
            dispatch_s=3,
            pending_jobs=20_000,
            claims=100,
            finished_jobs=20_000,
            verifications=1000,
            peer_tasks=150,
            log_leaves=50_000,
            audited_leaves=4_000,
            explored_transactions=20_000,
            explorer_requests=50,
            market_gpus=10_000,
            market_orders=50_000,
            open_bookings=10_000,
            open_payments=10_000,
            voting_accounts=20_000,
        )


@dataclass
class Figure:
    """One number of one engine (or peer): the median of its rounds. `note` says why there is none."""

    row: str
    engine: str
    unit: str
    value: float | None = None
    rounds: list[float] = field(default_factory=list)
    detail: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def median_figure(row: str, engine: str, unit: str, rounds: Iterable[float], **detail: Any) -> Figure:
    values = list(rounds)
    return Figure(row, engine, unit, statistics.median(values), values, detail)


def missing(row: str, engine: str, unit: str, note: str) -> Figure:
    """A figure that could not be measured here, and why."""
    return Figure(row, engine, unit, None, [], {}, note)


def medians(rounds: list[dict[str, Any]]) -> dict[str, float]:
    """The median of every number that all rounds have."""
    names = [name for name, value in rounds[0].items() if isinstance(value, int | float)]
    return {
        name: round(statistics.median(values), 4)
        for name in names
        if len(values := [one[name] for one in rounds if isinstance(one.get(name), int | float)])
        == len(rounds)
    }
