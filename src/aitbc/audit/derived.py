"""The explorer's numbers: kept by the coordinator rather than counted again, so counted again here."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any

from sqlalchemy import text

from aitbc.audit.findings import Progress, Report, Wrong
from aitbc.audit.lows import least
from aitbc.audit.pages import rows
from aitbc.coordinator.database import Tx, statement

PAGE = 1024
SYSTEM_PREFIX = "system:"
LATE_BLOCKS = 1024
"""A witness's line may come so many blocks late: what is newer may have become final since it was looked at."""

COUNTERS = statement(text("SELECT name, value, mark FROM counters ORDER BY name"))
ACTIVITY = statement(
    text(
        "SELECT account_id AS id, transfers, first_leaf, last_leaf FROM account_activity"
        " WHERE account_id > :after ORDER BY account_id LIMIT :count"
    )
)
JOBS_UP_TO = statement(text("SELECT COUNT(*) AS jobs, MAX(id) AS newest FROM jobs WHERE id <= :mark"))
COSIGNED = statement(text("SELECT COUNT(*) AS lines FROM cosignatures WHERE height = :height"))
NEWEST_COSIGNED = statement(text("SELECT MAX(height) AS height FROM cosignatures"))
FINAL_AFTER = statement(
    text(
        "SELECT height FROM cosignatures WHERE height > :after AND height <= :last"
        " GROUP BY height HAVING COUNT(*) >= :quorum ORDER BY height DESC LIMIT 1"
    )
)
MARKS = statement(
    text(
        "SELECT account_id, at_ms, in_units, out_units, movements, low_units FROM balance_marks"
        " WHERE account_id > :account OR (account_id = :account AND at_ms > :at)"
        " ORDER BY account_id, at_ms LIMIT :count"
    )
)
MOVED = {
    side: statement(
        text(
            "SELECT COUNT(*) AS movements, COALESCE(SUM(amount_units), 0) AS units FROM transfers"
            f" WHERE {side} = :account AND created_at_ms >= :since AND created_at_ms < :before"
            " AND kind IN ('mint', 'transfer', 'post', 'fee')"
        )
    )
    for side in ("debit_id", "credit_id")
}
AT = statement(
    text(
        "SELECT (SELECT COUNT(*) FROM transfers WHERE debit_id = :account AND created_at_ms = :at)"
        " + (SELECT COUNT(*) FROM transfers WHERE credit_id = :account AND created_at_ms = :at) AS transfers"
    )
)
CLOSED = "closed"  # up to when the books are closed for statements; nothing repeats it
UPTIME = "market"  # how long coordinators ran; nothing repeats it
NAMES = ("accounts", "activity", CLOSED, "final", "jobs", UPTIME)


class Activity:
    """Which accounts the sealed transfers name: how often, and where first and last.

    Holds to what the coordinator has taken in so far, the first `taken_in` leaves. Takes about 24 bytes for
    each account beside its name.
    """

    def __init__(self, tx: Tx) -> None:
        counters = {str(row.name): row for row in tx.all(COUNTERS)}
        taken_in = 0 if "activity" not in counters else counters["activity"].value
        self.taken_in = taken_in if type(taken_in) is int else 0  # another type is found in check_numbers
        self._places: dict[str, int] = {}
        self._transfers = array("q")
        self._first = array("q")
        self._last = array("q")

    def add(self, leaf_index: int, debit: str, credit: str) -> None:
        """A sealed transfer; they come in the order of the log."""
        if leaf_index >= self.taken_in:
            return
        for account in (debit,) if debit == credit else (debit, credit):
            place = self._places.get(account)
            if place is None:
                self._places[account] = len(self._transfers)
                self._transfers.append(1)
                self._first.append(leaf_index)
                self._last.append(leaf_index)
            else:
                self._transfers[place] += 1
                self._last[place] = leaf_index

    def accounts(self) -> int:
        """How many accounts but the system's are named."""
        return sum(1 for account in self._places if not account.startswith(SYSTEM_PREFIX))

    def take(self, account: str) -> tuple[int, int, int] | None:
        """Transfers, first and last leaf of an account, once."""
        place = self._places.pop(account, None)
        return None if place is None else (self._transfers[place], self._first[place], self._last[place])

    def left(self) -> Iterator[str]:
        """The accounts that were not taken."""
        return iter(self._places)


def check_numbers(tx: Tx, activity: Activity, tree_size: int, report: Report, progress: Progress) -> None:
    """Every counter, then every account's activity. Raises Wrong."""
    progress.stage("numbers", 0)
    counters = {str(row.name): row for row in tx.all(COUNTERS)}
    # What is unknown first, then how far the accounts were counted: what follows depends on that.
    for name in sorted(counters, key=lambda name: (name in NAMES, name != "activity", name)):
        report.at = ("counter", name)
        fault = _counter_fault(tx, counters[name], activity, tree_size)
        if fault:
            raise Wrong("counter", name, fault)
    if "accounts" not in counters and activity.accounts():
        raise Wrong(
            "counter", "accounts", f"it is missing, sealed transfers name {activity.accounts()} accounts"
        )
    for row in rows(tx, ACTIVITY, PAGE):
        report.at = ("activity", row.id)
        _check_activity(row, activity.take(row.id))
    for account in activity.left():
        raise Wrong("activity", account, "it is missing, and sealed transfers name the account")


def check_marks(tx: Tx, report: Report, progress: Progress) -> None:
    """What accounts had received and paid by the moments for which that is kept. Raises Wrong."""
    progress.stage("marks", 0)
    closed = next((row.value for row in tx.all(COUNTERS) if row.name == CLOSED), None)
    account, at_ms, received, paid, movements, had = "", 0, 0, 0, 0, 0
    while True:
        page = tx.all(MARKS, account=account, at=at_ms, count=PAGE)
        for row in page:
            name = f"{row.account_id} {row.at_ms}"
            report.at = ("mark", name)
            if row.account_id != account:
                account, at_ms, received, paid, movements, had = row.account_id, 0, 0, 0, 0, 0
            span = {"account": account, "since": at_ms, "before": row.at_ms}
            out, into = (tx.one(MOVED[side], **span) for side in ("debit_id", "credit_id"))
            received, paid = received + int(into.units), paid + int(out.units)
            movements += int(into.movements) + int(out.movements)
            low = least(tx, account, at_ms, row.at_ms, had)
            if row.low_units not in (None, low):
                raise Wrong("mark", name, f"it says that {row.low_units} units were the least, it was {low}")
            at_ms, had = row.at_ms, received - paid
            if (row.in_units, row.out_units, row.movements) != (received, paid, movements):
                said = f"it says {row.in_units} in, {row.out_units} out in {row.movements} movements"
                raise Wrong("mark", name, f"{said}, they are {received}, {paid} in {movements}")
            if closed is not None and at_ms > closed:
                raise Wrong("mark", name, "the books are not closed up to there")
            if not tx.one(AT, account=account, at=at_ms).transfers:
                raise Wrong("mark", name, "no transfer of the account is of this time")
        if len(page) < PAGE:
            return


def _check_activity(row: Any, counted: tuple[int, int, int] | None) -> None:
    if counted is None:
        raise Wrong("activity", row.id, "no transfer that was taken in names the account")
    if (row.transfers, row.first_leaf, row.last_leaf) != counted:
        said = f"{row.transfers} transfers in leaves {row.first_leaf} to {row.last_leaf}"
        raise Wrong(
            "activity", row.id, f"it says {said}, they are {counted[0]} in {counted[1]} to {counted[2]}"
        )


def _counter_fault(tx: Tx, row: Any, activity: Activity, tree_size: int) -> str:
    if row.name not in NAMES:
        return "nothing is counted under this name"
    if type(row.value) is not int or row.value < 0:
        return "its value is not a number of things"
    if row.name == "jobs":
        return _jobs_fault(tx, row)
    if row.name == "final":
        return _final_fault(tx, row)
    if row.name == UPTIME:
        return "" if row.mark.isdigit() else "its mark is no time"
    if row.mark != "":
        return "it has a mark, and needs none"
    if row.name == CLOSED:
        return ""
    if row.name == "accounts":
        counted = activity.accounts()
        return "" if row.value == counted else f"it is {row.value}, sealed transfers name {counted} accounts"
    return "" if row.value <= tree_size else f"{row.value} leaves were taken in, and {tree_size} are sealed"


def _jobs_fault(tx: Tx, row: Any) -> str:
    found = tx.one(JOBS_UP_TO, mark=row.mark)
    if found.jobs != row.value:
        return f"{row.value} jobs are counted up to {row.mark or 'none'}, they are {found.jobs}"
    return "" if (found.newest or "") == row.mark else f"it counts up to {row.mark}, and there is no such job"


def _final_fault(tx: Tx, row: Any) -> str:
    """The newest final block: by `quorum` lines, as of the cosigned block named in the mark."""
    quorum, separator, looked_to = str(row.mark).partition(":")
    if (
        not (separator and quorum.isdigit() and looked_to.isdigit())
        or row.mark != f"{int(quorum)}:{int(looked_to)}"
    ):
        return "its mark is not a quorum and a block"
    if row.value > int(looked_to) or int(looked_to) > (tx.one(NEWEST_COSIGNED).height or 0):
        return f"it is {row.value} as of block {looked_to}, which no witness has cosigned"
    if row.value and tx.one(COSIGNED, height=row.value).lines < int(quorum):
        return f"block {row.value} is not cosigned by {quorum}"
    later = tx.one(FINAL_AFTER, after=row.value, last=int(looked_to) - LATE_BLOCKS, quorum=int(quorum))
    return "" if later is None else f"it is {row.value}, and block {later.height} is final"
