"""Every column of every table, changed; rows taken away and added: found by the audit, or listed with a reason.

The schema is read from the models, so that a new column fails here until the audit sees it or
`aitbc.audit.sight.OUTSIDE` says why it cannot.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aitbc.audit.sight import ADDED, ALL, OUTSIDE, REMOVED
from aitbc.audit.trust import Trust, read_kept
from aitbc.tables import metadata
from tests.audit.tampered import forged, found
from tests.audit.test_forgeries import KEYS, checkpoint
from tests.audit.test_outside import POLICY

pytestmark = pytest.mark.parametrize("databases", ["sqlite"], indirect=True)

KINDS = {
    "jobs": "status || manual_payment || (hold_id <> '')",
    "payments": "status || (price_units > 0)",
    "transfers": "kind || (id IN (SELECT ref_id FROM leaves WHERE leaf_index IS NULL))",
    "leaves": "kind || (leaf_index IS NULL)",
    "blocks": "height",
    "tiles": "level || idx",
    "job_events": "type",
    "counters": "name = 'closed'",
}
"""What tells rows of a table apart that the audit looks at in different ways."""
TABLES = sorted(name for name in metadata.tables if ALL not in OUTSIDE.get(name, {}))


def rows_of(file: Path, table: str) -> Iterator[str]:
    """Conditions that pick one row each."""
    keys = [column.name for column in metadata.tables[table].primary_key]
    db = sqlite3.connect(file)
    try:
        seen: dict[Any, int] = {}
        kind = KINDS.get(table, "1")
        for values in db.execute(f"SELECT {kind}, {', '.join(keys)} FROM {table} ORDER BY {', '.join(keys)}"):
            seen[values[0]] = seen.get(values[0], 0) + 1
            if seen[values[0]] <= (1 if table in ("jobs", "payments", "blocks", "tiles") else 2):
                yield " AND ".join(f"{key} = {value!r}" for key, value in zip(keys, values[1:], strict=True))
    finally:
        db.close()


def flip(table: str, column: str) -> str:
    """What the column becomes."""
    kind = str(metadata.tables[table].c[column].type).upper()
    if "BLOB" in kind or "BINARY" in kind:
        return f"CAST(zeroblob(1) || substr({column}, 2) AS BLOB)"
    if "INT" in kind:
        return f"coalesce({column}, 0) + 1"
    return f"coalesce({column}, '') || 'x'"


def run(sql: str) -> Any:
    """Does it; where the table's own key forbids it, the database would not open with it either."""

    def forge(db: sqlite3.Connection) -> None:
        try:
            assert db.execute(sql).rowcount == 1, sql
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


@pytest.mark.parametrize("table", TABLES)
def test_every_change_is_found_or_listed(small: Path, table: str) -> None:
    trust = trust_of(small)
    assert found(small, trust) is None
    listed = OUTSIDE.get(table, {})
    rows = list(rows_of(small, table))
    assert rows, f"nothing to change in {table}: put something into the scene, or list it with its reason"
    columns = [column.name for column in metadata.tables[table].columns]
    changes = {
        name: [f"UPDATE {table} SET {name} = {flip(table, name)} WHERE {row}" for row in rows]
        for name in columns
    }
    changes[REMOVED] = [f"DELETE FROM {table} WHERE {row}" for row in rows]
    changes[ADDED] = [added(table, row, number) for number, row in enumerate(rows)]
    assert listed.keys() <= changes.keys()
    missed = {}
    for what, statements in changes.items():
        for sql in statements:
            if found(forged(small, run(sql)), trust) is None:
                missed[what] = sql
                break
    assert missed.keys() - listed.keys() == set(), "\n".join(
        missed[name] for name in missed.keys() - listed.keys()
    )
    assert listed.keys() - missed.keys() == set(), "the audit sees these: take them off the list"
