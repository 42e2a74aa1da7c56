"""`aitbc ledger`: money that the operator makes, beside a running coordinator or without one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import pytest

from aitbc.audit.database import audit
from aitbc.coordinator.database import Database
from aitbc.coordinator.errors import TransferConflict
from aitbc.coordinator.flows.acts import minting
from aitbc.coordinator.flows.shared.grants import open_account_with_grant
from aitbc.coordinator.ledger import service as ledger
from aitbc.core.money import MAX_UNITS, format_ait
from tests.cli.harness import User
from tests.support.flows import CHAIN
from tests.support.server import ServerProcess

MAINNET = {"CHAIN_ID": "ait-mainnet"}


def mint(user: User, to: str, amount: str, *more: str) -> tuple[str, ...]:
    return ("ledger", "mint", "--to", to, "--amount", amount, "--reason", "paid by bank", *more)


@pytest.fixture
def operator(user: User, monkeypatch: pytest.MonkeyPatch) -> User:
    """On a network without grants, so without any money."""
    monkeypatch.setenv("CHAIN_ID", "ait-mainnet")
    assert user("init").code == 0
    assert user("keys", "create", "--role", "client", "--account", "dora").code == 0
    return user


def test_money_off_the_devnet(operator: User) -> None:
    assert operator("ledger", "balance", "dora", "--json").json["balance"] == 0
    made = operator(*mint(operator, "dora", "12.5", "--yes", "--json"))
    assert made.code == 0, made.err
    assert (made.json["minted"], made.json["balance"], made.json["reason"]) == (True, 12.5, "paid by bank")
    assert operator(*mint(operator, "dora", "1", "--yes")).out.count("\n") == 1
    listed = {each["account"]: each["balance"] for each in operator("ledger", "accounts", "--json").json}
    assert listed == {"dora": 13.5, "system:escrow": 0, "system:mint": -13.5, "system:treasury": 0}
    page = operator("ledger", "accounts", "--limit", "1")
    assert "dora" in page.out and "--after dora" in page.err
    report = operator("audit", "--json")
    assert report.code == 0, report.out


def test_the_same_reference_mints_once(operator: User) -> None:
    words = mint(operator, "dora", "5", "--yes", "--id", "invoice-7", "--json")
    assert [operator(*words).json["minted"] for _ in range(3)] == [True, False, False]
    assert operator("ledger", "balance", "dora", "--json").json["balance"] == 5
    refused = operator(*mint(operator, "dora", "6", "--yes", "--id", "invoice-7"))
    assert refused.code != 0
    assert "TRANSFER_CONFLICT" in refused.err
    assert operator("ledger", "balance", "dora", "--json").json["balance"] == 5


def test_what_is_not_minted(operator: User) -> None:
    for amount in ("0", "-1", "x", "1e400", "0.000000001", "90071993"):
        assert operator(*mint(operator, "dora", amount, "--yes")).code == 2, amount
    nobody = operator(*mint(operator, "nobody", "1", "--yes"))
    assert nobody.code == 1
    assert "--create" in nobody.err
    for account in ("system:treasury", "system:mint", "ait1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq", "Dora!"):
        assert operator(*mint(operator, account, "1", "--yes", "--create")).code != 0, account
    assert operator(*mint(operator, "dora", "1", "--yes", "--id", "a b")).code != 0
    for reason in ("", "   ", "x" * 201):
        words = ("ledger", "mint", "--to", "dora", "--amount", "1", "--yes", "--reason", reason)
        assert operator(*words).code != 0, reason
    asked = operator(*mint(operator, "dora", "1"))
    assert asked.code == 2
    assert "--yes" in asked.err
    assert operator("ledger", "balance", "dora", "--json").json["balance"] == 0
    assert operator("ledger", "balance", "nobody").code == 1
    made = operator(*mint(operator, "eve", "2", "--yes", "--create", "--json")).json
    assert (made["created"], made["balance"]) == (True, 2)
    most = format_ait(MAX_UNITS)
    assert operator(*mint(operator, "frank", most, "--yes", "--create")).code == 0
    assert operator(*mint(operator, "frank", "0.00000001", "--yes")).code != 0
    assert operator("audit").code == 0


def test_beside_a_running_coordinator(
    user: User, start_server: Callable[..., ServerProcess], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transfer is sealed like any other, and the explorer shows who got it and why."""
    server = start_server({**MAINNET, "BLOCK_INTERVAL_S": "0.1"})
    monkeypatch.setenv("CHAIN_ID", "ait-mainnet")
    named = ("--database-url", database_url, "--home", str(user.home))
    reason = "paid\tby\nbank \x1b[31m"
    words = ("ledger", "mint", "--to", "dora", "--amount", "3", "--reason", reason, "--create", "--yes")
    made = user(*words, "--json", *named)
    assert made.code == 0, made.err
    shown = httpx.get(f"{server.url}/v1/explorer/transactions/{made.json['id']}", trust_env=False).json()
    assert (shown["type"], shown["from"], shown["to"], shown["amount"]) == ("mint", "system:mint", "dora", 3)
    assert shown["reason"] == made.json["reason"] == "paid by bank \N{REPLACEMENT CHARACTER}[31m"


def test_racing_mints_of_one_reference_make_one(database_url: str) -> None:
    def once(_number: int) -> bool:
        with closing(Database.open(database_url)) as db:
            made = db.write_sync(minting.mint, "dora", 7, "why", reference="r")
            return bool(made.made)

    with closing(Database.open(database_url)) as db:
        db.write_sync(ledger.open_system_accounts)
        db.write_sync(open_account_with_grant, "dora", 0)
        with ThreadPoolExecutor(4) as pool:
            assert sorted(pool.map(once, range(4))) == [False, False, False, True]
        assert db.read_sync(ledger.balance, "dora").balance_units == 7
        with pytest.raises(TransferConflict):
            db.write_sync(minting.mint, "dora", 7, "another reason", reference="r")
        assert db.read_sync(audit, CHAIN).ok
