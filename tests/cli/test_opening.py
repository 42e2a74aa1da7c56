"""What opens a database: never makes one by the way, keeps it private, holds its network against CHAIN_ID."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from aitbc.cli.main import ENTRIES
from aitbc.coordinator.config import load_settings
from aitbc.coordinator.database import Database
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.schema.migrate import current_revision
from tests.cli.harness import User
from tests.support.aitbc import run_aitbc
from tests.support.server import ServerProcess

sqlite_only = pytest.mark.parametrize("databases", ["sqlite"], indirect=True)

READING = [
    ["keys", "list"],
    ["keys", "revoke", "abcdefghijkl"],
    ["keys", "rotate", "abcdefghijkl"],
    ["db", "backup", "backup.db"],
    ["audit"],
]
"""The operator's commands that need a database, but for `keys create`."""


@pytest.mark.parametrize("words", [*READING, ["keys", "create", "--role", "client"]], ids=" ".join)
def test_a_database_is_not_made_by_the_way(user: User, empty_database_url: str, words: list[str]) -> None:
    outcome = user(*words, "--database-url", empty_database_url)
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (1, "", 1)
    name = str(make_url(empty_database_url).database)
    for text in ("NO_DATABASE", name, "DATABASE_URL", "aitbc init"):
        assert text in outcome.err
    assert current_revision(empty_database_url) is None
    assert not list(user.home.parent.glob("*.db*"))


@pytest.mark.parametrize("words", [*READING, ["db", "version"], ["db", "check"], ["doctor", "--no-engine"]])
def test_nor_in_the_home(user: User, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.setenv("API_PORT", "0")
    for make_home in (False, True):
        if make_home:
            user.home.mkdir()
        outcome = user(*words)
        if words[0] in ("keys", "audit"):
            assert f"{user.home}/coordinator.db (by AITBC_HOME)" in outcome.err
    assert not list(user.home.iterdir())


def test_keys_create_makes_one_only_in_a_home_that_was_named(
    user: User, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = user("keys", "create", "--role", "client", "--json")
    assert made.code == 0
    assert f"made a new one, sqlite:///{user.home}/coordinator.db" in made.err
    assert "made a new" not in user("keys", "create", "--role", "client").err
    monkeypatch.delenv("AITBC_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    outcome = user("keys", "create", "--role", "client")
    assert outcome.code == 1
    assert f"{tmp_path}/.aitbc/coordinator.db (by the default)" in outcome.err
    assert not (tmp_path / ".aitbc").exists()


def test_init_makes_all_of_it_once(user: User) -> None:
    first = user("init")
    assert first.code == 0
    assert "made" in first.out
    key = (user.home / "coordinator.key").read_text()
    again = user("init")
    assert "was there already" in again.out
    assert (user.home / "coordinator.key").read_text() == key
    assert user("audit").code == 0
    assert "init" in ENTRIES


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@sqlite_only
def test_what_it_keeps_is_private(tmp_path: Path, start_server: object, databases: object) -> None:
    """Whatever the shell's umask says, and what an older version left open is closed."""
    home, elsewhere = tmp_path / "home", tmp_path / "data" / "here"
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    before = os.umask(0o000)
    try:
        for url in (f"sqlite:///{home}/coordinator.db", f"sqlite:///{elsewhere}/c.db"):
            server = ServerProcess(url, home).start()
            try:
                words = ["db", "backup", home / f"{len(url)}.backup"]
                status, printed = run_aitbc(words, env=server.environment, cwd=home)
                assert status == 0, printed
            finally:
                server.terminate()
            assert "any more" not in server.tail()
            file = Path(url.removeprefix("sqlite:///"))
            file.chmod(0o644)
            server.start()
            try:
                assert "it is 0600 now" in server.tail()
                paths = [home, *home.rglob("*"), elsewhere, *elsewhere.rglob("*")]
                kept = [path for path in paths if path.exists() and path != server.log]
                assert {path.name for path in kept} > {"coordinator.key", file.name, f"{file.name}-wal"}
                for path in kept:
                    assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
            finally:
                server.terminate()
    finally:
        os.umask(before)


def test_another_network_is_refused_by_name(
    user: User, monkeypatch: pytest.MonkeyPatch, empty_database_url: str, tmp_path: Path
) -> None:
    url = ["--database-url", empty_database_url]
    monkeypatch.setenv("CHAIN_ID", "ait-main")
    assert user("init", *url).code == 0
    settings = {"CHAIN_ID": "ait-main"}
    server = ServerProcess(empty_database_url, user.home, settings, by_script=True).start()
    server.terminate()
    monkeypatch.delenv("CHAIN_ID")
    commands = [*READING, ["keys", "create", "--role", "client", "--account", "eve"], ["db", "upgrade"]]
    for words in [*commands, ["serve", "--port", "0"], ["init"]]:
        outcome = user(*words, *url)
        assert (outcome.code, outcome.out) == (1, ""), words
        assert "the network ait-main, and CHAIN_ID is ait-devnet" in outcome.err, words
        assert len(outcome.err.splitlines()) == 1
    assert "ait-main" in user("db", "check", *url).out
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    monkeypatch.setenv("API_PORT", "0")
    assert "WRONG    network" in user("doctor", "--no-engine").out
    monkeypatch.setenv("CHAIN_ID", "ait-main")
    assert user("keys", "create", "--role", "client", "--account", "dora").code == 0
    assert "WRONG" not in user("audit").out
    database = Database.open(empty_database_url)
    try:
        assert database.read_sync(ledger.balance, "dora").balance_units == 0
    finally:
        database.close()


def test_a_database_is_of_a_network_before_money_is_in_it(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`keys create` on the devnet makes a devnet's database: no other network starts with its money."""
    user("db", "upgrade")
    user("keys", "create", "--role", "client")
    monkeypatch.setenv("CHAIN_ID", "ait-main")
    outcome = user("serve", "--port", "0")
    assert outcome.code == 1
    assert "CHAIN_ID is ait-main" in outcome.err
    assert load_settings().devnet_grant_units == 0
