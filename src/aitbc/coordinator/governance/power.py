"""Voting power: what an account held all the time, and how much can vote at all."""

from aitbc.coordinator.database import Tx
from aitbc.coordinator.ledger import lows
from aitbc.coordinator.ledger.models import MINT, TREASURY

SYSTEM_PREFIX = "system:"


def of(tx: Tx, account_id: str, snapshot_ms: int, age_ms: int) -> int:
    """The account's own power at a snapshot, base units: the least that it had in the `age_ms` before it.

    Held money counts as its owner's. What was borrowed, moved or bought within that time votes for nothing; so do the
    system's accounts. 0 for an account that is not there. Final where the books are closed up to the snapshot.
    """
    if account_id.startswith(SYSTEM_PREFIX):
        return 0
    return max(0, lows.lowest(tx, account_id, max(0, snapshot_ms - age_ms), snapshot_ms))


def eligible(tx: Tx, snapshot_ms: int) -> int:
    """All AIT that was made by the snapshot and is not in the treasury, base units."""
    return -lows.balance_at(tx, MINT, snapshot_ms) - lows.balance_at(tx, TREASURY, snapshot_ms)
