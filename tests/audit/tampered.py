"""A database in which everything happened, as a file to tamper with: as somebody has it who owns it.

SQLite without its triggers, CHECKs and unique indexes.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aitbc.audit.database import audit
from aitbc.audit.findings import Report, Wrong
from aitbc.audit.trust import Trust
from aitbc.coordinator.database import Database
from aitbc.core.clock import ManualClock
from tests.audit.scene import WITNESS, Scene, everything
from tests.conftest import START_MS
from tests.support.databases import Databases
from tests.support.flows import CHAIN, Market


@pytest.fixture
def honest(
    databases: Databases, memory_folder: Path, _scenes: dict[str, Path], ids_of_this_time: None
) -> Path:
    """The file; made once for a module."""
    return _made(databases, memory_folder, _scenes, "honest.db", 300)


@pytest.fixture
def small(
    databases: Databases, memory_folder: Path, _scenes: dict[str, Path], ids_of_this_time: None
) -> Path:
    """The same with few grants: quicker to audit many times."""
    return _made(databases, memory_folder, _scenes, "small.db", 3)


@pytest.fixture
def wide(databases: Databases, memory_folder: Path, _scenes: dict[str, Path], ids_of_this_time: None) -> Path:
    """The small one with a row in every table of the schema."""
    return _made(databases, memory_folder, _scenes, "wide.db", 3, everything)


def _made(
    databases: Databases,
    memory_folder: Path,
    scenes: dict[str, Path],
    name: str,
    grants: int,
    more: Callable[[Scene], object] = lambda _scene: None,
) -> Path:
    if name not in scenes:
        url = databases.migrated(memory_folder)
        clock = ManualClock(now_ms=START_MS)
        db = Database.open(url, clock=clock)
        more(Scene(Market(db, clock), grants))
        db.close()
        file = Path(url.removeprefix("sqlite:///"))
        with changing(file) as connection:
            for kind, name in connection.execute(
                "SELECT type, name FROM sqlite_master WHERE sql IS NOT NULL AND"
                " (type = 'trigger' OR (type = 'index' AND sql LIKE 'CREATE UNIQUE%'))"
            ).fetchall():
                connection.execute(f"DROP {kind} {name}")
        scenes[name] = Path(shutil.copy(file, scenes["folder"] / name))
    return scenes[name]


@pytest.fixture(scope="module")
def _scenes() -> Iterator[dict[str, Path]]:
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="aitbc-test-", dir=shared if shared.is_dir() else None) as folder:
        yield {"folder": Path(folder)}


@contextmanager
def changing(file: Path) -> Iterator[sqlite3.Connection]:
    """The file, to be changed."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA ignore_check_constraints = ON")
    try:
        yield connection
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()


def report_on(file: Path, trust: Trust | None = None) -> Report:
    """What the audit says."""
    db = Database.open(f"sqlite:///{file}")
    try:
        return db.read_sync(audit, CHAIN, [WITNESS], None, trust or Trust())
    finally:
        db.close()


def found(file: Path, trust: Trust | None = None) -> Wrong | None:
    """The first thing that the audit finds wrong."""
    return report_on(file, trust).wrong


def copy_of(honest: Path) -> Path:
    """A copy of it to change."""
    copy = honest.with_name("changed.db")
    for suffix in ("-wal", "-shm"):
        copy.with_name(copy.name + suffix).unlink(missing_ok=True)
    return Path(shutil.copy(honest, copy))


def forged(honest: Path, forge: Callable[[sqlite3.Connection], object]) -> Path:
    """A copy, with `forge` done to it."""
    copy = copy_of(honest)
    with changing(copy) as connection:
        forge(connection)
    return copy


def changed(honest: Path, sql: str, *values: Any) -> tuple[Any, Wrong | None]:
    """Does `sql` (UPDATE … RETURNING what names the row) to a copy; the name, and what the audit says."""
    copy = copy_of(honest)
    with changing(copy) as connection:
        rows = connection.execute(sql, values).fetchall()
        assert len(rows) == 1, f"{len(rows)} rows: {sql}"
    return rows[0][0], found(copy)
