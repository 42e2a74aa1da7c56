"""A top-up as its payer has it: coordinators as processes, a real Bitcoin node, HTTP, and `kill -9` in the middle."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support.bitcoin import BitcoinNode
from tests.support.exchange import account_key

if TYPE_CHECKING:
    from tests.conftest import StartServer

PAYER = "client:payer-of-the-test-0001"
OTHER = "client:other-of-the-test-0001"
ADMIN = "admin:admin-of-the-test-0001"
FOUND_S = 30.0


def until(look: Callable[[], Any], what: str) -> Any:
    """What `look` gives once it is true. AssertionError after FOUND_S."""
    deadline = time.monotonic() + FOUND_S
    while not (found := look()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


class Payer:
    """Asks one coordinator with one key."""

    def __init__(self, url: str, key: str) -> None:
        self._client = httpx.Client(
            base_url=url, headers={"X-Api-Key": key.partition(":")[2]}, trust_env=False
        )

    def __enter__(self) -> Payer:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str) -> dict[str, Any]:
        reply = self._client.get(path)
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found

    def create(self, **body: Any) -> dict[str, Any]:
        reply = self._client.post("/v1/exchange/create-payment", json=body)
        assert reply.status_code == 201, reply.text
        made: dict[str, Any] = reply.json()
        return made

    def status(self, made: dict[str, Any]) -> dict[str, Any]:
        return self.get(f"/v1/exchange/payment-status/{made['payment_id']}")

    def code(self, path: str) -> int:
        return self._client.get(path).status_code

    def is_(self, made: dict[str, Any], status: str, exception: str = "none") -> dict[str, Any]:
        """Waits until the payment is so."""

        def look() -> dict[str, Any] | None:
            found = self.status(made)
            return found if (found["status"], found["exception"]) == (status, exception) else None

        found: dict[str, Any] = until(look, f"{status}, {exception}")
        return found


@pytest.mark.parametrize("kind", ["bitcoind", "esplora"])
def test_a_topup_from_the_payment_to_the_balance(
    start_server: StartServer, database_url: str, bitcoin: BitcoinNode, kind: str
) -> None:
    """On PostgreSQL by two coordinators, which both look at the chain."""
    source = (
        {"BITCOIN_RPC_URL": bitcoin.rpc_url}
        if kind == "bitcoind"
        else {"BITCOIN_ESPLORA_URL": bitcoin.esplora_url}
    )
    settings = {
        "API_KEYS": f"{PAYER},{OTHER},{ADMIN}",
        "SECRET_KEY": "of this test, and long enough",
        "BITCOIN_XPUB": account_key(os.urandom(32)),
        "BITCOIN_NETWORK": "regtest",
        "BITCOIN_INTERVAL_S": "0.1",
        **source,
    }
    first = start_server(settings)
    second = start_server(settings) if database_url.startswith("postgresql") else first
    with (
        Payer(first.url, PAYER) as payer,
        Payer(second.url, OTHER) as other,
        Payer(second.url, ADMIN) as admin,
    ):
        until(lambda: payer.get("/v1/exchange/rates")["open"], "the chain is looked at")
        made = payer.create(amount=250.5)
        assert (made["status"], made["address_index"]) == ("pending", 0)
        assert made["uri"] == f"bitcoin:{made['address']}?amount={made['btc_amount']:.8f}".rstrip("0")
        assert made["qr"].startswith("<svg")
        path = f"/v1/exchange/payment-status/{made['payment_id']}"
        assert (other.code(path), admin.code(path)) == (404, 200)

        sent = bitcoin.pay(made["address"], made["satoshi"])
        seen = payer.is_(made, "seen")
        assert [output["txid"] for output in seen["outputs"]] == [sent.txid]
        first.kill9()
        bitcoin.mine()
        first.start()
        paid = payer.is_(made, "confirmed")
        assert (paid["credited"], paid["outputs"][0]["confirmations"]) == (250.5, 1)
        assert admin.status(made) == paid
        assert bitcoin.rpc_url.split("@")[0].rpartition(":")[2] not in first.log.read_text()
        assert "Traceback" not in first.log.read_text() + second.log.read_text()
