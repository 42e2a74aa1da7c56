"""Recomputes the ledger from its transfers. Shares no statement with the code that writes them.

Each check is one query whose rows are the violations, so that the database does the adding up and memory
stays flat however long the history is.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text

from aitbc.database import Tx

SHOWN = 100  # violations listed per check; all are counted

_MOVES = "(kind = 'mint' OR kind = 'transfer' OR kind = 'post' OR kind = 'fee')"

BALANCES = f"""
SELECT a.id, a.balance_units AS stored, COALESCE(m.moved, 0) AS recomputed
FROM accounts a
LEFT JOIN (
    SELECT account_id, SUM(units) AS moved FROM (
        SELECT credit_id AS account_id, amount_units AS units FROM transfers WHERE {_MOVES}
        UNION ALL
        SELECT debit_id, -amount_units FROM transfers WHERE {_MOVES}
    ) sides GROUP BY account_id
) m ON m.account_id = a.id
WHERE a.balance_units <> COALESCE(m.moved, 0)
ORDER BY a.id
"""

HELD = """
SELECT a.id, a.held_units AS stored, COALESCE(h.held, 0) AS recomputed
FROM accounts a
LEFT JOIN (
    SELECT t.debit_id, SUM(t.amount_units) AS held FROM transfers t
    WHERE t.kind = 'hold' AND NOT EXISTS (
        SELECT 1 FROM transfers s WHERE s.hold_id = t.id AND (s.kind = 'post' OR s.kind = 'void')
    ) GROUP BY t.debit_id
) h ON h.debit_id = a.id
WHERE a.held_units <> COALESCE(h.held, 0)
ORDER BY a.id
"""

OVERDRAWN = """
SELECT id, balance_units AS stored, held_units AS recomputed FROM accounts
WHERE kind <> 'mint' AND balance_units < held_units ORDER BY id
"""

SETTLEMENTS = """
SELECT s.hold_id AS id, SUM(CASE WHEN s.kind = 'void' THEN 0 ELSE s.amount_units END) AS stored,
       COALESCE(MAX(h.amount_units), -1) AS recomputed
FROM transfers s LEFT JOIN transfers h ON h.id = s.hold_id AND h.kind = 'hold'
WHERE s.hold_id IS NOT NULL
GROUP BY s.hold_id
HAVING COALESCE(MAX(h.amount_units), -1) < SUM(CASE WHEN s.kind = 'void' THEN 0 ELSE s.amount_units END)
    OR SUM(CASE WHEN s.kind = 'post' OR s.kind = 'void' THEN 1 ELSE 0 END) <> 1
    OR SUM(CASE WHEN s.kind = 'void' THEN s.amount_units ELSE 0 END) NOT IN (0, MAX(h.amount_units))
    OR SUM(CASE WHEN s.debit_id <> h.debit_id THEN 1 ELSE 0 END) > 0
ORDER BY s.hold_id
"""

STRANGERS = """
SELECT t.id, 0 AS stored, 0 AS recomputed FROM transfers t
WHERE NOT EXISTS (SELECT 1 FROM accounts a WHERE a.id = t.debit_id)
   OR NOT EXISTS (SELECT 1 FROM accounts a WHERE a.id = t.credit_id)
ORDER BY t.id
"""

CHECKS: dict[str, tuple[str, str]] = {
    "balances": (
        BALANCES,
        "account {id}: the balance is {stored} units, its transfers add up to {recomputed}",
    ),
    "holds": (HELD, "account {id}: {stored} units are held, its open holds add up to {recomputed}"),
    "overdrafts": (OVERDRAWN, "account {id}: {recomputed} units are held of a balance of {stored}"),
    "settlements": (
        SETTLEMENTS,
        "hold {id}: {stored} units were paid out of {recomputed}, or not exactly once",
    ),
    "accounts": (STRANGERS, "transfer {id}: it names an account that does not exist"),
}


@dataclass
class AuditReport:
    """What was looked at and what is wrong. `problems` is empty where the books are right."""

    accounts: int = 0
    transfers: int = 0
    total_units: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems


def audit(tx: Tx, progress: Callable[[str], object] = lambda _check: None) -> AuditReport:
    """Recomputes every balance and hold. `progress` is called with each check's name as it begins."""
    report = AuditReport()
    counts = tx.query(
        text(
            "SELECT (SELECT COUNT(*) FROM accounts) AS accounts, (SELECT COUNT(*) FROM transfers) AS transfers,"
            " (SELECT COALESCE(SUM(balance_units), 0) FROM accounts) AS total"
        )
    )[0]
    report.accounts, report.transfers = int(counts.accounts), int(counts.transfers)
    report.total_units = int(counts.total)
    if report.total_units != 0:
        report.problems.append(f"all balances add up to {report.total_units} units instead of 0")
    for name, (query, message) in CHECKS.items():
        progress(name)
        rows: list[Any] = tx.query(text(query))
        for row in rows[:SHOWN]:
            report.problems.append(
                message.format(id=row.id, stored=int(row.stored), recomputed=int(row.recomputed))
            )
        if len(rows) > SHOWN:
            report.problems.append(f"{name}: {len(rows) - SHOWN} more like these")
    return report
