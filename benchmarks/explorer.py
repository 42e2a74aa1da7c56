"""What a page of the explorer costs with a million transactions: `python -m benchmarks.explorer` prints JSON.

The SQLite file is filled with finished jobs (hold, post, fee and receipt, sealed into blocks) and with the
activity of many accounts. Pages are asked for over HTTP, one after the other on one connection, each at a
random depth by its cursor.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from aitbc.coordinator.chain import sealer
from aitbc.coordinator.database import sqlite_path
from benchmarks import machine
from benchmarks.databases import CLIENT, Databases, Prepared
from benchmarks.fill import fill_finished
from benchmarks.processes import Coordinator, MeasurementFailed

TRANSACTIONS = 1_000_000
ACCOUNTS = 100_000
PER_BLOCK = 256  # leaves; so many blocks, rather than few large ones
REQUESTS = 400  # of each kind
AT_MOST_MS = 30.0

SAMPLE = "SELECT ref_id, hash FROM leaves WHERE kind = ? ORDER BY hash_head LIMIT 2000"
FILL_ACTIVITY = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {last})
INSERT INTO {table} SELECT {columns} FROM n
"""


def fill(prepared: Prepared, transactions: int, accounts: int) -> None:
    """Fills a prepared SQLite database. Everything is sealed, counted and taken in."""
    usual, sealer.SEAL_LEAVES = sealer.SEAL_LEAVES, PER_BLOCK
    try:
        fill_finished(prepared, transactions // 3)
    finally:
        sealer.SEAL_LEAVES = usual
    connection = sqlite3.connect(sqlite_path(prepared.url), isolation_level=None)
    connection.execute("BEGIN")
    size = connection.execute("SELECT MAX(tree_size) FROM blocks").fetchone()[0]
    for table, columns in (
        ("accounts", "printf('many-%06d', i), 'user', 0, 0, 0"),
        ("account_activity", f"printf('many-%06d', i), 1, {size} - 1 - i, {size} - 1 - i, 0"),
    ):
        connection.execute(FILL_ACTIVITY.format(last=accounts - 1, table=table, columns=columns))
    connection.execute(f"INSERT INTO counters VALUES ('activity', {size}, ''), ('accounts', {accounts}, '')")
    connection.execute("INSERT INTO counters SELECT 'jobs', COUNT(*), MAX(id) FROM jobs")
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def paths(url: str) -> dict[str, Callable[[random.Random], str]]:
    """By name: makes the path of one request, somewhere at random."""
    connection = sqlite3.connect(sqlite_path(url))

    def value(sql: str) -> int:
        return int(connection.execute(sql).fetchone()[0])

    size = value("SELECT MAX(tree_size) FROM blocks")
    seq = value("SELECT MAX(seq) FROM leaves WHERE kind = 0")
    height = value("SELECT MAX(height) FROM blocks")
    sampled = [connection.execute(SAMPLE, (kind,)).fetchall() for kind in (0, 1)]
    connection.close()

    def ref(draw: random.Random, kind: int) -> str:
        return str(draw.choice(sampled[kind])[0])

    def digits(draw: random.Random) -> str:
        return bytes(draw.choice(sampled[0])[1]).hex()[:8]

    e = "/v1/explorer"
    account = "many-050000"
    return {
        "blocks": lambda d: f"/explorer/blocks?limit=100&cursor={d.randrange(1, height)}",
        "transactions": lambda d: f"/explorer/transactions?limit=100&cursor={d.randrange(seq)}",
        "transactions of a block": lambda d: f"{e}/transactions?limit=100&block={d.randrange(1, height)}",
        "transactions of an address": lambda d: (
            f"{e}/transactions?limit=100&address={CLIENT}&cursor={ref(d, 0)}"
        ),
        "transactions by offset": lambda d: f"{e}/transactions?limit=100&offset={d.randrange(10_000)}",
        "addresses": lambda d: (
            f"{e}/addresses?limit=100&cursor={size - d.randrange(min(ACCOUNTS, size))}.{account}"
        ),
        "receipts": lambda d: f"/explorer/receipts?limit=100&cursor={ref(d, 1)}",
        "receipts of a client": lambda d: f"/explorer/receipts?limit=100&client={CLIENT}&cursor={ref(d, 1)}",
        "a block": lambda d: f"{e}/blocks/{d.randrange(1, height)}",
        "an address": lambda d: f"{e}/addresses/{CLIENT}",
        "a search by hash": lambda d: f"{e}/search?q={digits(d)}",
        "a search by id": lambda d: f"{e}/search?q={ref(d, 1)}",
        "stats": lambda d: f"{e}/stats",
    }


def times_ms(port: int, make: Callable[[random.Random], str], count: int, key: str = "") -> list[float]:
    """Milliseconds of each request, sorted; with this key. Raises MeasurementFailed for an answer that is none."""
    draw = random.Random(7)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    found = []
    for _ in range(count):
        path = make(draw)
        began = time.perf_counter()
        connection.request("GET", path, headers={"X-Api-Key": key} if key else {})
        answer = connection.getresponse()
        body = answer.read()
        found.append((time.perf_counter() - began) * 1000)
        if answer.status != 200:
            raise MeasurementFailed(f"{path}: {answer.status} {body[:200]!r}")
    connection.close()
    return sorted(found)


def percentiles_ms(
    port: int, make: Callable[[random.Random], str], count: int, key: str = ""
) -> dict[str, float]:
    """p50, p99 and worst of so many requests, in ms, after a tenth as many that warm the caches."""
    times_ms(port, make, max(1, count // 10), key)
    times = times_ms(port, make, count, key)
    return {
        "p50": round(statistics.median(times), 2),
        "p99": round(times[int(len(times) * 0.99)], 2),
        "worst": round(times[-1], 2),
    }


def measure(folder: Path, transactions: int = TRANSACTIONS, count: int = REQUESTS) -> dict[str, object]:
    """Fills a database in `folder` and asks for every kind of page. All times in ms."""
    prepared = Databases(folder, None).fresh()
    began = time.monotonic()
    fill(prepared, transactions, min(ACCOUNTS, transactions))
    print(f"filled in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    rows: dict[str, dict[str, float]] = {}
    with Coordinator(prepared, folder / "home") as coordinator:
        for name, make in paths(prepared.url).items():
            rows[name] = percentiles_ms(coordinator.port, make, count)
    worst = max(row["p99"] for row in rows.values())
    return {
        "transactions": transactions,
        "requests_of_each": count,
        "load_average": machine.load_average(),
        "pages": rows,
        "figures": [
            {
                "name": "explorer_p99",
                "unit": "ms",
                "value": worst,
                "at_most": AT_MOST_MS,
                "reached": worst <= AT_MOST_MS,
            }
        ],
    }


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks.explorer", description=__doc__)
    options.add_argument("--transactions", type=int, default=TRANSACTIONS)
    options.add_argument("--requests", type=int, default=REQUESTS, help="of each kind")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="aitbc-bench-") as folder:
        print(json.dumps(measure(Path(folder), given.transactions, given.requests), indent=1))


if __name__ == "__main__":
    main()
