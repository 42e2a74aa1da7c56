"""Every column of every table, changed; rows taken away, added, swapped: found by the audit, or listed with a reason.

The schema is read from the models, so that a new column fails here until the audit sees it or
`aitbc.audit.sight.OUTSIDE` says why it cannot.
"""

from __future__ import annotations

import random
import re
import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import CheckConstraint

from aitbc.audit.sight import ADDED, OUTSIDE, REMOVED
from aitbc.audit.trust import Trust, read_kept
from aitbc.coordinator.schema.tables import metadata
from tests.audit.tampered import forged, found
from tests.audit.test_forgeries import KEYS, checkpoint
from tests.audit.test_outside import POLICY

pytestmark = pytest.mark.parametrize("databases", ["sqlite"], indirect=True)

KINDS = {
    "jobs": "status || manual_payment || (hold_id <> '') || (spend_period_ms > 0) || (reservation <> '')",
    "payments": "status || (price_units > 0)",
    "transfers": "kind || (id IN (SELECT ref_id FROM leaves WHERE leaf_index IS NULL))",
    "leaves": "kind || (leaf_index IS NULL)",
    "blocks": "height",
    "tiles": "level || idx",
    "job_events": "type",
    "counters": "name",
    "parameter_changes": "name",
    "miners": "(deposit_hold_id <> '') || (reservation <> '')",
    "api_keys": "(limit_units IS NULL) || (booking_id <> '')",
    "bookings": "detail || opened",
    "gpus": "state",
    "reviews": "stars",
    "bitcoin_outputs": "events || gone || (topup_id <> '')",
    "topups": "state || (key_id <> '')",
    "proposals": "status || type",
    "proposal_events": "event",
}
"""What tells rows of a table apart that the audit looks at in different ways."""
VALUES = {
    ("parameter_changes", "name"): ["'default_price_per_1k_tokens'"],
    ("miners", "account_id"): ["'bob'"],
    ("api_keys", "account_id"): ["'alice'"],
    ("topups", "account_id"): ["'alice'"],
    ("bitcoin_outputs", "topup_id"): ["(SELECT MIN(id) FROM topups WHERE key_id = '')"],
}
"""Other values that a column may have, where the schema does not list them."""
LARGE = ("jobs", "transfers", "payments", "job_events", "leaves", "blocks")
"""Tables of which only the random test swaps values."""
ONE_OF_A_KIND = ("jobs", "payments", "blocks", "tiles", "proposals")
TABLES = sorted(metadata.tables)
RANDOM = 150
"""Tamperings of the random test, of some thousands."""


def rows_of(file: Path, table: str) -> Iterator[str]:
    """Conditions that pick one row each."""
    keys = [column.name for column in metadata.tables[table].primary_key]
    db = sqlite3.connect(file)
    try:
        seen: dict[Any, int] = {}
        kind = KINDS.get(table, "1")
        for values in db.execute(f"SELECT {kind}, {', '.join(keys)} FROM {table} ORDER BY {', '.join(keys)}"):
            seen[values[0]] = seen.get(values[0], 0) + 1
            if seen[values[0]] <= (1 if table in ONE_OF_A_KIND else 2):
                yield " AND ".join(f"{key} = {value!r}" for key, value in zip(keys, values[1:], strict=True))
    finally:
        db.close()


def flips(table: str, column: str) -> list[str]:
    """What the column becomes: another value of its kind, each one that its CHECK allows, nothing."""
    made = metadata.tables[table].c[column]
    kind = str(made.type).upper()
    if "BLOB" in kind or "BINARY" in kind:
        return [f"CAST(zeroblob(1) || substr({column}, 2) AS BLOB)"]
    if "INT" in kind:
        values = [f"coalesce({column}, 0) + 1", f"coalesce({column}, 0) - 1"]
    else:
        values = [f"coalesce({column}, '') || 'x'"]
    values += VALUES.get((table, column), [])
    for check in metadata.tables[table].constraints:
        if isinstance(check, CheckConstraint):
            text = str(getattr(check.sqltext, "chain", check.sqltext))
            values += re.findall(r"'\w*'", text) if re.match(rf"\(*{column} (IN \(|= )'", text) else []
    return [*values, *(["NULL"] if made.nullable else [])]


def swap(table: str, column: str, rows: list[str]) -> Iterator[str]:
    """Two rows with each other's value."""
    for one, other in pairwise(rows):
        value = f"(SELECT {column} FROM {table} WHERE"
        yield (
            f"UPDATE {table} SET {column} = CASE WHEN {one} THEN was.other ELSE was.one END"
            f" FROM (SELECT {value} {one}) AS one, {value} {other}) AS other) AS was"
            f" WHERE (({one}) OR ({other})) AND was.one IS NOT was.other"
        )


def run(sql: str) -> Any:
    """Does it; where the table's own key forbids it, the database would not open with it either."""

    def forge(db: sqlite3.Connection) -> None:
        try:
            if db.execute(sql).rowcount == 0:  # what is there is what it would become
                db.execute("UPDATE accounts SET kind = 'impossible'")
        except sqlite3.IntegrityError:
            db.execute("UPDATE accounts SET kind = 'impossible'")

    return forge


def trust_of(file: Path) -> Trust:
    return Trust(KEYS, POLICY, (read_kept("kept.txt", checkpoint(file, 3)),))


def added(table: str, where: str, number: int) -> str:
    """A copy of the row under another primary key."""
    primary = metadata.tables[table].primary_key
    names = [column.name for column in metadata.tables[table].columns]
    last = list(primary)[-1]
    whole = "INT" in str(last.type).upper() or table in ("blocks", "leaves", "tiles", "job_events")
    other = str(900 + number) if whole else f"'z{number}'"
    values = ", ".join(other if name == last.name else name for name in names)
    return f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} FROM {table} WHERE {where}"


def changes_of(file: Path, table: str) -> dict[str, list[str]]:
    """Statements by what they change: each column, a row more, a row less."""
    rows = list(rows_of(file, table))
    assert rows, f"nothing to change in {table}: put something into the scene"
    changes: dict[str, list[str]] = {}
    for column in metadata.tables[table].columns:
        name, first = column.name, flips(table, column.name)
        there = [
            f"UPDATE {table} SET {name} = {value} WHERE {row} AND {name} IS NOT {value}"
            for number, row in enumerate(rows)
            for value in (first if number == 0 or table not in LARGE else first[:1])
        ]
        changes[name] = [*there, *([] if table in LARGE else swap(table, name, rows))]
    changes[REMOVED] = [f"DELETE FROM {table} WHERE {row}" for row in rows]
    changes[ADDED] = [added(table, row, number) for number, row in enumerate(rows)]
    return changes


def test_random_tampering_is_found(wide: Path) -> None:
    """A few of all changes of what is not listed, with those of two rows that change places in a column."""
    pick = random.Random(29)
    trust = trust_of(wide)
    crimes = []
    for table in TABLES:
        rows = list(rows_of(wide, table))
        for what, statements in changes_of(wide, table).items():
            if what not in OUTSIDE.get(table, {}):
                crimes += statements
                crimes += swap(table, what, rows) if what in metadata.tables[table].c else []
    chosen = pick.sample(sorted(set(crimes)), RANDOM)
    missed = [sql for sql in chosen if found(forged(wide, run(sql)), trust) is None]
    assert not missed, "\n".join(missed)


@pytest.mark.parametrize("table", TABLES)
def test_every_change_is_found_or_listed(wide: Path, table: str) -> None:
    trust = trust_of(wide)
    assert found(wide, trust) is None
    listed = OUTSIDE.get(table, {})
    changes = changes_of(wide, table)
    assert listed.keys() <= changes.keys()
    missed = {}
    for what, statements in changes.items():
        for sql in statements:
            if found(forged(wide, run(sql)), trust) is None:
                missed[what] = sql
                break
    assert missed.keys() - listed.keys() == set(), "\n".join(
        missed[name] for name in missed.keys() - listed.keys()
    )
    assert listed.keys() - missed.keys() == set(), "the audit sees these: take them off the list"
