"""What a miner is told when it starts, and the limits it keeps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aitbc.sdk.networks import is_network_id

MINER_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
MAX_CONCURRENCY = 256


@dataclass(frozen=True, slots=True)
class MinerSettings:
    """One miner's settings. Times in seconds, prices in base units per 1000 tokens.

    `prices_units` names a price for single models; `price_units` is for the rest; None leaves it to the
    network's default. `job_timeout_s` ends a job that an engine does not finish; `drain_grace_s` is how long
    a stopping miner lets running jobs finish; `flush_grace_s` how long it then still tries to deliver.
    `takeover`: register also where a miner of this id is alive on another machine. `network_id` (hex) is the network
    to sign results for; None: the one that the coordinator named when this home first met it.
    """

    coordinator: str
    key: str
    home: Path
    miner_id: str | None = None
    price_units: int | None = None
    prices_units: Mapping[str, int] = field(default_factory=dict)
    region: str | None = None
    concurrency: int = 1
    job_timeout_s: float = 600.0
    drain_grace_s: float = 30.0
    flush_grace_s: float = 5.0
    poll_wait_s: float = 30.0
    refresh_s: float = 30.0
    takeover: bool = False
    network_id: str | None = None
    backoff_min_s: float = 0.5
    backoff_max_s: float = 30.0

    def __post_init__(self) -> None:
        if not self.coordinator.startswith(("http://", "https://")):
            raise ValueError(
                f"the coordinator's address begins with http:// or https://, not {self.coordinator!r}"
            )
        if not self.key:
            raise ValueError("a miner needs a key (aitbc keys create --role miner)")
        if self.miner_id is not None and not MINER_ID.fullmatch(self.miner_id):
            raise ValueError("a miner's id has 1 to 64 of the characters A-Z a-z 0-9 . _ -")
        if self.network_id is not None and not is_network_id(self.network_id):
            raise ValueError("a network's id is 64 lower-case hex digits")
        if not 1 <= self.concurrency <= MAX_CONCURRENCY:
            raise ValueError(f"concurrency is 1 to {MAX_CONCURRENCY}")
        if self.job_timeout_s <= 0 or self.drain_grace_s < 0:
            raise ValueError("time limits are positive")

    def price_for(self, model: str) -> int | None:
        """The price asked for `model`, base units per 1000 tokens; None for the network's default."""
        prices = self.prices_units
        return prices.get(model, prices.get(model.removesuffix(":latest"), self.price_units))
