"""A second coordinator on one database: refused where it must not be, and a key that no longer signs says so."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aitbc import presence
from aitbc.config import Settings
from aitbc.core.clock import ManualClock
from aitbc.core.signing import PrivateKey
from aitbc.database import Database
from aitbc.presence import holder, number_of, running
from aitbc.receipts import service as receipts
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
    first = start_server(ONE)
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
