"""What is kept beside the books (parameters, keys, miners, trust), held to the books as far as these repeat it.

What a miner or an account did is counted when it does it, and forgotten by half now and then, so a count may be too
low; it may never be higher than the receipts say.
"""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import text

from aitbc.audit.blocks import BlockRow
from aitbc.audit.findings import Progress, Report, Wrong
from aitbc.audit.pages import rows
from aitbc.audit.parameters import FEE, KNOWN, Change, History, explains, listed
from aitbc.coordinator.database import Tx, statement
from aitbc.core.clock import rfc3339
from aitbc.core.money import fee_units
from aitbc.core.transfer_ids import BOOKED, DEPOSIT, PROPOSAL

PAGE = 1024
NEVER = 2**63 - 1
MAX_LEASES = 4096
DAY_MS = 86_400_000

HELD_FOR = (DEPOSIT, BOOKED, PROPOSAL)

CHANGES = statement(
    text(f"SELECT {', '.join(Change._fields)} FROM parameter_changes ORDER BY number"), Change
)
FREE = statement(text("SELECT account_day, jobs FROM free_jobs"))
KEYS = statement(
    text(
        "SELECT id, account_id, limit_units, limit_period, period_start_ms, spent_units FROM api_keys ORDER BY id"
    )
)
MINERS = statement(
    text(
        "SELECT m.id, m.account_id, m.delivered, m.run_ms, m.units, m.deposit_hold_id, m.deposit_units, t.ref,"
        " p.account_id AS provider FROM miners m LEFT JOIN transfers t ON t.id = m.deposit_hold_id"
        " LEFT JOIN providers p ON p.account_id = m.account_id WHERE m.id > :after ORDER BY m.id LIMIT :count"
    )
)
PROVIDERS = statement(
    text(
        "SELECT account_id AS id, allowance, delivered, strikes FROM providers"
        " WHERE account_id > :after ORDER BY account_id LIMIT :count"
    )
)
PURPOSE = statement(
    text("SELECT t.ref, j.id AS job FROM transfers t LEFT JOIN jobs j ON j.id = t.ref WHERE t.id = :hold")
)


class Fee:
    """The share that goes to the treasury: what it was when, held to every run and to every receipt.

    Runs of before fees were fixed have none.
    """

    def __init__(self, tx: Tx, report: Report) -> None:
        self._unfixed_until_ms = -1
        self._history = History()
        for change in tx.all(CHANGES):
            report.at = ("parameter", change.number)
            self._history.take(change)

    def sealed(self, block: BlockRow) -> None:
        """Blocks of version 1 are from before fees were fixed, the first of version 2 is from after it."""
        if block.height and not block.contents:
            self._unfixed_until_ms = NEVER
        elif self._unfixed_until_ms == NEVER:
            self._unfixed_until_ms = block.time_ms

    def check(self, receipt_id: str, started_at_s: int, price_units: int, charged_units: int) -> None:
        """Of a receipt. Raises Wrong where its fee is none that was in force when its run began."""
        shares = self._history.around(FEE, started_at_s * 1000)
        if not explains(shares, price_units, charged_units):
            what = f"its fee of {charged_units} units is not {listed(shares)} basis points of its price"
            raise Wrong("receipt", receipt_id, what)

    def check_run(self, job: Any) -> None:
        """Of a job with its receipt. Raises Wrong where the fee that was fixed for its run was not in force when it
        began, or is not what its receipt charges.
        """
        if job.started_at_ms is None or job.fee_bps is None:
            if job.fee_bps is not None:
                what = f"it does not run, and {job.fee_bps} basis points are fixed for it"
                raise Wrong("job", job.id, what)
            if job.status == "running" or (job.started_at_ms or -1) > self._unfixed_until_ms:
                raise Wrong("job", job.id, "it runs or has run, and its fee is not fixed")
            return
        if job.receipt is not None:
            charged = int(orjson.loads(job.body)["fee_units"])
            if charged != fee_units(job.receipt_price, job.fee_bps):
                what = f"its fee is {job.fee_bps} basis points, its receipt charges {charged} units"
                raise Wrong("job", job.id, what)
        shares = self._history.around(FEE, job.started_at_ms)
        if job.fee_bps not in (range(KNOWN[FEE][1] + 1) if None in shares else shares):
            what = f"its fee is {job.fee_bps} basis points; when its run began it was {listed(shares)}"
            raise Wrong("job", job.id, what)

    def check_booking(self, booking: Any) -> None:
        """Of a GPU's booking. Raises Wrong where the fee that was fixed for it was not in force when it was made."""
        shares = self._history.around(FEE, booking.created_at_ms)
        if booking.fee_bps not in (range(KNOWN[FEE][1] + 1) if None in shares else shares):
            what = f"its fee is {booking.fee_bps} basis points; when it was made it was {listed(shares)}"
            raise Wrong("booking", booking.id, what)


class Work:
    """What the jobs add up to: by miner, by account, by day without payment, by key with a limit.

    `open_holds`: account and units by hold, as the ledger has them at its end; those of jobs are taken out.
    """

    def __init__(self, tx: Tx, open_holds: dict[str, tuple[str, int]]) -> None:
        self.miners: dict[str, list[Any]] = {}  # account, answers, units, ms
        self.accounts: dict[str, int] = {}  # answers
        self.free = {str(row.account_day): 0 for row in tx.all(FREE)}
        self.open_holds = open_holds
        self._days = {day[:10] for day in self.free}
        self.keys = {str(row.id): row for row in tx.all(KEYS)}
        self.spent = {key: 0 for key, row in self.keys.items() if row.limit_units is not None}

    def add(self, job: Any) -> None:
        """A job with its receipt and payment. Raises Wrong where it names another account's key."""
        if job.hold_id and job.end_id is None:
            self.open_holds.pop(job.hold_id, None)
        if job.receipt is not None:
            run_ms = max(0, job.finished_at_ms - (job.started_at_ms or job.finished_at_ms))
            done = self.miners.setdefault(job.miner_id, [job.provider_id, 0, 0, 0])
            if done[0] != job.provider_id:
                raise Wrong("receipt", job.receipt, f"its miner {job.miner_id} is {done[0]}'s")
            done[1:] = done[1] + 1, done[2] + job.units, done[3] + run_ms
            self.accounts[job.provider_id] = self.accounts.get(job.provider_id, 0) + 1
        if self._days and job.finished_at_ms is not None and not job.price_units:
            booked = " booked" if job.reservation else ""
            name = f"{rfc3339(job.finished_at_ms)[:10]} {job.client_id}{booked}"
            if name in self.free and not (job.reservation and job.receipt is not None):
                self.free[name] += 1
        key = self.keys.get(job.key_id)
        if key is not None and key.account_id != job.client_id:
            raise Wrong("job", job.id, f"its key {key.id} is {key.account_id}'s, its client {job.client_id}")
        self.spend(job.key_id, job.client_id, job.spend_period_ms, _counted(job))

    def spend(self, key_id: str, account_id: str, period_ms: int, units: int) -> None:
        """So much counts against the limit of a key of the account, if it has one and the period is its last."""
        key = self.keys.get(key_id)
        known = key is not None and key.account_id == account_id and key.id in self.spent
        if key is not None and known and period_ms and period_ms == key.period_start_ms:
            self.spent[key.id] += units


def _counted(job: Any) -> int:
    """What a job counts against its key's limit: what it holds, then what was paid of it. Base units."""
    if not job.hold_id:
        return 0
    if job.end_id is None:
        return int(job.held_units)
    if job.payment is not None:
        paid = job.payment_price - job.refunded_units if job.end_kind == "post" else 0
        return int(paid)
    return int(job.price_units)


def check_registers(tx: Tx, work: Work, report: Report, progress: Progress) -> None:
    """Keys, miners and the trust in their accounts, what is still held, and jobs without payment. Raises Wrong."""
    progress.stage("registers", 0)
    for key in work.keys.values():
        report.at = ("api_key", key.id)
        fault = _key_fault(key, work.spent.get(key.id))
        if fault:
            raise Wrong("api_key", key.id, fault)
    for row in tx.all(FREE):
        report.at = ("free_jobs", row.account_day)
        if not 0 <= row.jobs <= work.free[row.account_day]:
            what = f"{row.jobs} jobs are counted, {work.free[row.account_day]} ended that day without payment"
            raise Wrong("free_jobs", row.account_day, what)
    for row in rows(tx, MINERS, PAGE):
        report.at = ("miner", row.id)
        fault = _miner_fault(row, work)
        if fault:
            raise Wrong("miner", row.id, fault)
    for name in sorted(work.miners):
        raise Wrong("miner", name, "it has answered jobs, and is not there")
    for row in rows(tx, PROVIDERS, PAGE):
        report.at = ("provider", row.id)
        answers = work.accounts.get(row.id, 0)
        if not 0 <= row.delivered <= answers:
            what = f"{row.delivered} answers of its miners are counted, it has receipts for {answers}"
            raise Wrong("provider", row.id, what)
        if not 1 <= row.allowance <= MAX_LEASES or row.strikes < 0:
            raise Wrong("provider", row.id, f"it has {row.allowance} leases and {row.strikes} failures")
    _check_what_is_held(tx, work, report)


def _key_fault(key: Any, counted: int | None) -> str:
    if (key.limit_units is None) != (key.limit_period is None) or key.spent_units < 0:
        return "it has a limit without a period, or spent less than nothing"
    if key.limit_units is None or counted is None:
        return "" if not key.spent_units else "it has no limit, and something counts against it"
    if key.limit_period not in ("day", "month") or key.spent_units > key.limit_units:
        return f"{key.spent_units} units of {key.limit_units} are spent in a {key.limit_period}"
    begun = rfc3339(key.period_start_ms)
    if key.period_start_ms % DAY_MS or (
        key.limit_period == "month" and key.period_start_ms and begun[8:10] != "01"
    ):
        return f"{begun} is not the beginning of a {key.limit_period}"
    if key.spent_units != counted:
        return f"{key.spent_units} units count against its limit, its jobs since {begun} come to {counted}"
    return ""


def _miner_fault(row: Any, work: Work) -> str:
    account, answers, units, run_ms = work.miners.pop(row.id, [row.account_id, 0, 0, 0])
    if account != row.account_id:
        return f"it is {row.account_id}'s, its receipts name {account}"
    if row.provider is None:
        return f"its account {row.account_id} is not among the providers"
    counted = (row.delivered, row.units, row.run_ms)
    if any(not 0 <= one <= most for one, most in zip(counted, (answers, units, run_ms), strict=True)):
        return (
            f"{counted} answers, tokens and ms are counted, its receipts come to {(answers, units, run_ms)}"
        )
    if not row.deposit_hold_id:
        return "" if not row.deposit_units else "it has a deposit, and no hold of one"
    held = work.open_holds.pop(row.deposit_hold_id, None)
    if held != (row.account_id, row.deposit_units) or row.ref != DEPOSIT.prefix + row.id:
        return f"hold {row.deposit_hold_id} is not its deposit of {row.deposit_units} units"
    return ""


def _check_what_is_held(tx: Tx, work: Work, report: Report) -> None:
    """Each open hold is a job's, a booking's, or a deposit; what other programs hold nothing here says."""
    others = 0
    for hold in sorted(work.open_holds):
        row = tx.one(PURPOSE, hold=hold)
        if row is not None and (row.job is not None or any(form.fits(row.ref) for form in HELD_FOR)):
            raise Wrong("transfer", hold, f"it holds money for {row.ref}, which has no such hold open")
        others += 1
    if others:
        report.not_checked.append(f"what {others} open holds are for: for no jobs, bookings or deposits")
