"""A SQLite database whose file goes while it is open: nothing is acknowledged that is gone afterwards."""

import asyncio
import json
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.database.files import SameFiles, parts
from aitbc.coordinator.errors import StorageUnavailable
from aitbc.coordinator.flows.acts.onboarding import issue_key
from aitbc.coordinator.ledger import service as ledger
from tests.support.server import ServerProcess

pytestmark = pytest.mark.parametrize("databases", ["sqlite"], indirect=True)


def delete(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    """As a restored backup, or a copy moved over it, would."""
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


@pytest.mark.parametrize("part", ["", "-wal", "-shm"])
@pytest.mark.parametrize("act", [delete, replace])
def test_writes_and_reads_are_refused(database_url: str, act: Callable[[Path], None], part: str) -> None:
    asyncio.run(_lose(database_url, act, part))


async def _lose(database_url: str, act: Callable[[Path], None], part: str) -> None:
    database = Database.open(database_url)
    path = Path(database_url.removeprefix("sqlite:///"))
    await database.start()
    try:
        await database.write(ledger.open_account, "before")
        aside = path.with_name("aside")
        gone = path.with_name(path.name + part)
        aside.hardlink_to(gone)
        act(gone)
        for _ in range(2):
            with pytest.raises(StorageUnavailable, match="deleted or replaced"):
                await database.write(ledger.open_account, "after")
            with pytest.raises(StorageUnavailable):
                await database.read(ledger.balance, "before")
        with pytest.raises(StorageUnavailable):
            database.write_sync(ledger.open_account, "after")
        aside.replace(gone)  # the very same file is back: nothing was lost
        await database.write(ledger.open_account, "again")
        await database.read(ledger.balance, "again")
    finally:
        await database.stop()


def test_what_goes_between_begin_and_commit_is_not_acknowledged(database_url: str) -> None:
    asyncio.run(_lose_meanwhile(database_url))


async def _lose_meanwhile(database_url: str) -> None:
    database = Database.open(database_url)
    await database.start()

    def write(tx: Tx) -> None:
        ledger.open_account(tx, "late")
        Path(database_url.removeprefix("sqlite:///")).unlink()

    try:
        with pytest.raises(StorageUnavailable):
            await database.write(write)
    finally:
        await database.stop()


def test_opening_makes_no_file(tmp_path: Path, databases: object) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/none.db")
    for act in (database.read_sync, database.write_sync):
        with pytest.raises(StorageUnavailable):
            act(ledger.balance, "x")
    database.close()
    assert not list(tmp_path.iterdir())


def test_a_file_is_known_once_it_is_open(tmp_path: Path, databases: object) -> None:
    path = tmp_path / "some.db"
    path.touch()
    wal = parts(path)[1]
    wal.touch()
    files = SameFiles(path)
    files.check()
    wal.unlink()  # by another process, whose connection was the last
    wal.touch()
    files.check(opened=True)
    wal.unlink()
    for opened in (True, False):
        with pytest.raises(StorageUnavailable):
            files.check(opened=opened)


def test_a_coordinator_says_so_and_writes_nothing(database_url: str, tmp_path: Path) -> None:
    """As a user would do it: the file is replaced by a copy of itself while the coordinator runs."""
    database = Database.open(database_url)
    key = database.write_sync(issue_key, role="client", account_id="alice", grant_units=10**10).key
    database.close()
    path = Path(database_url.removeprefix("sqlite:///"))
    server = ServerProcess(database_url, tmp_path / "home").start()

    def call(target: str, body: object = None) -> tuple[int, str]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"X-Api-Key": key, "Content-Type": "application/json"}
        request = urllib.request.Request(f"{server.url}{target}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    try:
        assert call("/v1/jobs", {"prompt": "x"})[0] == 201
        other = path.with_name("copy.db")
        with sqlite3.connect(path) as source, sqlite3.connect(other) as copy:
            source.backup(copy)
        other.replace(path)
        for _ in range(3):
            assert call("/v1/jobs", {"prompt": "x"})[0] == 503
        status, text = call("/health")
        assert (status, "deleted or replaced" in text) == (503, True)
        assert str(path) not in text
        assert "database_file_gone" in server.tail(400)
    finally:
        server.stop()


def test_a_write_looks_once_and_a_read_looks(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look is three calls of stat(): what is written is looked after when it is committed."""
    asyncio.run(_count_looks(database_url, monkeypatch))


async def _count_looks(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database.open(database_url)
    await database.start()
    try:
        await database.write(ledger.open_account, "first")
        database.write_sync(ledger.open_account, "second")
        looks: list[bool] = []
        check = SameFiles.check

        def counted(self: SameFiles, *, opened: bool = False) -> None:
            looks.append(opened)
            check(self, opened=opened)

        monkeypatch.setattr(SameFiles, "check", counted)
        database.write_sync(ledger.open_account, "third")
        assert looks == [True]
        await database.write(ledger.open_account, "fourth")
        assert looks == [True, True]
        database.read_sync(ledger.balance, "fourth")
        assert looks == [True, True, False]
    finally:
        await database.stop()
