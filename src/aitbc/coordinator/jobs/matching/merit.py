"""What a miner costs its client, all told: price, time and tries in one number. Pure, integers only."""

from typing import NamedTuple

REPUTATION_STEP = 500
"""Reputations in the same step of so many basis points are alike."""

SECOND_UNITS = 100_000
"""What a second's wait for 1000 tokens is worth, base units: ten seconds weigh as much as the default price."""

ASSUMED_TOKENS = 1_000
ASSUMED_MS = 20_000
"""What is assumed of a miner before it has answered, and forgotten bit by bit as it does."""


class Merit(NamedTuple):
    """What a miner has done lately, with the older half forgotten now and then (`miners.standing`).

    delivered answers, of `units` tokens in `run_ms`; failed ones; `proven`: trusted with many leases at once;
    `reputation` in basis points, within the bounds that dispatch has (`miners.reputation`).
    """

    delivered: int = 0
    failed: int = 0
    run_ms: int = 0
    units: int = 0
    proven: bool = False
    reputation: int = 0

    def cost(self, price_units: int) -> int:
        """The score that the waiting miners are ordered by, least first, base units for 1000 tokens:

            (price + SECOND_UNITS x seconds for 1000 tokens) x tries for one answer

        Tries are (delivered + failed + 2) / (delivered + 1): 2 for a newcomer, nearly 1 for one that never
        fails. A price of zero saves the price and nothing else.
        """
        run_ms = (self.run_ms + ASSUMED_MS) * 1000 // (self.units + ASSUMED_TOKENS)
        effort = price_units + SECOND_UNITS * run_ms // 1000
        return effort * (self.delivered + self.failed + 2) // (self.delivered + 1)

    @property
    def rank(self) -> int:
        """What miners of the same cost are ordered by, least first: those of a better reputation."""
        return -(self.reputation // REPUTATION_STEP)
