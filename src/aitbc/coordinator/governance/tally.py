"""What votes come to. Pure: integers in, a word out."""

from typing import NamedTuple

BPS = 10_000
VETO_PART = 3
"""A veto by one part of so many of all votes cast rejects a proposal, and its deposit is lost."""


class Tally(NamedTuple):
    """The power of who votes so, base units."""

    for_units: int
    against_units: int
    abstain_units: int
    veto_units: int

    @property
    def cast_units(self) -> int:
        return sum(self)


class Outcome(NamedTuple):
    """What a vote came to: `passed`, `rejected` or `expired`, whether the deposit is given back, and why."""

    result: str
    deposit_back: bool
    why: str


def outcome(tally: Tally, quorum_units: int, threshold_bps: int) -> Outcome:
    """Without its quorum a proposal expires; with a third of the vote against it by veto it is rejected.

    Else it passes where more than `threshold_bps` of the votes for, against and veto are for it.
    """
    if tally.cast_units < max(1, quorum_units):
        return Outcome("expired", False, "the quorum was missed")
    if tally.veto_units * VETO_PART >= tally.cast_units:
        return Outcome("rejected", False, "a third of the vote was a veto")
    decided = tally.for_units + tally.against_units + tally.veto_units
    if tally.for_units * BPS > threshold_bps * decided:
        return Outcome("passed", True, "enough of the vote was for it")
    return Outcome("rejected", True, "not enough of the vote was for it")
