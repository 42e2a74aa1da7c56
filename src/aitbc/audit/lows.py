"""The least that an account had in a time, from its transfers one by one."""

from __future__ import annotations

from sqlalchemy import text

from aitbc.coordinator.database import Tx, statement

MOVED = "kind IN ('mint', 'transfer', 'post', 'fee')"
BALANCE = statement(
    text(
        "SELECT (SELECT COALESCE(SUM(amount_units), 0) FROM transfers WHERE credit_id = :account"
        f" AND created_at_ms < :before AND {MOVED}) - (SELECT COALESCE(SUM(amount_units), 0) FROM transfers"
        f" WHERE debit_id = :account AND created_at_ms < :before AND {MOVED}) AS units"
    )
)
STEPS = statement(
    text(
        "SELECT created_at_ms, SUM(units) AS units FROM (SELECT created_at_ms, amount_units AS units FROM transfers"
        f" WHERE credit_id = :account AND created_at_ms >= :since AND created_at_ms < :before AND {MOVED}"
        " UNION ALL SELECT created_at_ms, -amount_units AS units FROM transfers"
        f" WHERE debit_id = :account AND created_at_ms >= :since AND created_at_ms < :before AND {MOVED}) moved"
        " GROUP BY created_at_ms ORDER BY created_at_ms"
    )
)


def balance_before(tx: Tx, account: str, before_ms: int) -> int:
    """What the account had before a moment, base units."""
    return int(tx.one(BALANCE, account=account, before=before_ms).units)


def least(tx: Tx, account: str, since_ms: int, before_ms: int, balance: int | None = None) -> int:
    """The least that the account had in a time, base units. `balance`: what it began with, where that is known."""
    had = balance_before(tx, account, since_ms) if balance is None else balance
    found = had
    for step in tx.all(STEPS, account=account, since=since_ms, before=before_ms):
        had += int(step.units)
        found = min(found, had)
    return found
