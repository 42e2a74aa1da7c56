"""Credits of Bitcoin outputs, recomputed: each from its output and rate, and each with its one transfer.

What the outputs themselves are is a Bitcoin node's to say; that is listed in `sight`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from embit.base import EmbitError
from embit.script import address_to_scriptpubkey
from sqlalchemy import text

from aitbc.audit.books import MINT, Line
from aitbc.audit.findings import Progress, Report, Wrong
from aitbc.coordinator.database import Tx, statement
from aitbc.core.bitcoin import CREDITED, ENTRY, REVERSED, sat_for, units_of
from aitbc.core.transfer_ids import BITCOIN, TOPUP

PAGE = 1024
NUMBERS = ""
"""The row of `bitcoin_keys` that counts top-ups."""

TOPUPS = statement(text("SELECT * FROM topups WHERE number > :after ORDER BY number LIMIT :count"))
OUTPUTS = statement(
    text(
        "SELECT o.*, t.account_id, t.rate_units AS locked, t.script AS own_script, t.id AS topup FROM bitcoin_outputs o"
        " LEFT JOIN topups t ON t.id = o.topup_id WHERE o.id > :after ORDER BY o.id LIMIT :count"
    )
)
OUTPUTS_OF = statement(text("SELECT * FROM bitcoin_outputs WHERE topup_id = :topup ORDER BY id"))
SCRIPT = statement(text("SELECT 1 AS one FROM topups WHERE script = :script LIMIT 1"))
KEYS = statement(text("SELECT id, next_index FROM bitcoin_keys ORDER BY id"))


class Entry(NamedTuple):
    """A credit or reversal, as a row or a leaf states it."""

    id: str
    kind: str
    outpoint: str
    topup_id: str
    account_id: str
    sat: int
    rate_units: int
    units: int
    short_units: int
    block_height: int
    block_hash: str
    created_at_ms: int


class _Standing(NamedTuple):
    """What the entries of an output come to: how many there were, and what is with the account."""

    events: int
    units: int
    last: Entry


class BitcoinBooks:
    """Takes the entries in the order of the log, each after its transfer."""

    def __init__(self) -> None:
        self.outputs: dict[str, _Standing] = {}
        self._transfers: dict[str, Line] = {}

    def move(self, line: Line) -> None:
        """A transfer that bears an output's name."""
        if line.id in self._transfers:
            raise Wrong("transfer", line.id, "it stands in the log twice")
        self._transfers[line.id] = line

    def take(self, entry: Entry) -> None:
        """Raises Wrong where the output and its rate do not come to this, or the transfer moved something else."""
        before = self.outputs.get(entry.outpoint)
        events = 0 if before is None else before.events
        standing = 0 if before is None else before.units
        name = entry.outpoint if events == 0 else f"{entry.outpoint}:{events}"
        if entry.id != f"{ENTRY}{BITCOIN.prefix}{name}" or not BITCOIN.fits(BITCOIN.prefix + name):
            raise Wrong(
                "bitcoin_credit", entry.id, f"its output had {events} credits and reversals before it"
            )
        if entry.kind != (REVERSED if events % 2 else CREDITED):
            raise Wrong(
                "bitcoin_credit", entry.id, f"it is a {entry.kind}, after {events} credits and reversals"
            )
        if before is not None:
            _check_same(before.last, entry)
        if entry.kind == CREDITED:
            whole = units_of(entry.sat, entry.rate_units)
            if (entry.units, entry.short_units) != (whole - standing, 0):
                raise Wrong(
                    "bitcoin_credit", entry.id, f"{entry.sat} satoshi are {whole} units, {standing} stood"
                )
            standing = whole
        else:
            if entry.units + entry.short_units != standing:
                raise Wrong("bitcoin_credit", entry.id, f"{standing} units were to be taken back")
            standing = entry.short_units
        self._check_transfer(entry)
        self.outputs[entry.outpoint] = _Standing(events + 1, standing, entry)

    def close(self) -> None:
        """At the end of the log. Raises Wrong where money moved in an output's name without an entry."""
        for line in self._transfers.values():
            raise Wrong("transfer", line.id, "the log does not say which bitcoin output it is for")

    def _check_transfer(self, entry: Entry) -> None:
        line = self._transfers.pop(entry.id.removeprefix(ENTRY), None)
        if line is None:
            raise Wrong("bitcoin_credit", entry.id, "nothing was moved for it")
        ref = TOPUP.prefix + entry.topup_id
        if entry.kind == CREDITED:
            meant = ("mint", MINT, entry.account_id, entry.units, ref, entry.created_at_ms)
        else:
            meant = ("transfer", entry.account_id, MINT, entry.units, ref, entry.created_at_ms)
        moved = (line.kind, line.debit, line.credit, line.amount_units, line.ref, line.created_at_ms)
        if moved != meant:
            raise Wrong("transfer", line.id, "it moved something else than its bitcoin output is worth")


def _check_same(last: Entry, entry: Entry) -> None:
    """What is the same in all entries of an output; a reversal has its credit's block."""
    same = ("topup_id", "account_id", "sat", "rate_units")
    if entry.kind == REVERSED:
        same += ("block_height", "block_hash")  # type: ignore[assignment]
    for field in same:
        if getattr(entry, field) != getattr(last, field):
            raise Wrong("bitcoin_credit", entry.id, f"its {field} is another than in {last.id}")


def check_bitcoin(tx: Tx, books: BitcoinBooks, report: Report, progress: Progress) -> None:
    """Outputs against entries, top-ups against their outputs, keys against the top-ups. Raises Wrong."""
    progress.stage("bitcoin", 0)
    left = set(books.outputs)
    after = ""
    while page := tx.all(OUTPUTS, after=after, count=PAGE):
        for row in page:
            report.at = ("bitcoin_output", row.id)
            _check_output(tx, row, books.outputs.get(row.id))
            left.discard(row.id)
        progress.step(len(page))
        after = page[-1].id
    for name in sorted(left):
        raise Wrong("bitcoin_output", name, "it was credited, and is missing")
    made = _check_topups(tx, report, progress)
    _check_keys(tx, report, made)


def _check_output(tx: Tx, row: Any, standing: _Standing | None) -> None:
    if standing is None:
        if row.events or row.rate_units or row.credited_units or row.reversed or row.forgiven:
            raise Wrong("bitcoin_output", row.id, "it says that it was credited, and the log does not")
    else:
        last = standing.last
        stated = (row.events, row.credited_units, row.rate_units, row.sat, row.topup_id, row.account_id)
        logged = (standing.events, standing.units, last.rate_units, last.sat, last.topup_id, last.account_id)
        if stated != logged or row.reversed != 1 - standing.events % 2:
            raise Wrong("bitcoin_output", row.id, "it says something else than the log of its credits")
        if not row.late and last.rate_units != row.locked:
            raise Wrong(
                "bitcoin_output", row.id, "it came in time and was credited at another rate than was locked"
            )
    if row.topup_id and (row.topup is None or row.script != row.own_script):
        raise Wrong("bitcoin_output", row.id, "its top-up has another address, or is missing")
    if tx.one(SCRIPT, script=row.script) is None:
        raise Wrong("bitcoin_output", row.id, "it pays an address that was never given out")


def _check_topups(tx: Tx, report: Report, progress: Progress) -> dict[str, int]:
    """Every top-up, by number; by extended key, how many had an address of it ('' counts all)."""
    made = {NUMBERS: 0}
    after = -1
    while page := tx.all(TOPUPS, after=after, count=PAGE):
        for row in page:
            report.at = ("topup", row.id)
            if row.number != made[NUMBERS]:
                raise Wrong("topup", row.id, f"it is number {row.number}, after {made[NUMBERS]} others")
            made[NUMBERS] += 1
            if row.key_id:
                if row.key_index != made.get(row.key_id, 0):
                    raise Wrong("topup", row.id, f"its address is number {row.key_index} of its key")
                made[row.key_id] = made.get(row.key_id, 0) + 1
            _check_terms(row)
            _check_state(row, tx.all(OUTPUTS_OF, topup=row.id))
        progress.step(len(page))
        after = int(page[-1].number)
    report.count("topups", made[NUMBERS])
    return made


def _check_terms(row: Any) -> None:
    try:
        script = address_to_scriptpubkey(row.address).data.hex()
    except (EmbitError, ValueError, IndexError, KeyError, TypeError):
        script = ""
    if script != row.script:
        raise Wrong("topup", row.id, "its script is not that of its address")
    own = row.key_id != ""
    if (not own and row.key_index != -1) or (own and row.told_by_sat != 0):
        raise Wrong("topup", row.id, "its address is its own, or told by amounts, but not both")
    if not own and row.told_by_sat not in (row.sat, None):
        raise Wrong("topup", row.id, "it is told by another amount than it is for")
    least = sat_for(row.ait_units, row.rate_units)
    if row.sat < least or (own and row.sat != least):
        raise Wrong("topup", row.id, f"{row.ait_units} units cost {least} satoshi at its rate")


def _check_state(row: Any, outputs: list[Any]) -> None:
    """Where nothing is on its way; what is may be decided about in the next look."""
    if any((not one.gone and one.events % 2 == 0) or (one.events % 2 and one.height < 0) for one in outputs):
        return
    standing = [one for one in outputs if one.events % 2]
    if standing:
        units = sum(one.sat for one in standing)
        compared = "none" if units == row.sat else "underpaid" if units < row.sat else "overpaid"
        meant = ("confirmed", "late" if any(one.late for one in standing) else compared)
    elif outputs:
        meant = ("invalid" if row.lock_over else "pending", "replaced")
    else:
        meant = ("expired" if row.lock_over else "pending", "none")
    if (row.state, row.exception) != meant:
        raise Wrong(
            "topup", row.id, f"it is {row.state} ({row.exception}); its outputs say {meant[0]} ({meant[1]})"
        )


def _check_keys(tx: Tx, report: Report, made: dict[str, int]) -> None:
    """Numbers and indexes go on from those that were given."""
    stated = {row.id: row.next_index for row in tx.all(KEYS)}
    for key in sorted({*stated, *made}):
        report.at = ("bitcoin_key", key)
        if stated.get(key, 0) != made.get(key):
            raise Wrong(
                "bitcoin_key", key or "(numbers)", f"{made.get(key, 0)} top-ups have an address of it"
            )
