"""`aitbc topup`, `aitbc exchange …` and both clients, with a real coordinator and a real Bitcoin node."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import segno

from aitbc.cli.topup import BORDER, qr
from aitbc.sdk import AsyncClient, Client
from tests.cli.harness import User
from tests.support.bitcoin import BitcoinNode
from tests.support.exchange import ADDRESS, account_key

if TYPE_CHECKING:
    from tests.conftest import StartServer
    from tests.support.server import ServerProcess

sqlite_only = pytest.mark.parametrize("databases", ["sqlite"], indirect=True)
KEY = "alices-key-of-this-test"


class Town:
    """A coordinator that watches the node, and a user of it whose settings are the operator's too."""

    def __init__(
        self, server: ServerProcess, user: User, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.server = server
        self.user = user.at(server.url, KEY)
        for name, value in {**settings, "DATABASE_URL": server.database_url}.items():
            monkeypatch.setenv(name, value)
        with Client(server.url, KEY) as client:
            deadline = time.monotonic() + 30
            while not client.rates().open:
                assert time.monotonic() < deadline
                time.sleep(0.05)


@pytest.fixture(params=["own addresses"])
def town(
    request: pytest.FixtureRequest,
    start_server: StartServer,
    bitcoin: BitcoinNode,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Town]:
    where = (
        {"BITCOIN_XPUB": account_key(os.urandom(32))}
        if request.param == "own addresses"
        else {"BITCOIN_ADDRESS": ADDRESS}
    )
    settings = {
        "API_KEYS": f"client:{KEY}",
        "BITCOIN_NETWORK": "regtest",
        "BITCOIN_RPC_URL": bitcoin.rpc_url,
        "BITCOIN_INTERVAL_S": "0.1",
        **where,
    }
    user = User(tmp_path / "user", monkeypatch)
    yield Town(start_server(settings), user, settings, monkeypatch)


@sqlite_only
def test_a_topup_in_the_terminal(town: Town, bitcoin: BitcoinNode) -> None:
    aitbc = town.user
    made = aitbc("topup", "250.5", "--no-wait", "--json").json
    assert (made["amount"], made["status"], made["network"]) == (250.5, "pending", "regtest")
    shown = aitbc("topup", "--payment", made["id"], "--no-wait")
    assert made["address"] in shown.out and "nothing has arrived yet" in shown.err
    bitcoin.pay(made["address"], made["satoshi"])
    bitcoin.mine()
    done = aitbc("topup", "--payment", made["id"])
    assert (
        done.code,
        "confirmed: it is credited; 0.002505 BTC received, 250.5 AIT credited" in done.err,
    ) == (0, True)
    assert aitbc("balance", "--json").json["balance"] == 1250.5
    status = aitbc("exchange", "status")
    assert (status.code, "bitcoind at block" in status.out, "next index 1" in status.out) == (0, True, True)
    assert "top-ups on regtest, an address for each" in aitbc("doctor", "--no-engine").out
    assert aitbc("exchange", "owed", "--json").json == aitbc("exchange", "unassigned", "--json").json == []
    refused = aitbc("exchange", "forgive", f"{'0' * 64}:0", "--yes")
    assert (refused.code != 0, "Nothing is owed" in refused.err) == (True, True)


@sqlite_only
@pytest.mark.parametrize("town", ["one address"], indirect=True)
def test_what_tells_no_payment_is_assigned_by_the_operator(town: Town, bitcoin: BitcoinNode) -> None:
    aitbc = town.user
    made = aitbc("topup", "--btc", "0.005", "--no-wait", "--json").json
    sent = bitcoin.pay(ADDRESS, made["satoshi"] + 50)
    bitcoin.mine()
    deadline = time.monotonic() + 30
    while not (found := aitbc("exchange", "unassigned", "--json").json):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [one["satoshi"] for one in found] == [500_050]
    assert f"{sent.txid}:0" in found[0]["outpoint"] or sent.txid in found[0]["outpoint"]
    assert "1 outputs pay the address and tell no payment" in aitbc("exchange", "status").out
    assert aitbc("exchange", "assign", found[0]["outpoint"], made["id"], "--yes").code == 0
    done = aitbc("topup", "--payment", made["id"], "--json").json
    assert (done["status"], done["exception"], done["credited"]) == ("confirmed", "late", 500.05)


@sqlite_only
def test_both_clients(town: Town, bitcoin: BitcoinNode) -> None:
    with Client(town.server.url, KEY) as client:
        rates = client.rates()
        assert (rates.btc_to_ait, rates.network, rates.lock_s) == (Decimal(100_000), "regtest", 3600)
        made = client.create_bitcoin_payment(100, idempotency_key="once")
        assert client.create_bitcoin_payment(100, idempotency_key="once").payment_id == made.payment_id
        assert client.wait_for_bitcoin(made.payment_id, timeout_s=0).status == "pending"
        bitcoin.pay(made.address, made.satoshi)
        bitcoin.mine()
    changes: list[str] = []

    async def waits() -> Decimal:
        async with AsyncClient(town.server.url, KEY) as client:
            found = await client.wait_for_bitcoin(
                made.payment_id, timeout_s=60, on_change=lambda one: changes.append(one.status)
            )
            assert [output.late for output in found.outputs] == [False]
            return found.credited

    assert asyncio.run(waits()) == 100
    assert changes[-1] == "confirmed"
    with Client(town.server.url, KEY) as client, pytest.raises(ValueError):
        client.create_bitcoin_payment(1, btc=1)


@sqlite_only
def test_words_that_make_no_payment(town: Town) -> None:
    for words in ((), ("5", "--btc", "1"), ("many",), ("--btc", "0.000000001")):
        refused = town.user("topup", *words)
        assert refused.code == 2, refused
    refused = town.user("topup", "0.5")
    assert (refused.code != 0, "A Bitcoin payment is of 1 to" in refused.err) == (True, True)


def test_the_code_in_the_terminal_is_the_wallets_code() -> None:
    text = f"bitcoin:{ADDRESS}?amount=0.00251"
    modules = [list(row) for row in segno.make(text, error="l", micro=False).matrix_iter(border=BORDER)]
    lines = qr(text).split("\n")
    assert len(lines) == (len(modules) + 1) // 2
    for number, row in enumerate(modules):
        drawn = lines[number // 2]
        light = {"█", "▀" if number % 2 == 0 else "▄"}
        assert [one not in light for one in drawn] == [bool(module) for module in row]
