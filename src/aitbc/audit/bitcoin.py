"""Rows of the exchange against the log of its credits, and top-ups against what arrived for them.

What the outputs themselves are is a Bitcoin node's to say; that is listed in `sight`.
"""

from __future__ import annotations

from typing import Any

from embit.base import EmbitError
from embit.script import address_to_scriptpubkey
from sqlalchemy import text

from aitbc.audit.credits import BitcoinBooks, Standing
from aitbc.audit.findings import Progress, Report, Wrong
from aitbc.audit.pages import pages
from aitbc.coordinator.database import Tx, statement
from aitbc.core.bitcoin import sat_for, units_of

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


def check_bitcoin(tx: Tx, books: BitcoinBooks, report: Report, progress: Progress) -> None:
    """Outputs against entries, top-ups against their outputs, keys against the top-ups. Raises Wrong."""
    progress.stage("bitcoin", 0)
    left = set(books.outputs)
    for page in pages(tx, OUTPUTS, PAGE):
        for row in page:
            report.at = ("bitcoin_output", row.id)
            _check_output(tx, row, books.outputs.get(row.id))
            left.discard(row.id)
        progress.step(len(page))
    for name in sorted(left):
        raise Wrong("bitcoin_output", name, "it was credited, and is missing")
    made = _check_topups(tx, report, progress)
    _check_keys(tx, report, made)


def _check_output(tx: Tx, row: Any, standing: Standing | None) -> None:
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
    asked_in_bitcoin = row.ait_units == units_of(row.sat, row.rate_units)
    if row.sat < least or (own and row.sat != least and not asked_in_bitcoin):
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
