"""What sealing and proving cost as the log grows: `python -m benchmarks.chain` prints JSON.

The SQLite file is filled by SQL, but its tree is real: every leaf hash, tile and root is what sealing these
leaves one block after another would have stored. New leaves are transfers that go through the ledger.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from aitbc.coordinator.chain import founding, proofs, sealer
from aitbc.coordinator.chain.network import NetworkRow
from aitbc.coordinator.chain.service import head_of
from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.schema import migrate
from aitbc.core.ids import new_id
from aitbc.core.log import tiles
from aitbc.core.log.block import GENESIS_TIME_MS
from aitbc.core.log.leaf import transfer_leaf
from aitbc.core.log.merkle import leaf_hash
from aitbc.core.log.tlog_proof import parse_proof
from aitbc.core.signing import PrivateKey
from aitbc.core.transfer_ids import SIGNED, new_transfer_id
from benchmarks import machine
from benchmarks.processes import CHAIN_ID, MeasurementFailed

NEW_LEAVES = 1_000
SMALL, LARGE = 1_000, 1_000_000
ROUNDS = 15
PROOFS = 3_000
CHUNK = 50_000
KEY = PrivateKey.from_seed(hashlib.sha256(b"aitbc/benchmarks/chain").digest())


class Target(NamedTuple):
    """What a figure must reach: at most this."""

    name: str
    unit: str
    at_most: float | None


TARGETS = (
    Target("seal_small", "ms", None),
    Target("seal_large", "ms", 50),
    Target("seal_ratio", "ratio", 1.5),
    Target("seal_large_worst", "ms", None),
    Target("proof_p50", "ms", None),
    Target("proof_p99", "ms", 10),
)


class Row(NamedTuple):
    """A transfer that the filler writes, in the order of the leaf's arguments."""

    id: str
    kind: str
    debit_id: str
    credit_id: str
    amount_units: int
    hold_id: str | None
    ref: str
    created_at_ms: int


REF = SIGNED.of("0" * 64)


def transfers(count: int) -> Iterator[Row]:
    """So many transfers of one unit, a millisecond apart, ids in order."""
    base_ms = GENESIS_TIME_MS
    for number in range(count):
        at_ms = base_ms + number
        yield Row(new_id(at_ms), "transfer", "a", "b", 1, None, REF, at_ms)


def fill(path: Path, count: int) -> None:
    """A migrated SQLite file whose log has `count` sealed leaves: genesis and one block over them all."""
    migrate.upgrade(f"sqlite:///{path}")
    database = Database.open(f"sqlite:///{path}")
    try:
        founded = database.write_sync(_open_accounts, count)
    finally:
        database.close()
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=OFF", "cache_size=-400000", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
    stored: dict[tiles.Tile, bytes] = {}
    size = 0
    rows = transfers(count)
    while size < count:
        part = [next(rows) for _ in range(min(CHUNK, count - size))]
        hashes = [leaf_hash(transfer_leaf(*row)) for row in part]
        connection.execute("BEGIN")
        _insert(connection, "transfers", Row._fields, part)
        _insert(
            connection,
            "leaves",
            ("kind", "ref_id", "hash", "hash_head", "leaf_index"),
            [
                (0, row.id, h, head_of(h), size + i)
                for i, (row, h) in enumerate(zip(part, hashes, strict=True))
            ],
        )
        connection.execute("COMMIT")
        stored.update(tiles.grow(size, hashes, stored))
        size += len(part)
    connection.execute("BEGIN")
    _insert(connection, "tiles", ("level", "idx", "hashes"), [(*tile, data) for tile, data in stored.items()])
    block = _block(founded, count, tiles.root(count, lambda _wanted: stored))
    _insert(connection, "blocks", block._fields, [block])
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _open_accounts(tx: Tx, count: int) -> NetworkRow:
    ledger.open_system_accounts(tx)
    founded = founding.ensure(tx, CHAIN_ID, KEY)
    for account in ("a", "b"):
        ledger.open_account(tx, account)
    tx._cursor.execute("UPDATE accounts SET balance_units = 1000000000 WHERE id = 'a' OR id = 'b'")
    return founded


def _insert(connection: sqlite3.Connection, table: str, columns: tuple[str, ...], rows: list[Any]) -> None:
    marks = ", ".join("?" for _ in columns)
    connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)


def _block(founded: NetworkRow, count: int, root: bytes) -> sealer.BlockRow:
    header = sealer.BlockHeader(
        CHAIN_ID, 1, founded.network_id, GENESIS_TIME_MS, 0, count, root.hex(), count, 0, KEY.key_id
    )
    return sealer.BlockRow(
        height=1,
        hash=header.hash,
        previous_hash=header.previous_hash,
        time_ms=header.time_ms,
        first_leaf=0,
        tree_size=count,
        root=header.root,
        transactions=count,
        receipts=0,
        total_transactions=count,
        total_receipts=0,
        proposer=header.proposer,
        signature=header.sign(KEY),
        checkpoint=sealer.signed_checkpoint(founded.origin, count, root, KEY),
    )


def append(tx: Tx, count: int) -> None:
    """So many transfers, each with its leaf, as the flows write them."""
    for _ in range(count):
        ledger.transfer(tx, new_transfer_id(tx.now_ms), "a", "b", 1, ref=REF)


def seal_ms(database: Database) -> float:
    """Milliseconds that one seal of NEW_LEAVES takes: reading, hashing, signing, writing, the fsync."""
    database.write_sync(append, NEW_LEAVES)
    began = time.perf_counter()
    draft = database.read_sync(sealer.draft, CHAIN_ID, KEY)
    sealed = draft is not None and database.write_sync(sealer.seal, draft)
    took_ms = (time.perf_counter() - began) * 1000
    if draft is None or not sealed or draft.block.tree_size - draft.block.first_leaf != NEW_LEAVES:
        raise MeasurementFailed("the seal did not take the new leaves")
    return took_ms


def proof_times_ms(database: Database, count: int) -> list[float]:
    """Milliseconds of each of `count` proofs of leaves chosen at random."""
    connection_rows = database.read_sync(_random_refs, count)
    times = []
    for ref in connection_rows:
        began = time.perf_counter()
        text = database.read_sync(proofs.proof_of, ref, 2.0)
        times.append((time.perf_counter() - began) * 1000)
    parse_proof(text)
    return times


def _random_refs(tx: Tx, count: int) -> list[str]:
    size = sealer.head(tx).tree_size  # type: ignore[union-attr]
    chosen = random.Random(7).choices(range(size), k=count)
    execute: Callable[..., Any] = tx._cursor.execute
    return [
        execute("SELECT ref_id FROM leaves WHERE leaf_index = ?", (index,)).fetchone()[0] for index in chosen
    ]


def measure(folder: Path, large: int = LARGE, rounds: int = ROUNDS, count: int = PROOFS) -> dict[str, float]:
    """All figures. The two sizes take turns, so that both see the same load of the machine."""
    open_databases = []
    try:
        for number, size in enumerate((SMALL, large)):
            path = folder / f"chain{number}.db"
            began = time.monotonic()
            fill(path, size)
            print(f"{size} leaves filled in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            open_databases.append(Database.open(f"sqlite:///{path}"))
        times: list[list[float]] = [[], []]
        for round_number in range(rounds + 2):
            for number, database in enumerate(open_databases):
                took = seal_ms(database)
                if round_number >= 2:  # the first ones warm the caches
                    times[number].append(took)
        proofs_ms = sorted(proof_times_ms(open_databases[1], count))
    finally:
        for database in open_databases:
            database.close()
    small, big = (statistics.median(part) for part in times)
    return {
        "seal_small": small,
        "seal_large": big,
        "seal_ratio": big / small,
        "seal_large_worst": max(times[1]),
        "proof_p50": statistics.median(proofs_ms),
        "proof_p99": proofs_ms[int(len(proofs_ms) * 0.99)],
    }


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks.chain", description=__doc__)
    options.add_argument("--leaves", type=int, default=LARGE, help="size of the large log")
    options.add_argument("--rounds", type=int, default=ROUNDS, help="seals measured at each size")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="aitbc-bench-") as folder:
        found = measure(Path(folder), given.leaves, given.rounds)
    figures = [
        {
            "name": target.name,
            "value": round(found[target.name], 3),
            "unit": target.unit,
            "at_most": target.at_most,
            "reached": None if target.at_most is None else found[target.name] <= target.at_most,
        }
        for target in TARGETS
    ]
    result = {
        "leaves": given.leaves,
        "new_leaves": NEW_LEAVES,
        "load_average": machine.load_average(),
        "figures": figures,
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
