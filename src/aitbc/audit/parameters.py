"""The history of the network's parameters: each change follows the one before, and says what was in force when."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from aitbc.audit.findings import Wrong
from aitbc.core.money import UNITS_PER_AIT, fee_units
from aitbc.core.receipt.proof import VALIDITY_TOLERANCE_MS

DAY_S = 86_400
KNOWN = {
    "fee_bps": (250, 5_000, 0),
    "default_price_per_1k_tokens": (UNITS_PER_AIT // 100, 1_000_000 * UNITS_PER_AIT, 0),
    "default_max_price_per_1k_tokens": (UNITS_PER_AIT // 10, 1_000_000 * UNITS_PER_AIT, 0),
    "min_transaction_fee": (UNITS_PER_AIT // 1_000, 1_000 * UNITS_PER_AIT, 0),
    "lease_s": (60, 3_600, 30),
    "governance_quorum_bps": (1_000, 10_000, 100),
    "governance_threshold_bps": (5_000, 9_000, 5_000),
    "governance_delay_s": (DAY_S, 30 * DAY_S, 60),
    "governance_voting_s": (7 * DAY_S, 90 * DAY_S, 3_600),
    "governance_extension_s": (DAY_S, 30 * DAY_S, 0),
    "governance_timelock_s": (2 * DAY_S, 90 * DAY_S, 3_600),
    "governance_window_s": (14 * DAY_S, 90 * DAY_S, DAY_S),
    "governance_deposit": (100 * UNITS_PER_AIT, 1_000_000 * UNITS_PER_AIT, 0),
    "governance_min_power": (100 * UNITS_PER_AIT, 1_000_000 * UNITS_PER_AIT, 0),
    "governance_age_s": (7 * DAY_S, 90 * DAY_S, 0),
}
"""Each parameter's default, its highest and its lowest value."""
FEE = "fee_bps"


class Change(NamedTuple):
    """A row of `parameter_changes`, or the leaf of one."""

    number: int
    name: str
    value_before: int | None
    value_after: int
    effective_at_ms: int
    by: str
    reason: str


class History:
    """Takes the changes by number, which is also their order in the log.

    `unknown`: how many were of names that this program does not know; None where there may be none of these.
    """

    def __init__(self, unknown: int | None = None) -> None:
        self.unknown = unknown
        self._last = 0
        self._newest_ms = 0
        self._times: dict[str, list[int]] = {}
        self._values: dict[str, list[int | None]] = {}  # by name: before the first change, then after each

    def take(self, change: Change) -> None:
        """Raises Wrong."""
        number, name = change.number, change.name
        if fault := self._fault(change):
            raise Wrong("parameter", number, fault)
        if name not in KNOWN and self.unknown is not None:
            self.unknown += 1
        self._last, self._newest_ms = number, change.effective_at_ms
        self._times.setdefault(name, []).append(change.effective_at_ms)
        self._values.setdefault(name, [change.value_before]).append(change.value_after)

    def _fault(self, change: Change) -> str:
        number, name, before, after, at_ms, by, reason = change
        if any(type(value) is not int for value in (number, after, at_ms)) or type(before) not in (
            int,
            type(None),
        ):
            return "a number of it is none"
        if number != self._last + 1:
            return f"the change before it has the number {self._last}"
        if at_ms < self._newest_ms:
            return "it came into force before the change before it"
        if not all(isinstance(text, str) and text for text in (name, by, reason)):
            return "it has no name, nobody made it, or it has no reason"
        if name in KNOWN:
            if not all(
                KNOWN[name][2] <= value <= KNOWN[name][1] for value in (before, after) if value is not None
            ):
                return f"{name} cannot be {after}, or have been {before}"
        elif self.unknown is None:
            return f"there is no parameter {name[:64]}"
        was = self._values[name][-1] if name in self._values else _first(name, before)
        if before != was:
            return f"{name} was {was} before it, and it says {before}"
        return f"{name} was {after} before it as well" if before == after else ""

    def around(self, name: str, at_ms: int) -> list[int | None]:
        """What the parameter was at about this time; None among it: not known.

        About: coordinators' clocks differ, and one that was wrong is set back.
        """
        times, values = self._times.get(name, []), self._values.get(name, [KNOWN[name][0]])
        first, last = (
            bisect_right(times, at_ms + more) for more in (-VALIDITY_TOLERANCE_MS, VALIDITY_TOLERANCE_MS)
        )
        return values[first : last + 1]


def explains(shares: list[int | None], price_units: int, charged_units: int) -> bool:
    """Whether what was charged of a price is one of these shares (basis points; None: not known, so any)."""
    return any(bps is None or charged_units == fee_units(price_units, bps) for bps in shares)


def listed(shares: list[int | None]) -> str:
    """Shares for a finding."""
    return " or ".join("unknown" if bps is None else str(bps) for bps in shares)


def _first(name: str, said: int | None) -> int | None:
    """What a parameter was before its first change: its default, unless that change is from before there was a history,
    or the default is not known here."""
    return said if said is None or name not in KNOWN else KNOWN[name][0]
