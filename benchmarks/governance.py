"""What an account's voting power costs with a million accounts: `python -m benchmarks.governance` prints JSON.

The SQLite file is filled with accounts that were each paid once, with one that moved money 100,000 times in the time
that counts, and with one that 100 others let vote for them. Powers are asked for over HTTP, one after the other.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from aitbc.coordinator.database import Database, Tx, sqlite_path
from aitbc.coordinator.governance.delegations import MAX_DELEGATORS
from aitbc.coordinator.ledger import closing, marks
from benchmarks import machine
from benchmarks.databases import Databases, Prepared
from benchmarks.explorer import percentiles_ms
from benchmarks.processes import Coordinator

ACCOUNTS = 1_000_000
BUSY = 100_000  # movements of the busiest account
REQUESTS = 400  # of each kind
AT_MOST_MS = 30.0
DAY_MS = 86_400_000
HELD = 100 * 10**8

FILL = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {last})
INSERT INTO {table} SELECT {values} FROM n
"""


def fill(prepared: Prepared, accounts: int, busy: int) -> None:
    """Fills a prepared SQLite database. The sums are right; nothing of it is in the log."""
    now_ms = int(time.time() * 1000)
    spread_ms = 29 * DAY_MS
    connection = sqlite3.connect(sqlite_path(prepared.url), isolation_level=None)
    connection.execute("BEGIN")
    name, busiest = "printf('many-%07d', i)", "'busiest'"
    many = f"{now_ms} - 30 * {DAY_MS} + i * {spread_ms} / {accounts}"
    moved = f"{now_ms} - 6 * {DAY_MS} + i * {5 * DAY_MS} / {busy}"
    side = ("many-0000001", "busiest")
    for table, last, values in (
        ("accounts", accounts - 1, f"{name}, 'user', {HELD}, 0, 0"),
        (
            "transfers",
            accounts - 1,
            f"printf('m-%07d', i), 'mint', 'system:mint', {name}, {HELD}, NULL, 'devnet grant', {many}",
        ),
        (
            "transfers",
            busy - 1,
            f"printf('b-%07d', i), 'transfer', CASE i % 2 WHEN 0 THEN '{side[1]}' ELSE '{side[0]}' END,"
            f" CASE i % 2 WHEN 0 THEN '{side[0]}' ELSE '{side[1]}' END, 1, NULL, '', {moved}",
        ),
        (
            "delegations",
            MAX_DELEGATORS - 1,
            "printf('delegation:1:many-%07d', i + 10), printf('many-%07d', i + 10), 1, 'many-0000000', 1",
        ),
    ):
        connection.execute(FILL.format(last=last, table=table, values=values))
    connection.execute(f"INSERT INTO accounts VALUES ({busiest}, 'user', {HELD}, 0, 0)")
    connection.execute(
        "INSERT INTO transfers VALUES ('b', 'mint', 'system:mint', 'busiest', ?, NULL, 'devnet grant', ?)",
        (HELD, now_ms - 30 * DAY_MS),
    )
    connection.execute(
        "UPDATE accounts SET balance_units = ? WHERE id = 'system:mint'", (-HELD * (accounts + 1),)
    )
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    database = Database.open(prepared.url)
    try:
        database.write_sync(_mark)
    finally:
        database.close()


def _mark(tx: Tx) -> None:
    """As the loop has marked them by then."""
    closed = closing.close(tx, tx.now_ms, tx.now_ms)
    for account in ("busiest", "many-0000001"):
        made = marks.of_account(tx, account, closed, 10**6)
        tx.many(marks.INSERT_MARK, [one._asdict() for one in made])


def measure(
    folder: Path, accounts: int = ACCOUNTS, busy: int = BUSY, count: int = REQUESTS
) -> dict[str, object]:
    """Fills a database in `folder` and asks for powers of every kind. All times in ms."""
    prepared = Databases(folder, None).fresh()
    began = time.monotonic()
    fill(prepared, accounts, busy)
    print(f"filled in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    base = "/v1/governance/voting-power"
    paths: dict[str, Callable[[random.Random], str]] = {
        "any account": lambda draw: f"{base}/many-{draw.randrange(accounts):07d}",
        "the busiest account": lambda _draw: f"{base}/busiest",
        f"an account with {MAX_DELEGATORS} delegators": lambda _draw: f"{base}/many-0000000",
    }
    rows: dict[str, dict[str, float]] = {}
    with Coordinator(prepared, folder / "home") as coordinator:
        for name, make in paths.items():
            rows[name] = percentiles_ms(coordinator.port, make, count)
    worst = max(row["p99"] for row in rows.values())
    return {
        "accounts": accounts,
        "movements_of_the_busiest": busy,
        "requests_of_each": count,
        "load_average": machine.load_average(),
        "powers": rows,
        "figures": [
            {
                "name": "power_p99",
                "unit": "ms",
                "value": worst,
                "at_most": AT_MOST_MS,
                "reached": worst <= AT_MOST_MS,
            }
        ],
    }


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks.governance", description=__doc__)
    options.add_argument("--accounts", type=int, default=ACCOUNTS)
    options.add_argument("--requests", type=int, default=REQUESTS, help="of each kind")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="aitbc-bench-") as folder:
        print(json.dumps(measure(Path(folder), given.accounts, count=given.requests), indent=1))


if __name__ == "__main__":
    main()
