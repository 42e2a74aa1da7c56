"""A second coordinator on one database: refused where it must not be, and a key that no longer signs says so."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic import command

from aitbc.coordinator.config import Settings
from aitbc.coordinator.database import Database
from aitbc.coordinator.process import presence
from aitbc.coordinator.process.presence import holder, number_of, running
from aitbc.coordinator.receipts import service as receipts
from aitbc.coordinator.schema import migrate
from aitbc.core.clock import ManualClock
from aitbc.core.signing import PrivateKey
from tests.cli.harness import User
from tests.support.server import ServerProcess

StartServer = Callable[..., ServerProcess]
ONE, OTHER = ({"SECRET_KEY": f"a secret of these tests, {number}"} for number in (1, 2))


def keys_of(server: ServerProcess) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{server.url}/v1/keys", timeout=10) as answer:
        found: list[dict[str, Any]] = json.loads(answer.read())["keys"]
        return found


@pytest.mark.parametrize("databases", ["sqlite"], indirect=True)
def test_one_at_a_time_on_a_file(
    start_server: StartServer, database_url: str, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start_server(ONE, by_script=True)
    path = Path(database_url.removeprefix("sqlite:///"))
    assert first.process is not None
    assert holder(path) == f"process {first.process.pid}"
    with pytest.raises(AssertionError, match=f"NOT_ALONE: process {first.process.pid} runs a coordinator"):
        start_server(ONE)
    monkeypatch.setenv("DATABASE_URL", database_url)
    assert f"process {first.process.pid} runs on this" in user("doctor", "--no-engine").out
    assert user("keys", "create", "--role", "client").code == 0, "commands go on beside it"
    first.kill9()
    assert holder(path) == ""
    start_server(ONE)


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
def test_one_key_for_all(
    start_server: StartServer, database_url: str, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = [start_server(ONE), start_server(ONE)]
    own = keys_of(servers[0])[0]["key_id"]
    assert running(database_url) == {own[:8]: 2}
    with pytest.raises(AssertionError, match=f"NOT_ALONE: 2 coordinators run, signing with {own[:8]}"):
        start_server(OTHER)
    assert {key["key_id"] for key in keys_of(servers[0])} == {own}, "the refused one changed nothing"
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("SECRET_KEY", OTHER["SECRET_KEY"])
    assert "WRONG    coordinators" in user("doctor", "--no-engine").out
    monkeypatch.setenv("SECRET_KEY", ONE["SECRET_KEY"])
    assert "ok       coordinators" in user("doctor", "--no-engine").out
    servers[0].kill9()
    servers[1].terminate()
    until = time.monotonic() + 10
    while running(database_url) and time.monotonic() < until:
        time.sleep(0.05)
    last = start_server(OTHER)
    ended = {key["key_id"]: key["valid_to"] for key in keys_of(last)}
    assert ended.pop(own) is not None
    assert list(ended.values()) == [None]


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
def test_a_place_that_the_database_forgot_is_taken_again(
    database_url: str, databases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "LOOK_S", 0.05)
    settings = Settings(_env_file=None, database_url=database_url)
    with presence.held(settings, "0123456789abcdef"):
        assert running(database_url) == {"01234567": 1}
        databases.postgres.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'aitbc presence'"
        )
        until = time.monotonic() + 20
        while not running(database_url) and time.monotonic() < until:
            time.sleep(0.05)
        assert running(database_url) == {"01234567": 1}
    assert running(database_url) == {}


def test_numbers_of_keys() -> None:
    assert number_of("00000001ffffffff") == 1
    assert number_of("ffffffff00000000") == -1
    assert number_of("7fffffff00000000") == 2**31 - 1


def test_a_retired_key_has_an_end(db: Database, clock: ManualClock) -> None:
    one, two = PrivateKey.generate(), PrivateKey.generate()

    def ends() -> dict[str, int | None]:
        return {row.id: row.valid_to_ms for row in db.read_sync(receipts.keys)}

    for key in (one, two):
        db.write_sync(receipts.publish_key, key, "aitbc/test")
    begun = clock.now_ms()
    assert db.write_sync(receipts.retire_other_keys, two, 0) == [one.key_id]
    assert ends() == {one.key_id: begun, two.key_id: None}
    clock.advance(60)
    assert db.write_sync(receipts.retire_other_keys, two, 0) == []
    assert ends()[one.key_id] == begun, "its end stays"
    assert db.write_sync(receipts.retire_other_keys, one, clock.now_ms() + 5) == [two.key_id]
    assert ends() == {one.key_id: None, two.key_id: clock.now_ms() + 6}, "behind the newest block"


def test_no_upgrade_under_a_coordinator_that_runs(user: User, empty_database_url: str) -> None:
    """One of an older version would go on with tables that it does not know; and what only looks never upgrades."""
    with migrate.open_connection(empty_database_url, write=True) as connection:
        command.upgrade(migrate.alembic_config(connection), "0009")
    url = ["--database-url", empty_database_url]
    settings = Settings(database_url=empty_database_url, home=user.home)
    with presence.held(settings, PrivateKey.generate().key_id):
        for words in (["db", "upgrade"], ["init"], ["keys", "list"], ["keys", "create", "--role", "client"]):
            outcome = user(*words, *url)
            assert (outcome.code, len(outcome.err.splitlines())) == (1, 1), (words, outcome)
            behind = words == ["keys", "list"] or (words[0] == "keys" and "postgresql" in empty_database_url)
            assert ("aitbc db upgrade" if behind else "1 coordinator runs") in outcome.err
    looked = user("audit", *url)
    assert (looked.code, "aitbc db upgrade" in looked.err) == (1, True)
    assert migrate.current_revision(empty_database_url) == "0009"
    assert user("db", "upgrade", *url).code == 0
    assert user("audit", *url).code == 0


def rows_of(path: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


@pytest.mark.parametrize("databases", ["sqlite"], indirect=True)
def test_an_audit_leaves_an_auditors_copy_as_it_is(user: User, empty_database_url: str) -> None:
    """Not even the folder of a coordinator that he does not have is made."""
    assert user("db", "upgrade", "--database-url", empty_database_url).code == 0
    path = Path(empty_database_url.removeprefix("sqlite:///"))
    copy = path.with_name("copy.db")
    user("db", "backup", str(copy), "--database-url", empty_database_url)
    copy.chmod(0o644)
    before = rows_of(copy)
    for part in user.home.iterdir():
        part.unlink()
    user.home.rmdir()
    assert user("audit", "--database-url", f"sqlite:///{copy}").code == 0
    assert rows_of(copy) == before
    assert copy.stat().st_mode & 0o777 == 0o644
    assert not user.home.exists()
    assert [part.name for part in path.parent.glob("copy*")] == ["copy.db"]
