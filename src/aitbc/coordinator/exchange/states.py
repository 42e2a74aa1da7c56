"""What a top-up's outputs say about it: its state, what is to be credited, what is to be taken back. Pure.

Two axes. The state says how far the money is, the exception what is not as it was asked for:

    pending    nothing arrived                 seen     something is on its way
    confirmed  what was asked for, or all that arrived, is credited
    expired    the rate's lock ended first     invalid  what was on its way, or credited, is gone again

    none | underpaid | overpaid | late | replaced

Neither keeps anything from being credited: whatever is deep enough in the chain is, whenever it came. Both follow
from the outputs as they are now, so a state can be left again: TRANSITIONS has every way.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aitbc.coordinator.bitcoin.source import COINBASE_MATURITY
from aitbc.core.bitcoin import MAX_SAT

STATES = ("pending", "seen", "confirmed", "expired", "invalid")
EXCEPTIONS = ("none", "underpaid", "overpaid", "late", "replaced")
TRANSITIONS: dict[str, tuple[str, ...]] = {
    "pending": ("seen", "confirmed", "expired", "invalid"),
    "seen": ("pending", "confirmed", "invalid"),
    "confirmed": ("seen", "pending", "invalid"),  # back by a reorganisation alone
    "expired": ("seen", "confirmed", "invalid"),  # paid late after all
    "invalid": ("seen", "confirmed"),  # what was gone came back
}

FINAL_DEPTH = 100
"""Confirmations from which on an output is not looked at again; no reorganisation is followed further back."""

Needed = Callable[[int], int]
"""How many confirmations an amount in satoshi needs."""


@dataclass(frozen=True, slots=True)
class Output:
    """What is known of one output. Fields as `BitcoinOutput` has them."""

    id: str
    sat: int
    height: int = -1
    lost_height: int = -1
    gone: bool = False
    late: bool = False
    coinbase: bool = False
    events: int = 0
    too_large: bool = False
    """No one transfer can credit it: an operator has to."""
    looked_for: bool = True
    """Whether it would have been seen now, were it in a block: only then can it be called lost."""

    @property
    def credited(self) -> bool:
        """Whether a credit of it stands."""
        return self.events % 2 == 1

    @property
    def live(self) -> bool:
        """Whether it counts: it is there, or its credit still stands."""
        return not self.gone or self.credited

    def depth(self, tip_height: int) -> int:
        """Its confirmations: 1 in the chain's last block, 0 in none."""
        return tip_height - self.height + 1 if self.height >= 0 else 0


class Decision(NamedTuple):
    """What follows from the outputs: outpoints to credit and to take back, and where that leaves the top-up.

    `final`: outpoints about which nothing is left to decide.
    """

    state: str
    exception: str
    credit: list[str]
    reverse: list[str]
    final: list[str]


def decide(sat: int, lock_over: bool, outputs: Sequence[Output], tip_height: int, needed: Needed) -> Decision:
    """Of a top-up for `sat`, with all its outputs."""
    asked = needed(_at_stake(outputs, tip_height, needed(MAX_SAT)))
    credit = [
        o.id for o in outputs if not o.credited and not o.too_large and _deep_enough(o, tip_height, asked)
    ]
    reverse = [o.id for o in outputs if o.credited and _lost_for_good(o, tip_height, needed)]
    standing = {o.id for o in outputs if o.credited}.union(credit).difference(reverse)
    live = [o for o in outputs if not o.gone or o.id in standing]
    state = _state(sat, lock_over, outputs, live, standing)
    final = [o.id for o in outputs if _is_final(o, tip_height, o.id in standing, lock_over)]
    return Decision(state, _exception(sat, outputs, live), credit, reverse, final)


def confirmations_asked(outputs: Sequence[Output], sat: int, tip_height: int, needed: Needed) -> int:
    """How many a top-up's outputs need now; before anything arrived, what was asked for would need."""
    return needed(_at_stake(outputs, tip_height, needed(MAX_SAT)) or sat)


def tiers(counts: Sequence[int]) -> Needed:
    """1, 3, 6 as a rule: below 0.01 BTC, below 0.1 BTC, from there on."""
    small, medium, large = counts

    def needed(sat: int) -> int:
        return small if sat < SMALL_SAT else medium if sat < MEDIUM_SAT else large

    return needed


SMALL_SAT = 1_000_000
MEDIUM_SAT = 10_000_000


def _at_stake(outputs: Iterable[Output], tip_height: int, deep: int) -> int:
    """What could be undone together: a payment cut into small outputs needs what it needs whole."""
    return sum(o.sat for o in outputs if o.live and o.depth(tip_height) < deep)


def _deep_enough(output: Output, tip_height: int, asked: int) -> bool:
    return output.depth(tip_height) >= (max(asked, COINBASE_MATURITY) if output.coinbase else asked)


def _lost_for_good(output: Output, tip_height: int, needed: Needed) -> bool:
    """Its block left the chain, and what took the block's place is as deep as a credit of it would have to be."""
    return output.looked_for and output.height < 0 and tip_height - output.lost_height >= needed(output.sat)


def _state(
    sat: int, lock_over: bool, outputs: Sequence[Output], live: Sequence[Output], standing: set[str]
) -> str:
    if live:
        credited = sum(o.sat for o in live if o.id in standing)
        return "confirmed" if credited >= sat or all(o.id in standing for o in live) else "seen"
    if not lock_over:
        return "pending"
    return "invalid" if outputs else "expired"


def _exception(sat: int, outputs: Sequence[Output], live: Sequence[Output]) -> str:
    if not live:
        return "replaced" if outputs else "none"
    if any(o.late for o in live):
        return "late"
    arrived = sum(o.sat for o in live)
    if arrived == sat:
        return "none"
    return "underpaid" if arrived < sat else "overpaid"


def _is_final(output: Output, tip_height: int, credited: bool, lock_over: bool) -> bool:
    if output.gone:
        return not credited and lock_over
    return credited and output.depth(tip_height) >= FINAL_DEPTH
