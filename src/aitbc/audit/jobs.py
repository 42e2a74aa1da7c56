"""Jobs against their holds, receipts and payments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
from sqlalchemy import text

from aitbc.audit.books import Settlement
from aitbc.audit.findings import Progress, Report, Wrong
from aitbc.audit.history import Histories
from aitbc.audit.pages import pages
from aitbc.audit.registers import Fee, Work
from aitbc.coordinator.database import Statement, Tx, statement
from aitbc.core.metering import cancelled_units
from aitbc.core.money import fee_units, price_units

PAGE = 500

JOBS = statement(
    text("""
SELECT j.id, j.client_id, j.miner_id, j.job_type, j.model, j.prompt_hash, j.status, j.hold_id, j.held_units,
       j.price_units, j.unit_price_units, j.receipt_id, j.started_at_ms, j.finished_at_ms, j.manual_payment,
       j.prompt_bound, j.completion_bound, j.progress_tokens, j.progress_ms, j.paid_run_ms,
       j.max_price_units, j.fee_bps, j.queued, j.event_count, j.actor, j.cause, j.created_at_ms, p.id AS payment,
       j.key_id, j.spend_period_ms, j.reservation, p.price_units AS payment_price, p.refunded_units, r.provider_id,
       r.units,
       r.id AS receipt, r.created_at_ms AS issued_at_ms, r.body, r.price_units AS receipt_price,
       h.kind AS hold_kind, h.debit_id AS hold_debit, h.amount_units AS hold_units, h.ref AS hold_ref,
       e.id AS end_id, e.kind AS end_kind
FROM jobs j
LEFT JOIN receipts r ON r.job_id = j.id
LEFT JOIN payments p ON p.job_id = j.id
LEFT JOIN transfers h ON h.id = j.hold_id
LEFT JOIN transfers e ON e.hold_id = j.hold_id AND (e.kind = 'post' OR e.kind = 'void')
WHERE j.id > :after ORDER BY j.id LIMIT :count
""")
)
PAYMENTS = statement(
    text("""
SELECT m.id, m.job_id, m.payer_id, m.payee_id, m.status, m.amount_units, m.price_units, m.fee_units,
       m.refunded_units, m.release_after_ms, m.transfer_id, m.created_at_ms, m.updated_at_ms,
       j.id AS job, j.client_id, j.status AS job_status, j.hold_id, j.held_units, j.price_units AS job_price,
       j.created_at_ms AS job_created_ms, n.account_id AS provider, r.body, e.id AS end_id, e.kind AS end_kind,
       j.prompt_bound, j.completion_bound, j.max_price_units, j.finished_at_ms,
       h.created_at_ms AS held_at_ms, e.created_at_ms AS moved_at_ms
FROM payments m
LEFT JOIN jobs j ON j.id = m.job_id
LEFT JOIN receipts r ON r.id = j.receipt_id
LEFT JOIN transfers h ON h.id = m.id AND h.kind = 'hold'
LEFT JOIN miners n ON n.id = j.miner_id
LEFT JOIN transfers e ON e.hold_id = m.id AND (e.kind = 'post' OR e.kind = 'void')
WHERE m.id > :after ORDER BY m.id LIMIT :count
""")
)
SETTLED = statement(
    text("""
SELECT j.id, j.status, j.hold_id, j.price_units, j.fee_bps, r.body, n.account_id AS provider,
       m.status AS payment, m.price_units AS payment_price, m.fee_units AS payment_fee, m.refunded_units
FROM jobs j
LEFT JOIN receipts r ON r.id = j.receipt_id
LEFT JOIN payments m ON m.id = j.hold_id
LEFT JOIN miners n ON n.id = j.miner_id
WHERE j.id = :job
""")
)
COUNTS = statement(
    text(
        "SELECT (SELECT COUNT(*) FROM jobs) AS jobs, (SELECT COUNT(*) FROM receipts) AS receipts,"
        " (SELECT COUNT(*) FROM payments) AS payments"
    )
)
RECEIPT_WITHOUT_JOB = statement(
    text(
        "SELECT r.id FROM receipts r WHERE NOT EXISTS"
        " (SELECT 1 FROM jobs j WHERE j.id = r.job_id AND j.receipt_id = r.id) ORDER BY r.id LIMIT 1"
    )
)


def check_settlement(tx: Tx, ended: Settlement) -> None:
    """What was paid out of a job's hold is its price. Holds for other purposes have no job. Raises Wrong."""
    row = tx.one(SETTLED, job=ended.ref)
    if row is None:
        return
    if row.hold_id != ended.hold_id:
        raise Wrong(
            "job", row.id, f"hold {ended.hold_id} was settled for it, its own is {row.hold_id or 'none'}"
        )
    if ended.kind == "void":
        if row.status == "completed" and row.payment != "refunded":
            raise Wrong("job", row.id, "it is completed and its money went back to the client")
        return
    if row.status == "cancelled" and row.price_units:
        _check_cancelled_payment(row, ended)
        return
    if row.status != "completed" or row.body is None:
        raise Wrong("job", row.id, "it was paid for and is not completed")
    body = orjson.loads(row.body)
    price, fee, payment = row.price_units, int(body["fee_units"]), row.payment
    if payment is not None:
        if payment not in ("released", "partially_refunded"):
            raise Wrong("payment", row.hold_id, f"it was paid and is {payment}")
        price, fee = row.payment_price - row.refunded_units, row.payment_fee
    if ended.total_units != price:
        raise Wrong("job", row.id, f"{ended.total_units} units were paid for it, its price is {price}")
    if ended.fee_units != fee:
        raise Wrong("job", row.id, f"the fee was {ended.fee_units} units instead of {fee}")
    if ended.credit != body["provider"]:
        raise Wrong("job", row.id, f"{ended.credit} was paid for it, its receipt names {body['provider']}")


def _check_cancelled_payment(row: Any, ended: Settlement) -> None:
    """What a run had cost that was cancelled: without a receipt, so it is held to the miner's registration."""
    if ended.total_units != row.price_units:
        what = f"{ended.total_units} units were paid for it, its price is {row.price_units}"
        raise Wrong("job", row.id, what)
    if ended.credit != row.provider:
        raise Wrong("job", row.id, f"{ended.credit} was paid for it, its miner is {row.provider}'s")
    if row.fee_bps is not None and ended.fee_units != fee_units(row.price_units, row.fee_bps):
        what = f"the fee was {ended.fee_units} units, of its price it is {row.fee_bps} basis points"
        raise Wrong("job", row.id, what)
    if row.payment is not None and row.payment_fee != ended.fee_units:
        raise Wrong(
            "payment", row.hold_id, f"the fee was {ended.fee_units} units instead of {row.payment_fee}"
        )


def check_jobs(tx: Tx, work: Work, fee: Fee, report: Report, progress: Progress) -> None:
    """Every job, then every manual payment; `work` gets every job. Raises Wrong."""
    counts = tx.one(COUNTS)
    progress.stage("jobs", int(counts.jobs))
    receipts = 0
    after = ""
    for page in _pages(tx, JOBS, progress):
        report.at = ("job", page[0].id)
        histories = Histories(tx, after, page[-1].id)
        after = page[-1].id
        for row in page:
            report.count("jobs")
            report.at = ("job", row.id)
            receipts += row.receipt is not None
            _check_job(row)
            histories.check(row)
            fee.check_run(row)
            work.add(row)
    if report.counts.get("jobs", 0) != int(counts.jobs):
        raise Wrong("payment", "?", "a job has more than one, or more than one receipt")
    if receipts != int(counts.receipts):
        stray = tx.one(RECEIPT_WITHOUT_JOB)
        raise Wrong(
            "receipt", "?" if stray is None else stray.id, "its job does not exist or has another receipt"
        )
    progress.stage("payments", int(counts.payments))
    for page in _pages(tx, PAYMENTS, progress):
        for row in page:
            report.count("payments")
            report.at = ("payment", row.id)
            _check_payment(row)


def _pages(tx: Tx, query: Statement, progress: Progress) -> Iterator[list[Any]]:
    for page in pages(tx, query, PAGE):
        yield page
        progress.step(len(page))


def _check_job(row: Any) -> None:
    if (row.status == "completed") != (row.receipt is not None):
        raise Wrong("job", row.id, f"it is {row.status} and has {'a' if row.receipt else 'no'} receipt")
    if row.receipt_id != (row.receipt or ""):
        raise Wrong(
            "job", row.id, f"it names receipt {row.receipt_id or 'none'}, its receipt is {row.receipt}"
        )
    if row.manual_payment != (row.payment is not None):
        raise Wrong(
            "job", row.id, "it has a manual payment and says that it has none, or the other way around"
        )
    if row.receipt is not None:
        if row.issued_at_ms != row.finished_at_ms:
            raise Wrong("job", row.id, f"it did not end when its receipt {row.receipt} was issued")
        _check_against_receipt(row)
    else:
        _check_price_without_receipt(row)
    if row.reservation and (row.hold_id, row.held_units, row.unit_price_units, row.price_units) != (
        "",
        0,
        0,
        0,
    ):
        raise Wrong("job", row.id, f"booking {row.reservation} pays for it, and it has a price or a hold")
    if row.hold_id:
        _check_hold(row)
    elif row.held_units and row.manual_payment:
        raise Wrong(
            "job", row.id, f"{row.held_units} units are held for it, and its payer has opened no escrow"
        )
    elif row.held_units and row.status == "running":
        raise Wrong("job", row.id, f"{row.held_units} units are to be held for it, and it has no hold")


def _check_price_without_receipt(row: Any) -> None:
    """Only a run that was cancelled costs something without an answer, and that follows from what is stored."""
    price = 0
    if row.status == "cancelled" and row.started_at_ms is not None:
        run_ms = max(0, row.finished_at_ms - row.started_at_ms)
        if not 0 <= row.paid_run_ms <= run_ms:
            raise Wrong("job", row.id, f"{row.paid_run_ms} ms of its run were paid for, it ran for {run_ms}")
        facts = (row.paid_run_ms, row.progress_tokens, row.progress_ms)
        units = cancelled_units(row.prompt_bound, row.completion_bound, *facts)
        price = price_units(units, row.unit_price_units)
    if row.price_units != price:
        raise Wrong("job", row.id, f"its price is {row.price_units} units, what it ran costs {price}")
    if row.end_kind is not None and row.end_kind != ("post" if price else "void"):
        raise Wrong("job", row.id, f"it costs {price} units and its hold ended with a {row.end_kind}")


def _check_against_receipt(row: Any) -> None:
    body = orjson.loads(row.body)
    stated = {
        "client": row.client_id,
        "miner_id": row.miner_id,
        "job_type": row.job_type,
        "model": row.model,
        "prompt_hash": row.prompt_hash,
        "price_units": str(row.price_units),
        "unit_price_units": str(row.unit_price_units),
        "started_at": None if row.started_at_ms is None else row.started_at_ms // 1000,
        "completed_at": None if row.finished_at_ms is None else row.finished_at_ms // 1000,
    }
    if "payment" in body:  # version 2
        stated["payment"] = "booking" if row.reservation else "manual" if row.manual_payment else "auto"
    for name, value in stated.items():
        if body.get(name) != value:
            raise Wrong("job", row.id, f"its {name} is {value!r}, its receipt says {body.get(name)!r}")


def _check_hold(row: Any) -> None:
    if row.hold_kind is None:
        raise Wrong("job", row.id, f"its hold {row.hold_id} does not exist")
    if (row.hold_kind, row.hold_debit, row.hold_ref) != ("hold", row.client_id, row.id):
        raise Wrong("job", row.id, f"transfer {row.hold_id} is not its client's hold for it")
    if row.hold_units != row.held_units:
        raise Wrong("job", row.id, f"its hold is of {row.hold_units} units, not {row.held_units}")
    most = price_units(row.prompt_bound + row.completion_bound, row.max_price_units)
    if row.held_units != most:
        raise Wrong(
            "job", row.id, f"it holds {row.held_units} units, its bounds and its highest price need {most}"
        )
    if row.end_id is not None and row.finished_at_ms is None:
        raise Wrong("job", row.id, "its hold is settled and it has not ended")
    if row.end_id is None and row.status in ("failed", "cancelled"):
        raise Wrong("job", row.id, "it has ended and its money is still held")
    if row.end_id is None and row.status == "completed" and not row.manual_payment:
        raise Wrong("job", row.id, "it is completed and was not paid")


def _check_payment(row: Any) -> None:
    fault = _payment_fault(row)
    if fault:
        raise Wrong("payment", row.id, fault)


def _payment_fault(row: Any) -> str:
    """What is wrong with a manual payment, or ''."""
    if row.job is None:
        return f"its job {row.job_id} does not exist"
    if row.payer_id != row.client_id:
        return f"its payer is {row.payer_id}, the job's client {row.client_id}"
    if row.amount_units != row.held_units and row.hold_id:
        return f"it holds {row.amount_units} units, the job {row.held_units}"
    if row.hold_id not in ("", row.id):
        return f"the job's hold is {row.hold_id}"
    if row.amount_units != price_units(row.prompt_bound + row.completion_bound, row.max_price_units):
        return f"it is of {row.amount_units} units, which its job's bounds do not come to"
    moved_at_ms = row.held_at_ms if row.finished_at_ms is None else row.finished_at_ms
    if row.end_id is not None:
        moved_at_ms = row.moved_at_ms
    if row.created_at_ms != row.job_created_ms or row.updated_at_ms != (moved_at_ms or row.created_at_ms):
        return "it was not made with its job, or was changed at another time than its job and its transfers"
    completed = row.job_status == "completed"
    if row.job_status == "cancelled" and row.job_price:
        return _cancelled_fault(row)
    body = orjson.loads(row.body) if row.body else {}
    if row.payee_id != body.get("provider", ""):
        return f"its payee is {row.payee_id or 'nobody'}, the receipt's {body.get('provider')}"
    if row.price_units != (row.job_price if completed else 0) or (row.release_after_ms > 0) != completed:
        return "its price or its time of release is not that of its job"
    if completed and "release_after" in body and row.release_after_ms != body["release_after"] * 1000:
        return f"its time of release is not that of its receipt, {body['release_after']}"
    return _payment_state_fault(row, completed, int(body.get("fee_units", 0)))


def _cancelled_fault(row: Any) -> str:
    """Of the payment of a run that was cancelled: it is released at once, by nobody's hand."""
    said = (row.status, row.payee_id, row.price_units, row.refunded_units, row.release_after_ms)
    if said != ("released", row.provider, row.job_price, 0, 0):
        return "it is not what the cancelled job had cost"
    if row.transfer_id != (row.end_id or "") or row.end_kind != "post":
        return f"its transfer is {row.transfer_id or 'none'}, its hold was ended by {row.end_id or 'none'}"
    return ""


def _payment_state_fault(row: Any, completed: bool, fee_units: int) -> str:
    status, ended = row.status, row.end_kind
    if row.transfer_id != (row.end_id or ""):
        return f"its transfer is {row.transfer_id or 'none'}, its hold was ended by {row.end_id or 'none'}"
    if status == "pending" and (row.hold_id or row.job_status != "pending"):
        return "it is pending and its job has money, or has ended"
    if status == "escrowed" and (row.hold_id != row.id or ended is not None):
        return "it is escrowed and its money is not held"
    if status in ("released", "partially_refunded") and (ended != "post" or not completed):
        return f"it is {status} and nothing was paid"
    if status == "refunded" and row.job_status in ("pending", "running"):
        return "it is refunded and its job has not ended"
    if status == "refunded" and ended != ("void" if row.hold_id else None):
        return "it is refunded and its money did not go back"
    paid_back = {
        "pending": 0,
        "escrowed": 0,
        "released": 0,
        "refunded": row.price_units if completed else row.held_units,
    }.get(status)
    if paid_back is None and not 0 < row.refunded_units < row.price_units:
        return "it is partially refunded, and not a part of it was"
    if paid_back is not None and row.refunded_units != paid_back:
        return f"{row.refunded_units} units were refunded instead of {paid_back}"
    fee = 0 if status == "refunded" else fee_units
    if status == "partially_refunded":
        fee = fee_units * (row.price_units - row.refunded_units) // row.price_units
    if row.fee_units != fee:
        return f"its fee is {row.fee_units} units instead of {fee}"
    return ""
