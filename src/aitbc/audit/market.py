"""GPUs, their bookings and reviews, held to each other, to the ledger, and to the miners that they have. Operator's
side."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from aitbc.audit.findings import Progress, Report, Wrong
from aitbc.audit.pages import rows
from aitbc.audit.registers import Fee, Work
from aitbc.coordinator.database import Tx, statement
from aitbc.core.gpu_names import model_key
from aitbc.core.money import BPS
from aitbc.core.rating import rating_millis
from aitbc.core.rental import HOUR_MS, rent_units
from aitbc.core.transfer_ids import BOOKED

PAGE = 500
PRIOR_MS = 10 * HOUR_MS
PRIOR_BPS = 9_000
EDITABLE_MS = 7 * 24 * HOUR_MS
STATES = ("available", "booked", "offline")
STATE_OF = {
    "waiting": "active",
    "running": "active",
    "released": "completed",
    "ran_out": "completed",
    "cancelled": "cancelled",
    "no_show": "cancelled",
}

BOOKINGS = statement(
    text("""
SELECT b.*, g.owner_id AS gpu_owner, g.booking_id AS gpu_booking, h.kind AS hold_kind, h.debit_id AS hold_debit,
       h.amount_units AS hold_units, h.ref AS hold_ref, h.created_at_ms AS held_at_ms, e.id AS end_id,
       e.created_at_ms AS settled_at_ms, k.booking_id AS key_booking, k.account_id AS key_account
FROM bookings b
LEFT JOIN gpus g ON g.id = b.gpu_id
LEFT JOIN transfers h ON h.id = b.hold_id
LEFT JOIN transfers e ON e.hold_id = b.hold_id AND (e.kind = 'post' OR e.kind = 'void')
LEFT JOIN api_keys k ON k.id = b.grant_key_id
WHERE b.id > :after ORDER BY b.id LIMIT :count
""")
)
GPUS = statement(
    text("""
SELECT g.*, b.gpu_id AS booked_gpu, b.state AS booked_state, b.opened AS booked_opened,
       b.miner_id AS booked_miner, m.account_id AS miner_account, m.reservation AS kept_for
FROM gpus g
LEFT JOIN bookings b ON b.id = g.booking_id
LEFT JOIN miners m ON m.id = g.miner_id
WHERE g.id > :after ORDER BY g.id LIMIT :count
""")
)
KEPT = statement(
    text("""
SELECT id, account_id, promised_ms, served_ms FROM miners
WHERE promised_ms <> 0 OR served_ms <> 0 ORDER BY id
""")
)
RESERVED = statement(
    text("""
SELECT m.id, m.account_id, m.reservation, b.miner_id, b.owner_id, g.booking_id
FROM miners m
LEFT JOIN bookings b ON b.id = m.reservation
LEFT JOIN gpus g ON g.id = b.gpu_id
WHERE m.reservation <> '' ORDER BY m.id
""")
)
TWICE = statement(
    text("""
SELECT b.id, a.id AS other FROM bookings a JOIN bookings b ON b.gpu_id = a.gpu_id AND b.id > a.id
WHERE a.state = 'active' AND b.state = 'active' AND b.start_ms < a.end_ms AND b.end_ms > a.start_ms
ORDER BY b.id LIMIT 1
""")
)
STRAY_JOB = statement(
    text("""
SELECT j.id, j.reservation FROM jobs j LEFT JOIN bookings b ON b.id = j.reservation
WHERE j.reservation <> '' AND (b.id IS NULL OR b.booker_id <> j.client_id
  OR (j.miner_id <> '' AND j.miner_id <> b.miner_id)) ORDER BY j.id LIMIT 1
""")
)

REVIEWS = statement(
    text("""
SELECT r.*, b.gpu_id AS booked_gpu, b.booker_id, b.state AS booked_state, b.used_ms, b.ended_at_ms
FROM reviews r LEFT JOIN bookings b ON b.id = r.booking_id
WHERE r.id > :after ORDER BY r.id LIMIT :count
""")
)
STRAY_KEY = statement(
    text("""
SELECT k.id, k.booking_id FROM api_keys k LEFT JOIN bookings b ON b.id = k.booking_id
WHERE k.booking_id <> '' AND (b.id IS NULL OR b.booker_id <> k.account_id) ORDER BY k.id LIMIT 1
""")
)


def check_market(tx: Tx, work: Work, fee: Fee, report: Report, progress: Progress) -> None:
    """Every booking, review and GPU, then the miners and jobs that are kept for bookings. Raises Wrong."""
    progress.stage("market", 0)
    of_gpu: dict[str, list[int]] = {}  # bookings, ms used of those that have ended
    of_miner: dict[tuple[str, str], int] = {}  # ms used of those that have ended
    for row in rows(tx, BOOKINGS, PAGE):
        report.at = ("booking", row.id)
        report.count("bookings rows")
        fault = _booking_fault(row, work)
        if fault:
            raise Wrong("booking", row.id, fault)
        fee.check_booking(row)
        sums = of_gpu.setdefault(row.gpu_id, [0, 0])
        sums[0] += 1
        used_ms = row.used_ms if row.state != "active" else 0
        sums[1] += used_ms
        of_miner[row.miner_id, row.owner_id] = of_miner.get((row.miner_id, row.owner_id), 0) + used_ms
    said = _check_reviews(tx, report)
    for row in rows(tx, GPUS, PAGE):
        report.at = ("gpu", row.id)
        fault = _gpu_fault(row, of_gpu.get(row.id, [0, 0])) or _rating_fault(row, said.get(row.id, [0, 0]))
        if fault:
            raise Wrong("gpu", row.id, fault)
    for row in tx.all(KEPT):
        report.at = ("miner", row.id)
        most_ms = of_miner.get((row.id, row.account_id), 0)
        if not 0 <= row.served_ms <= min(most_ms, row.promised_ms):
            what = f"it kept {row.served_ms} of {row.promised_ms} ms, its bookings come to {most_ms}"
            raise Wrong("miner", row.id, what)
    for row in tx.all(RESERVED):
        report.at = ("miner", row.id)
        if (row.miner_id, row.owner_id, row.booking_id) != (row.id, row.account_id, row.reservation):
            raise Wrong("miner", row.id, f"it is kept for {row.reservation}, which does not have it")
    twice = tx.one(TWICE)
    if twice is not None:
        raise Wrong("booking", twice.id, f"{twice.other} has its GPU for some of the same time")
    stray = tx.one(STRAY_KEY)
    if stray is not None:
        raise Wrong("api_key", stray.id, f"it is of {stray.booking_id}, which is not its account's")
    stray = tx.one(STRAY_JOB)
    if stray is not None:
        raise Wrong(
            "job", stray.id, f"it is of {stray.reservation}, which is not its client's, or not its miner's"
        )


def _check_reviews(tx: Tx, report: Report) -> dict[str, list[int]]:
    """Every review; by GPU how many, and the sum of their stars. Raises Wrong."""
    said: dict[str, list[int]] = {}
    for row in rows(tx, REVIEWS, PAGE):
        report.at = ("review", row.id)
        report.count("reviews")
        if (row.gpu_id, row.author_id) != (row.booked_gpu, row.booker_id):
            raise Wrong("review", row.id, f"booking {row.booking_id} is not its author's of this GPU")
        if row.booked_state != "completed" or not row.used_ms:
            raise Wrong("review", row.id, f"booking {row.booking_id} has not ended, or was not used")
        if not row.created_at_ms <= row.updated_at_ms < row.created_at_ms + EDITABLE_MS:
            raise Wrong("review", row.id, "it was changed before it was written, or after its time")
        sums = said.setdefault(row.gpu_id, [0, 0])
        sums[0] += 1
        sums[1] += row.stars
    return said


def _rating_fault(row: Any, said: list[int]) -> str:
    """What is wrong with a GPU's rating, or ''."""
    if [row.reviews, row.stars] != said:
        return f"it counts {row.reviews} reviews with {row.stars} stars, they come to {said}"
    rating = rating_millis(row.stars, row.reviews)
    return (
        ""
        if row.rating_millis == rating
        else f"its rating is {row.rating_millis}, of its reviews it is {rating}"
    )


def _booking_fault(row: Any, work: Work) -> str:
    """What is wrong with a booking beside what its leaf says, or ''."""
    active = row.state == "active"
    if STATE_OF.get(row.detail) != row.state:
        return f"it is {row.state} and {row.detail}"
    if row.gpu_owner != row.owner_id:
        return f"its GPU is {row.gpu_owner or 'nobody'}'s, it names {row.owner_id}"
    if (row.key_booking, row.key_account) != (row.id, row.booker_id):
        return f"key {row.grant_key_id} is not the one that it gives"
    if (row.hold_kind, row.hold_debit, row.hold_ref) != ("hold", row.booker_id, BOOKED.prefix + row.id):
        return f"transfer {row.hold_id} is not its booker's hold for it"
    if row.hold_units != row.held_units or row.held_at_ms != row.created_at_ms:
        return f"its hold is of {row.hold_units} units, not {row.held_units}, or was not made with it"
    if (row.detail == "waiting") != (
        active and not row.counted_until_ms
    ) or row.counted_until_ms > row.end_ms:
        return "it waits for a machine that was heard of, or the other way around"
    if row.opened not in (0, 1) or row.clearing not in (0, 1) or row.opened < (row.used_ms > 0):
        return "it was used, and has not begun"
    if row.opened and active and row.gpu_booking != row.id:
        return f"it has begun, and {row.gpu_booking or 'no booking'} has its GPU"
    if active and row.held_units != rent_units(row.end_ms - row.start_ms, row.hour_units):
        return (
            f"{row.held_units} units are held for {row.end_ms - row.start_ms} ms at {row.hour_units} an hour"
        )
    work.spend(row.key_id, row.booker_id, row.spend_period_ms, row.held_units if active else row.price_units)
    if active:
        end = (row.end_id, row.price_units, row.fee_units, row.transfer_id, row.ended_by, row.ended_at_ms)
        if end != (None, 0, 0, "", "", None) or row.clearing:
            return "it is active, and was paid for, or ended"
        work.open_holds.pop(row.hold_id, None)
        return ""
    if row.ended_at_ms != row.settled_at_ms:
        return "it did not end when its hold was settled"
    return ""


def _gpu_fault(row: Any, sums: list[int]) -> str:
    """What is wrong with a listed GPU, or ''."""
    if row.model_key != model_key(row.model):
        return f"{row.model_key} is not the key of {row.model}"
    if [row.bookings, row.served_ms] != sums:
        return f"it counts {row.bookings} bookings with {row.served_ms} ms served, they come to {sums}"
    kept = (row.served_ms * BPS + PRIOR_MS * PRIOR_BPS) // (row.promised_ms + PRIOR_MS)
    if row.reliability_bps != kept or row.promised_ms < row.served_ms:
        return f"its reliability is {row.reliability_bps}, of its times it is {kept}"
    if row.state not in STATES or (row.state == "booked") != (row.booking_id != ""):
        return f"it is {row.state}, and {row.booking_id or 'no booking'} has it"
    booked = (row.booked_gpu, row.booked_state, row.booked_opened)
    if row.booking_id and booked != (row.id, "active", 1):
        return f"booking {row.booking_id} has it, and is not one of its own that has begun"
    if row.booking_id and row.miner_account == row.owner_id and row.kept_for != row.booking_id:
        return f"booking {row.booking_id} has it, and its miner is kept for {row.kept_for or 'nobody'}"
    if row.miner_id and row.miner_account not in (None, row.owner_id):
        return f"its miner is {row.miner_account}'s"
    if not row.miner_id and row.state == "available":
        return "it is available, and has no miner"
    return ""
