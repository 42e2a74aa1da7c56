"""`aitbc providers`: whose miners get work, beside a running coordinator."""

from __future__ import annotations

import pytest

from aitbc.coordinator.miners.standing import MAX_LEASES
from tests.cli.harness import User
from tests.sdk.network import MODEL, Network


@pytest.fixture
def operator(user: User, network: Network, monkeypatch: pytest.MonkeyPatch) -> User:
    """On the running network's own database."""
    monkeypatch.setenv("DATABASE_URL", network.database_url)
    return user.at(network.url, network.alice.key)


def listed(operator: User, account: str) -> dict[str, object]:
    (found,) = [one for one in operator("providers", "list", "--json").json if one["account"] == account]
    return dict(found)


def test_an_account_is_approved_and_its_leases_shown(operator: User) -> None:
    before = listed(operator, "carol")
    assert (before["approval"], before["strikes"]) == ("none", 0)
    assert operator("submit", "hello", "-m", MODEL, "-w").code == 0
    assert listed(operator, "carol")["delivered"] == before["delivered"] + 1  # type: ignore[operator]
    assert operator("providers", "approve", "carol").out == "carol: approved\n"
    assert listed(operator, "carol")["lease_limit"] == MAX_LEASES
    shown = operator("providers", "list")
    assert shown.out.split()[:5] == ["ACCOUNT", "APPROVAL", "LEASE_LIMIT", "DELIVERED", "STRIKES"]
    assert "carol" in shown.out and "approved" in shown.out


def test_a_revoked_account_gets_no_work(operator: User) -> None:
    told = operator("providers", "revoke", "carol", "--json").json
    try:
        assert told == {"account": "carol", "approval": "revoked"}
        job = operator("submit", "hello", "-m", MODEL).out.strip()
        assert operator("job", "show", job, "--json").json["status"] == "pending"
        assert operator("submit", "again", "-m", MODEL, "--wait", "--timeout", "1").code != 0
        assert operator("job", "cancel", job).code == 0
    finally:
        operator("providers", "approve", "carol")
    assert operator("submit", "hello", "-m", MODEL, "-w").code == 0


@pytest.mark.parametrize("verb", ["approve", "revoke"])
def test_an_account_that_is_none(operator: User, verb: str) -> None:
    refused = operator("providers", verb, "no-such-account")
    assert (refused.code, refused.out) == (4, "")
    assert "ACCOUNT_NOT_FOUND" in refused.err and len(refused.err.splitlines()) == 1
    assert "no-such-account" not in operator("providers", "list").out


def test_without_a_database_none_is_made(user: User) -> None:
    for words in (["list"], ["approve", "carol"]):
        refused = user("providers", *words)
        assert refused.code == 1 and refused.out == "", words
    assert not (user.home / "coordinator.db").exists()
    assert user("init").code == 0
    assert user("providers", "list").out == "no account has miners\n"
    assert user("providers", "list", "--json").json == []
