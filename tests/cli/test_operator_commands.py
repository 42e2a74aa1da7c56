"""The operator's commands, on a database of their own."""

from __future__ import annotations

import sqlite3
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from aitbc.cli.failures import CommandError
from aitbc.cli.keys import moment_ms, span_s
from aitbc.sdk.models import Health
from tests.cli.harness import User
from tests.sdk.network import Network


def test_a_key_from_creation_to_revocation(user: User) -> None:
    made = user(
        *("keys", "create", "--role", "client", "--account", "dora", "--label", "laptop"),
        *("--limit", "2.5", "--limit-period", "day", "--expires", "30d", "--json"),
    ).json
    assert made.keys() == {"key", "key_id", "account", "role"}
    assert made["key"].startswith(f"aitbc_client_{made['key_id']}_")
    assert (made["account"], made["role"]) == ("dora", "client")
    assert stat.S_IMODE(user.home.stat().st_mode) == 0o700
    (listed,) = user("keys", "list", "--json").json
    assert (listed["state"], listed["limit"], listed["limit_period"], listed["spent"]) == (
        "active",
        2.5,
        "day",
        0,
    )
    assert made["key"] not in user("keys", "list").out
    rotated = user("keys", "rotate", made["key_id"], "--grace", "0s", "--json").json
    assert rotated["key_id"] == made["key_id"]
    assert rotated["key"] != made["key"]
    assert user("keys", "revoke", rotated["key"]).out == f"{made['key_id']} revoked\n"
    assert user("keys", "list", "--account", "dora", "--json").json[0]["state"] == "revoked"
    assert user("keys", "list", "--account", "nobody").out == "no keys\n"


def test_a_key_without_an_account_gets_one(user: User) -> None:
    made = user("keys", "create", "--role", "miner")
    assert made.out.startswith("aitbc_miner_")
    assert made.out.count("\n") == 1
    assert "the only time" in made.err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["create", "--role", "king"], 2, "no role"),
        (["create"], 2, "--role"),
        (["create", "--role", "client", "--limit", "-1"], 2, "--limit"),
        (["create", "--role", "client", "--limit", "1", "--limit-period", "year"], 2, "period"),
        (["create", "--role", "client", "--limit-period", "day"], 2, "needs --limit"),
        (["create", "--role", "client", "--expires", "2020-01-01"], 2, "in the past"),
        (["create", "--role", "client", "--expires", "soon"], 2, "not a time"),
        (["create", "--role", "client", "--account", "No Such Name"], 4, "INVALID_REQUEST"),
        (["revoke", "abcdefghijkl"], 4, "KEY_NOT_FOUND"),
        (["rotate", "abcdefghijkl"], 4, "KEY_NOT_FOUND"),
        (["rotate", "abcdefghijkl", "--grace", "long"], 2, "span of time"),
    ],
)
def test_wrong_key_commands(user: User, words: list[str], code: int, text: str) -> None:
    user("init")
    outcome = user("keys", *words)
    assert (outcome.code, outcome.out) == (code, "")
    assert text in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_spans_and_moments() -> None:
    assert [span_s(text) for text in ("0s", "90s", "30m", "12h", "7d", "2w")] == [
        0,
        90,
        1800,
        43200,
        604800,
        1209600,
    ]
    assert [span_s(text) for text in ("", "1", "1y", "-1s", "1.5h")] == [None] * 5
    assert moment_ms("2999-12-31") == 32503679999000
    assert moment_ms("2999-12-31T00:00:00+01:00") == 32503590000000
    with pytest.raises(CommandError):
        moment_ms("1999-12-31")


def test_the_database_from_nothing_to_current(user: User) -> None:
    assert user("db", "version", "--json").json["database"] is None
    assert user("db", "check").code == 1
    assert not user.home.exists(), "looking changes nothing"
    first = user("db", "upgrade", "--json").json
    assert first["before"] is None
    assert user("db", "upgrade", "--json").json == {"before": first["after"], "after": first["after"]}
    version = user("db", "version", "--json").json
    assert version == {"database": first["after"], "program": first["after"], "current": True}
    checked = user("db", "check", "--json").json
    assert checked["ok"]
    assert [finding["name"] for finding in checked["checks"]] == ["database", "network", "soundness"]


def test_a_newer_or_foreign_database_is_refused(user: User, tmp_path: Path) -> None:
    user("db", "upgrade")
    with sqlite3.connect(user.home / "coordinator.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for words in (["db", "check"], ["db", "upgrade"], ["keys", "list"], ["serve", "--port", "0"]):
        outcome = user(*words)
        assert outcome.code == 1, words
        assert "newer version" in outcome.out + outcome.err
    unreachable = user("db", "check", "--database-url", "postgresql://nobody@127.0.0.1:9/none")
    assert unreachable.code == 1
    assert "cannot be reached" in unreachable.out


@pytest.mark.parametrize(
    "words",
    [
        ["init"],
        ["init", "--home", "~no-such-user/x"],
        ["keys", "list"],
        ["keys", "list", "--database-url", "sqlite:///~no-such-user/x.db"],
        ["serve"],
        ["doctor"],
        ["audit"],
        ["login", "--url", "http://127.0.0.1:9", "--key", "k" * 20],
        ["balance", "--url", "http://127.0.0.1:9"],
        ["wallet", "address"],
        ["wallet", "address", "--wallet", "~no-such-user/w"],
        ["miner", "run", "--coordinator", "http://127.0.0.1:9", "--key", "k" * 20],
        ["miner", "status", "--id", "m"],
        ["db", "backup", "~no-such-user/b.db"],
        ["witness", "run", "--log", "x", "--name", "y", "--home", "~no-such-user/w"],
        ["receipt", "verify", "x.json"],
        ["log", "head"],
    ],
)
def test_the_home_of_nobody_is_one_line(
    user: User, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """AITBC_HOME=~USER/…, or no HOME at all for a user that the system does not know."""
    monkeypatch.setenv("AITBC_HOME", "~no-such-user/x")
    outcome = user(*words)
    assert outcome.code != 0, words
    if words != ["doctor"]:
        assert len(outcome.err.splitlines()) == 1, outcome.err
    assert not Path("~no-such-user").exists()


@pytest.mark.parametrize("words", [["keys", "list"], ["audit"], ["db", "upgrade"], ["db", "version"]])
def test_what_the_machine_refuses_is_one_line(user: User, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in ("postgresql://nobody@127.0.0.1:9/none", f"sqlite:///{tmp_path}/file/no.db"):
        outcome = user(*words, "--database-url", place)
        if outcome.code == 0:
            assert words == ["db", "version"]  # a file that cannot be is a database that is not there yet
            continue
        assert (outcome.code, len(outcome.err.splitlines())) == (1, 1), outcome.err


def test_bad_settings_are_one_line(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEASE_S", "-1")
    outcome = user("serve")
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
    assert "LEASE_S" in outcome.err


def test_audit_finds_a_changed_balance(user: User) -> None:
    assert user("audit").code == 1
    user("keys", "create", "--role", "client", "--account", "dora")
    assert "the books are right" in user("audit").out
    assert user("audit", "--json").json["ok"] is True
    with sqlite3.connect(user.home / "coordinator.db") as connection:
        connection.execute("UPDATE accounts SET balance_units = balance_units + 1 WHERE id = 'dora'")
    wrong = user("audit")
    assert wrong.code == 1
    assert "account dora" in wrong.out
    assert "WRONG" in wrong.out


def test_the_doctor_on_a_new_machine_and_a_sick_one(
    user: User, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_PORT", "0")
    well = user("doctor", "--no-engine", "--json")
    assert well.code == 0, well.out
    assert well.json["ok"]
    names = {check["name"] for check in well.json["checks"]}
    assert {
        "python",
        "home",
        "settings",
        "database",
        "port",
        "disk",
        "gpu",
        "signing key",
        "coordinator",
    } <= names
    assert not user.home.exists()
    user("keys", "create", "--role", "client")
    user.home.chmod(0o755)
    (user.home / "coordinator.key").write_text("{}")
    user.at(network.url, "aitbc_client_abcdefghijkl_no")
    sick = user("doctor", "--no-engine")
    assert sick.code == 1
    for text in (f"chmod 700 {user.home}", "coordinator.key", "UNAUTHORIZED", "aitbc login"):
        assert text in sick.out
    user.at("http://127.0.0.1:9", None)
    assert "WRONG    coordinator" in user("doctor", "--no-engine").out


def test_the_doctor_says_where_blocks_are_no_longer_sealed(
    user: User, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    user.at(network.url, network.alice.key)
    healthy = Health("ok", "1", "ait-devnet", 1.0, None)
    monkeypatch.setattr("aitbc.cli.doctor.Client.health", lambda _client: healthy)
    assert "blocks" not in {check["name"] for check in user("doctor", "--no-engine", "--json").json["checks"]}
    stopped = replace(healthy, sealing_stopped="Witness w1 knows more.")
    monkeypatch.setattr("aitbc.cli.doctor.Client.health", lambda _client: stopped)
    sick = user("doctor", "--no-engine")
    assert sick.code == 1
    assert "WRONG    blocks" in sick.out
    assert "Witness w1 knows more." in sick.out


def test_the_doctor_finds_the_engine_and_the_key(user: User, network: Network) -> None:
    user.at(network.url, network.alice.key)
    found = {check["name"]: check for check in user("doctor", "--json").json["checks"]}
    assert found["engine"]["ok"]
    assert "alice" in found["your key"]["detail"]
    assert found["clock"]["ok"]
