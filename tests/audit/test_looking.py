"""Commands that only read: the database's file, its folder and what lies beside it stay as they are."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from aitbc.coordinator.database import Database, looking
from aitbc.coordinator.database.looking import Looker
from aitbc.coordinator.database.sqlite import connect
from aitbc.coordinator.errors import StorageUnavailable
from tests.audit.scene import Scene
from tests.cli.harness import User
from tests.support.flows import Market

pytestmark = pytest.mark.parametrize("databases", ["sqlite"], indirect=True)

COMMANDS = [
    ["audit"],
    ["db", "check"],
    ["db", "version"],
    ["keys", "list"],
    ["ledger", "accounts"],
    ["ledger", "balance", "alice"],
    ["providers", "list"],
]
"""The operator's commands that read a database which is named; `log head` and `doctor` read that of the home."""
NOBODY = 65_534


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    return User(tmp_path / "home", monkeypatch)


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that everybody may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="aitbc-look-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def backup(database_url: str, folder: Path) -> None:
    """A whole file by itself, in SQLite's own mode."""
    with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"))) as source:
        source.execute(f"VACUUM INTO '{folder / 'copy.db'}'")


def killed(database_url: str, folder: Path, parts: tuple[str, ...]) -> None:
    """What a killed coordinator leaves: changes that are in the write-ahead log only; or what somebody copied of it."""
    backup(database_url, folder)
    with closing(connect(folder / "copy.db", timeout_s=1)) as writer:
        writer.execute("UPDATE accounts SET created_at_ms = 7")
        for part in ("", *parts):
            shutil.copy(folder / f"copy.db{part}", folder / f"left.db{part}")
    for file in folder.glob("copy.db*"):
        file.unlink()
    for file in folder.glob("left.db*"):
        file.rename(file.with_name(file.name.replace("left", "copy")))


def closed(database_url: str, folder: Path) -> None:
    """What a stopped coordinator leaves: in WAL mode, nothing beside it."""
    backup(database_url, folder)
    with closing(connect(folder / "copy.db", timeout_s=1)) as writer:
        writer.execute("UPDATE accounts SET created_at_ms = created_at_ms + 1")


KINDS = {
    "backup": backup,
    "stopped": closed,
    "killed": lambda url, folder: killed(url, folder, ("-wal", "-shm")),
    "copied": lambda url, folder: killed(url, folder, ("-wal",)),
}


def state(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    files = [*folder.iterdir(), folder]
    return {
        file.name: (
            file.read_bytes() if file.is_file() else b"",
            file.stat().st_mode,
            file.stat().st_mtime_ns,
        )
        for file in files
    }


@contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """As a user who may read what is in the folder, and write nowhere in it."""
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.mark.parametrize("kind", KINDS)
def test_who_reads_changes_nothing(
    user: User, market: Market, database_url: str, folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Scene(market, grants=3)
    KINDS[kind](database_url, folder)
    url = f"sqlite:///{folder / 'copy.db'}"
    before = state(folder)
    said = {}
    for words in COMMANDS:
        outcome = user(*words, "--database-url", url)
        assert outcome.code == 0, (words, outcome)
        assert state(folder) == before, words
        said[" ".join(words)] = outcome.out
    kept = user.home.parent / f"{kind}.db"
    assert user("db", "backup", str(kept), "--database-url", url).code == 0
    assert state(folder) == before
    monkeypatch.setenv("AITBC_HOME", "/nowhere")  # the tests' own folders are closed to others
    monkeypatch.chdir("/")
    with as_nobody(folder):
        for words in COMMANDS[1:]:
            assert user(*words, "--database-url", url).out == said[" ".join(words)]
        assert user("audit", "--database-url", url).code == 0
    assert not list(Path(tempfile.gettempdir()).glob("aitbc-look-*/left*"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_doctor_changes_nothing(
    user: User, market: Market, database_url: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("API_PORT", "0")
    assert user("init").code == 0
    own = user.home / "coordinator.db"
    own.unlink()
    Scene(market, grants=3)
    folder = user.home.parent / "made"
    folder.mkdir()
    KINDS[kind](database_url, folder)
    for file in folder.iterdir():
        file.chmod(0o600)
        file.rename(user.home / file.name.replace("copy.db", "coordinator.db"))
    before = state(user.home)
    outcome = user("doctor", "--no-engine", "--json")
    states = {one["name"]: one["ok"] for one in outcome.json["checks"]}
    assert (states["database"], states["network"], states["database files"]) == (True, True, True), (
        outcome.out
    )
    user("log", "head")
    assert state(user.home) == before


def test_what_waits_in_the_log_is_read(database_url: str, market: Market, folder: Path) -> None:
    """Also where it has to be copied for that; the copy is gone afterwards."""
    Scene(market, grants=3)
    for kind in ("killed", "copied"):
        KINDS[kind](database_url, folder)
        db = Database.open(f"sqlite:///{folder / 'copy.db'}", looks_only=True)
        looker = db.backend._looker
        assert looker is not None
        sql = "SELECT DISTINCT created_at_ms FROM accounts"
        assert db.read_sync(lambda tx, sql=sql: tx._cursor.execute(sql).fetchall()) == [(7,)]
        places = [Path(copy.name) for copy in looker._copies]
        assert len(places) == (kind == "copied")
        db.close()
        assert not any(place.exists() for place in places)
        for file in folder.iterdir():
            file.unlink()


def test_a_file_that_changes_meanwhile_is_said_so(database_url: str, market: Market, folder: Path) -> None:
    """SQLite takes no locks on a file that is taken not to change."""
    closed(database_url, folder)
    looker = Looker(folder / "copy.db")
    with closing(looker.connect(1)) as reader, closing(connect(folder / "copy.db", timeout_s=1)) as writer:
        assert reader.execute("SELECT count(*) FROM accounts").fetchone()
        looker.check()
        writer.execute("UPDATE accounts SET created_at_ms = created_at_ms + 1")
        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with pytest.raises(StorageUnavailable, match=looking.CHANGED):
            looker.check()
