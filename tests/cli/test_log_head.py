"""`aitbc log head` and `aitbc doctor` on a database that was put back from a backup."""

from __future__ import annotations

import pytest

from aitbc.coordinator.chain import network, sealer
from aitbc.coordinator.config import Settings
from aitbc.coordinator.database import Database
from aitbc.coordinator.process.runtime import signing_key
from aitbc.coordinator.signing.headfile import HeadFile
from tests.cli.harness import User

AT = ["--url", "http://127.0.0.1:9"]


@pytest.fixture
def ahead(user: User, empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A database beside whose key a later head is kept; the options that name it."""
    url = ["--database-url", empty_database_url]
    assert user("init", *url).code == 0
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    settings = Settings(database_url=empty_database_url, home=user.home)
    key = signing_key(settings)
    database = Database.open(empty_database_url)
    origin = database.read_sync(network.of).origin
    database.close()
    text = sealer.signed_checkpoint(origin, 7, bytes(32), key)
    HeadFile(settings.home, settings.chain_id).accept(text)
    return url


def test_what_does_not_continue_the_kept_head_is_said(user: User, ahead: list[str]) -> None:
    shown = user("log", "head", "--json", *ahead)
    assert (shown.code, shown.json["kept_size"], shown.json["database_size"]) == (1, 7, 0)
    checks = {check["name"]: check for check in user("doctor", "--no-engine", "--json", *AT).json["checks"]}
    assert checks["log"]["ok"] is False
    assert "older than the log" in checks["log"]["detail"]
    assert "aitbc log head" in checks["log"]["advice"]
    assert user("log", "accept", *ahead, stdin="n\n").code == 1
    assert user("log", "head", *ahead).code == 1
    assert user("log", "accept", "--yes", *ahead).code == 0
    assert user("log", "head", *ahead).code == 0
    checks = {check["name"]: check for check in user("doctor", "--no-engine", "--json", *AT).json["checks"]}
    assert checks["log"]["ok"] is True


def test_a_home_without_a_key_is_not_given_one(user: User, ahead: list[str]) -> None:
    elsewhere = user.home.parent / "elsewhere"
    for words in (["head"], ["accept", "--yes"]):
        outcome = user("log", *words, *ahead, "--home", str(elsewhere))
        assert (outcome.code, len(outcome.err.splitlines())) == (1, 1), outcome
        assert "--home" in outcome.err
    assert not elsewhere.exists()
