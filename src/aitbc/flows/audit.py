"""The whole audit: the ledger's books, and that jobs, receipts and payments tell the same story."""

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import select, text

from aitbc.core import canonical
from aitbc.core.money import price_units
from aitbc.core.signing import decode_b64, public_from_text, verify
from aitbc.database import Tx
from aitbc.ledger.audit import SHOWN, AuditReport
from aitbc.ledger.audit import audit as audit_ledger
from aitbc.receipts.models import Receipt, SigningKey

PAGE = 1_000  # receipts read at once

JOBS_WITHOUT_RECEIPT = """
SELECT j.id FROM jobs j LEFT JOIN receipts r ON r.id = j.receipt_id AND r.job_id = j.id
WHERE j.status = 'completed' AND r.id IS NULL ORDER BY j.id
"""
RECEIPTS_WITHOUT_JOB = """
SELECT r.id FROM receipts r LEFT JOIN jobs j ON j.id = r.job_id AND j.receipt_id = r.id
WHERE j.id IS NULL OR j.status <> 'completed' OR j.price_units <> r.price_units ORDER BY r.id
"""
JOBS_PAID_WRONG = """
SELECT j.id FROM jobs j
LEFT JOIN (
    SELECT hold_id, SUM(amount_units) AS paid FROM transfers WHERE kind = 'post' OR kind = 'fee' GROUP BY hold_id
) p ON p.hold_id = j.hold_id
LEFT JOIN payments m ON m.id = j.hold_id
WHERE j.hold_id <> '' AND COALESCE(p.paid, 0) <> (
    CASE WHEN j.status <> 'completed' THEN 0
         WHEN m.id IS NULL THEN j.price_units
         WHEN m.status = 'escrowed' THEN 0
         ELSE m.price_units - m.refunded_units END
) ORDER BY j.id
"""
HOLDS_LEFT_OPEN = """
SELECT j.id FROM jobs j LEFT JOIN payments m ON m.id = j.hold_id
WHERE j.hold_id <> '' AND j.finished_at_ms IS NOT NULL
  AND NOT (j.status = 'completed' AND m.id IS NOT NULL AND m.status = 'escrowed')
  AND NOT EXISTS (
    SELECT 1 FROM transfers s WHERE s.hold_id = j.hold_id AND (s.kind = 'post' OR s.kind = 'void')
) ORDER BY j.id
"""
CHECKS: dict[str, tuple[str, str]] = {
    "completed jobs": (JOBS_WITHOUT_RECEIPT, "job {id}: it is completed and has no receipt"),
    "receipts' jobs": (RECEIPTS_WITHOUT_JOB, "receipt {id}: its job did not complete at this price"),
    "payments": (JOBS_PAID_WRONG, "job {id}: what was paid for it is not its price"),
    "open holds": (HOLDS_LEFT_OPEN, "job {id}: it has ended and its money is still held"),
}


def audit(tx: Tx, progress: Callable[[str], object] = lambda _check: None) -> AuditReport:
    """`ledger.audit`, and every receipt's signature, price and job."""
    report = audit_ledger(tx, progress)
    for name, (query, message) in CHECKS.items():
        progress(name)
        rows = tx.query(text(query))
        report.problems += [message.format(id=row.id) for row in rows[:SHOWN]]
        if len(rows) > SHOWN:
            report.problems.append(f"{name}: {len(rows) - SHOWN} more like these")
    progress("receipts")
    report.problems += _receipt_problems(tx)
    if tx.dialect == "sqlite":
        progress("foreign keys")
        rows = tx.query(text("PRAGMA foreign_key_check"))
        report.problems += [
            f"{row[0]}: a row points to a {row[2]} that does not exist" for row in rows[:SHOWN]
        ]
    return report


def _receipt_problems(tx: Tx) -> list[str]:
    columns: Any = Receipt.__table__.c  # type: ignore[attr-defined]
    keys = {
        row.id: public_from_text(row.public_key)
        for row in tx.query(select(SigningKey.__table__))  # type: ignore[attr-defined]
    }
    problems: list[str] = []
    last = ""
    while True:
        page = tx.query(select(*columns).where(columns.id > last).order_by(columns.id).limit(PAGE))
        for row in page:
            problem = _receipt_problem(row, keys)
            if problem and len(problems) < SHOWN:
                problems.append(f"receipt {row.id}: {problem}")
        if len(page) < PAGE:
            return problems
        last = page[-1].id


def _receipt_problem(row: Any, keys: dict[str, bytes]) -> str:
    """What is wrong with one receipt's row, or ''."""
    key = keys.get(row.key_id)
    if key is None:
        return "it is signed with a key that is not listed"
    try:
        if not verify(key, row.body.encode(), decode_b64(row.signature)):
            return "its signature does not match"
        body = json.loads(row.body)
        if canonical.encode(body) != row.body.encode():
            return "its text is not canonical"
    except ValueError:
        return "it cannot be read"
    stored = (row.id, row.job_id, row.client_id, row.provider_id, row.miner_id, row.model, row.units)
    named = ("receipt_id", "job_id", "client", "provider", "miner_id", "model", "units")
    if stored != tuple(body.get(name) for name in named) or str(row.price_units) != body.get("price_units"):
        return "its columns differ from what was signed"
    if row.price_units != price_units(row.units, int(body["unit_price_units"])):
        return "its price is not units times unit price"
    return ""
