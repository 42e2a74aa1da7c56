"""The head that is kept outside the database: what continues it is gone on with, all else is refused."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aitbc.coordinator.chain import continuity, sealer
from aitbc.coordinator.config import Settings
from aitbc.coordinator.database import Database
from aitbc.coordinator.errors import LogRefused, StorageUnavailable
from aitbc.coordinator.jobs.matching.idle_miners import IdleMiners
from aitbc.coordinator.process.loops.sealing import seal_once
from aitbc.coordinator.process.runtime import Runtime
from aitbc.coordinator.signing.headfile import HeadFile, HeadFileError, Kept
from aitbc.core.clock import SystemClock
from tests.coordinator.chain.logs import append, check, leave_gap
from tests.support.databases import Databases
from tests.support.flows import CHAIN, KEY, context, found
from tests.witness.network import copied

sqlite_only = pytest.mark.parametrize("databases", ["sqlite"], indirect=True)


@pytest.fixture
def db(db: Database) -> Database:
    """A database with block 0."""
    db.write_sync(found)
    return db


class Killed(Exception):
    """The process is gone at this point."""


def coordinator(db: Database, home: Path) -> Runtime:
    settings = Settings(database_url="sqlite:///unused.db", api_keys="", home=home)
    return Runtime(settings, db, context(), SystemClock(), IdleMiners(), head_file=HeadFile(home, CHAIN))


def seal(runtime: Runtime, leaves: int = 3) -> None:
    runtime.db.write_sync(append, leaves)
    asyncio.run(seal_once(runtime))


def size(db: Database) -> int:
    head = db.read_sync(sealer.head)
    return 0 if head is None else head.tree_size


def kept_size(home: Path) -> int:
    kept = HeadFile(home, CHAIN).read()
    assert kept.intent is None
    return 0 if kept.head is None else kept.head.head.size


def starts(runtime: Runtime) -> bool:
    """Whether a coordinator would start on the database."""
    head_file = runtime.head_file
    assert head_file is not None
    try:
        runtime.db.read_sync(continuity.check, head_file, CHAIN, KEY)
    except LogRefused as error:
        assert str(head_file.path) in error.message or str(head_file.next_path) in error.message
        return False
    return True


def test_each_block_is_kept(db: Database, tmp_path: Path) -> None:
    runtime = coordinator(db, tmp_path / "home")
    for expected in (3, 6, 306):
        seal(runtime, 300 if expected == 306 else 3)
        assert (size(db), kept_size(tmp_path / "home"), starts(runtime)) == (expected, expected, True)
    head = db.read_sync(sealer.head)
    assert head is not None
    file = HeadFile(tmp_path / "home", CHAIN).path
    assert file.read_text() == head.checkpoint
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_database_from_before_is_taken_as_it_is(db: Database, tmp_path: Path) -> None:
    seal(coordinator(db, tmp_path / "other"), 5)
    runtime = coordinator(db, tmp_path / "home")
    assert starts(runtime)
    asyncio.run(seal_once(runtime))
    assert kept_size(tmp_path / "home") == 5


@sqlite_only
@pytest.mark.parametrize("meanwhile", [0, 2, 3, 9])
def test_a_restored_backup_is_refused(db: Database, tmp_path: Path, meanwhile: int) -> None:
    """Also where somebody else has sealed upon it to the very size that was signed, or beyond."""
    runtime = coordinator(db, tmp_path / "home")
    seal(runtime, 5)
    backup = copied(db, tmp_path / "backup.db")
    try:
        seal(runtime, 3)
        if meanwhile:
            seal(coordinator(backup, tmp_path / "other"), meanwhile)
        restored = coordinator(backup, tmp_path / "home")
        assert not starts(restored)
        before = size(backup)
        seal(restored)
        assert size(backup) == before
        assert restored.sealing_stopped == restored.log_refused != ""
        said = "older than the log" if meanwhile < 3 else "two histories"
        assert said in restored.log_refused
        with pytest.raises(LogRefused):
            restored.check_log()
        assert kept_size(tmp_path / "home") == 8
        assert starts(runtime)
        HeadFile(tmp_path / "home", CHAIN).accept(None)
        assert starts(coordinator(backup, tmp_path / "home")), "the operator said so"
    finally:
        backup.close()


UNSEAL = (
    "DELETE FROM blocks WHERE height = 2",
    "UPDATE leaves SET leaf_index = NULL WHERE leaf_index >= 3",
    "UPDATE tiles SET hashes = substr(hashes, 1, 96)",
)
REWRITES: dict[str, tuple[str, ...]] = {
    "the newest block unsealed": UNSEAL,
    "and a leaf more": (
        *UNSEAL,
        "INSERT INTO leaves (kind, ref_id, hash, hash_head) VALUES (0, 'forged', randomblob(32), 0)",
    ),
    "all of it": (
        "DELETE FROM blocks WHERE height > 0",
        "UPDATE leaves SET leaf_index = NULL",
        "DELETE FROM tiles",
    ),
    "a tile": ("UPDATE tiles SET hashes = randomblob(length(hashes))",),
    "no tiles": ("DELETE FROM tiles",),
    "the root of the newest block": ("UPDATE blocks SET root = replace(root, 'a', 'b') WHERE height = 2",),
}


@sqlite_only
@pytest.mark.parametrize("rewrite", REWRITES)
def test_sealed_history_cannot_be_set_back_without_the_key(
    db: Database, tmp_path: Path, rewrite: str
) -> None:
    """While the coordinator runs, too: it never signs two trees of one size."""
    runtime = coordinator(db, tmp_path / "home")
    seal(runtime)
    seal(runtime)
    backend: Any = db.backend
    with sqlite3.connect(backend.path) as connection:
        for trigger in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger[0]}")
        for sql in REWRITES[rewrite]:
            connection.execute(sql)
    blocks = db.read_sync(sealer.head)
    asyncio.run(seal_once(runtime))
    assert runtime.log_refused
    assert db.read_sync(sealer.head) == blocks
    assert not starts(coordinator(db, tmp_path / "home"))
    assert kept_size(tmp_path / "home") == 6


@pytest.mark.parametrize("gap", [False, True])
@pytest.mark.parametrize("when", ["before", "after", "unknown"])
def test_a_kill_beside_the_commit_is_survived(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, gap: bool
) -> None:
    """Whatever waits by then, the tree that was signed is the one that is sealed."""
    home = tmp_path / "home"
    runtime = coordinator(db, home)
    seal(runtime)
    db.write_sync(append, 2)
    if gap:
        db.write_sync(leave_gap)
        db.write_sync(append, 2)
    write = db.write

    async def killed(fn: Callable[..., Any], *args: Any) -> Any:
        if when != "before":
            await write(fn, *args)
        raise StorageUnavailable if when == "unknown" else Killed

    monkeypatch.setattr(db, "write", killed)
    with pytest.raises((Killed, StorageUnavailable)):
        asyncio.run(seal_once(runtime))
    monkeypatch.undo()
    intent = HeadFile(home, CHAIN).read().intent
    assert intent is not None
    db.write_sync(append, 4)
    again = coordinator(db, home)
    assert starts(again)
    asyncio.run(seal_once(again))
    blocks = check(db).blocks
    assert blocks[2].checkpoint == intent.signed.checkpoint, "the one tree of this size that was ever signed"
    asyncio.run(seal_once(again))
    assert (again.log_refused, kept_size(home)) == ("", size(db))


@sqlite_only
def test_a_backup_of_just_before_a_kill_is_refused(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its leaves are not there: what was signed cannot be sealed."""
    runtime = coordinator(db, tmp_path / "home")
    seal(runtime)
    backup = copied(db, tmp_path / "backup.db")
    try:

        async def killed(*_args: Any) -> None:
            raise Killed

        db.write_sync(append, 2)
        monkeypatch.setattr(db, "write", killed)
        with pytest.raises(Killed):
            asyncio.run(seal_once(runtime))
        assert starts(runtime)
        backup.write_sync(append, 2)
        restored = coordinator(backup, tmp_path / "home")
        assert not starts(restored)
        asyncio.run(seal_once(restored))
        assert "older than the log" in restored.log_refused
        assert size(backup) == 3
    finally:
        backup.close()


def test_several_coordinators_keep_what_each_other_sealed(db: Database, tmp_path: Path) -> None:
    first, second = (coordinator(db, tmp_path / name) for name in ("a", "b"))
    for runtime in (first, second, second, first, second):
        seal(runtime)
    assert starts(first)
    assert kept_size(tmp_path / "a") == 12
    asyncio.run(seal_once(first))
    assert (kept_size(tmp_path / "a"), kept_size(tmp_path / "b"), size(db)) == (15, 15, 15)
    assert (first.log_refused, second.log_refused) == ("", "")


def test_who_loses_the_race_for_a_height_gives_up_what_it_signed(db: Database, tmp_path: Path) -> None:
    """Killed or not before it heard: the winner's block has the same key's signature."""
    seal(coordinator(db, tmp_path / "a"))
    loser = coordinator(db, tmp_path / "a")
    db.write_sync(append, 2)
    made = db.read_sync(sealer.draft, CHAIN, KEY)
    assert made is not None
    assert loser.head_file is not None
    loser.head_file.intend(made.block.checkpoint, made.block.first_leaf, made.runs)
    db.write_sync(append, 2)
    seal(coordinator(db, tmp_path / "b"), 1)  # 5 more at once
    assert starts(loser)
    seal(loser)
    assert (loser.log_refused, kept_size(tmp_path / "a"), size(db)) == ("", 11, 11)


@pytest.mark.parametrize("which", ["path", "next_path"])
def test_files_that_were_changed_are_not_guessed_at(db: Database, tmp_path: Path, which: str) -> None:
    runtime = coordinator(db, tmp_path / "home")
    seal(runtime)
    head_file = runtime.head_file
    assert head_file is not None
    file: Path = getattr(head_file, which)
    for text in ("", "{}", "x" * 100, '{"checkpoint": "x", "base_size": 1, "runs": []}'):
        file.write_text(text)
        with pytest.raises(HeadFileError, match="aitbc log accept"):
            head_file.read()
        assert not starts(coordinator(db, tmp_path / "home"))
    again = coordinator(db, tmp_path / "home")
    asyncio.run(seal_once(again))
    assert again.log_refused


def test_nothing_is_sealed_that_cannot_be_kept(db: Database, tmp_path: Path) -> None:
    runtime = coordinator(db, tmp_path / "home")
    seal(runtime)
    shutil.rmtree(tmp_path / "home")
    (tmp_path / "home").write_text("in the way")
    with pytest.raises(OSError):  # the disk says no, in one way or another
        seal(runtime)
    assert size(db) == 3


@sqlite_only
@pytest.mark.parametrize("sealed", [0, 3])
def test_an_empty_database_does_not_continue_what_was_signed(
    db: Database, databases: Databases, tmp_path: Path, sealed: int
) -> None:
    """The database was deleted, or the file is another's: block 0 is not even there."""
    runtime = coordinator(db, tmp_path / "home")
    if sealed:
        seal(runtime, sealed)
    db.write_sync(append, 2)
    made = db.read_sync(sealer.draft, CHAIN, KEY)
    assert made is not None
    assert runtime.head_file is not None
    runtime.head_file.path.parent.mkdir(exist_ok=True)
    runtime.head_file.intend(made.block.checkpoint, made.block.first_leaf, made.runs)
    kept = runtime.head_file.read()
    (tmp_path / "new").mkdir()
    with closing(Database.open(databases.migrated(tmp_path / "new"))) as empty:
        assert not starts(coordinator(empty, tmp_path / "home"))

        def fault(kept: Kept) -> str:
            return empty.read_sync(continuity.look, kept, CHAIN, KEY).fault

        if sealed:
            assert fault(kept).startswith("it has sealed 0 leaves, and a tree of 3 (root")
            assert fault(Kept(None, kept.intent)).startswith(
                "it has sealed 0 leaves, and a tree of 5 was signed"
            )
        else:
            assert fault(kept).startswith("a tree of 2 leaves was signed, and those beyond 0 are not there")
