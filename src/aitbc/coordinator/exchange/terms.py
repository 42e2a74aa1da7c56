"""The exchange's terms, from the settings: what is paid to, at which rate, for how long, how deep."""

from __future__ import annotations

from dataclasses import dataclass

from aitbc.coordinator.bitcoin.addresses import GENESIS, Place, Receiving, named_place
from aitbc.coordinator.config import Settings
from aitbc.coordinator.exchange.states import Needed, tiers
from aitbc.core.bitcoin import MAX_SAT, SAT_PER_BTC, units_of
from aitbc.core.money import MAX_UNITS, parse_ait

MIN_SAT = 1000
"""The least that can be asked for: below it the network's own fee is more than what is paid."""
UNPAID_A_DAY = 5
"""Of an account, times the top-ups that may wait at once: what was never paid is remembered for good."""
MAX_SHARE = 100
MIN_SPREAD, MAX_SPREAD = 100, 10_000
"""Satoshi that a top-up may cost more, so that its amount is its own: a hundredth of it, within these."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a coordinator's exchange goes by. `receiving`: addresses of their own; else `named`, one for all."""

    chain: str
    receiving: Receiving | None
    named: Place | None
    watched: bool
    rate_units: int
    lock_ms: int
    max_open: int
    confirmations: tuple[int, int, int]
    stale_ms: int

    @classmethod
    def of(cls, settings: Settings) -> Terms:
        key, address, chain = settings.bitcoin_xpub, settings.bitcoin_address, settings.bitcoin_network
        return cls(
            chain=chain,
            receiving=Receiving(key, chain) if key else None,
            named=named_place(address, chain)[0] if address else None,
            watched=bool(settings.bitcoin_rpc_url or settings.bitcoin_esplora_url),
            rate_units=parse_ait(settings.btc_to_aitbc_rate),
            lock_ms=int(settings.topup_lock_s * 1000),
            max_open=settings.max_open_topups,
            confirmations=settings.confirmations,
            stale_ms=int(max(900, 30 * settings.bitcoin_interval_s) * 1000),
        )

    @property
    def pays_to(self) -> bool:
        """Whether there is anything to pay to."""
        return self.receiving is not None or self.named is not None

    @property
    def needed(self) -> Needed:
        """How many confirmations an amount needs."""
        return tiers(self.confirmations)

    @property
    def max_sat(self) -> int:
        """The most that one top-up can ask for: one transfer has to be able to credit it."""
        return min(MAX_SAT, MAX_UNITS * SAT_PER_BTC // self.rate_units)

    @property
    def genesis(self) -> frozenset[str]:
        """Hashes of the first block of every chain that the addresses could be of."""
        return frozenset(block for block, chain in GENESIS.items() if chain == self.chain)

    def is_creditable(self, sat: int, rate_units: int) -> bool:
        """Whether one transfer can say what so much comes to."""
        return units_of(sat, rate_units) <= MAX_UNITS


def spread(sat: int) -> int:
    """How much more than `sat` a top-up on the common address may cost."""
    return min(MAX_SPREAD, max(MIN_SPREAD, sat // MAX_SHARE))
