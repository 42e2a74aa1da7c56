"""What a witness has seen: the largest tree of each log, on disk before anybody hears of it."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import NamedTuple

_SCHEMA = """
CREATE TABLE IF NOT EXISTS logs (
    origin TEXT PRIMARY KEY, size INTEGER NOT NULL CHECK (size >= 0), root BLOB NOT NULL, checkpoint TEXT NOT NULL
) WITHOUT ROWID
"""


class Seen(NamedTuple):
    """The largest checkpoint of a log that this witness cosigned. Size 0: none yet."""

    size: int
    root: bytes


class WitnessState:
    """One SQLite file. `advance` is a compare-and-swap, so that two requests cannot roll a log back."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute(_SCHEMA)

    def seen(self, origin: str) -> Seen | None:
        """What was last cosigned for this log."""
        with self._lock:
            row = self._connection.execute(
                "SELECT size, root FROM logs WHERE origin = ?", (origin,)
            ).fetchone()
        return None if row is None else Seen(int(row[0]), bytes(row[1]))

    def advance(self, origin: str, known: Seen | None, size: int, root: bytes, checkpoint: str) -> bool:
        """Records a larger (or the same) tree. False where another request was quicker; durable when True."""
        with self._lock:
            if known is None:
                changed = self._connection.execute(
                    "INSERT OR IGNORE INTO logs (origin, size, root, checkpoint) VALUES (?, ?, ?, ?)",
                    (origin, size, root, checkpoint),
                ).rowcount
            else:
                changed = self._connection.execute(
                    "UPDATE logs SET size = ?, root = ?, checkpoint = ? WHERE origin = ? AND size = ? AND root = ?",
                    (size, root, checkpoint, origin, known.size, known.root),
                ).rowcount
        return changed == 1

    def latest(self, origin: str) -> str | None:
        """The checkpoint last cosigned for this log, with the log's signature and the cosignature."""
        with self._lock:
            row = self._connection.execute(
                "SELECT checkpoint FROM logs WHERE origin = ?", (origin,)
            ).fetchone()
        return None if row is None else str(row[0])

    def close(self) -> None:
        with self._lock:
            self._connection.close()
