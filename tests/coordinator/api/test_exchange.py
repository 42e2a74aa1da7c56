"""Payments with Bitcoin through the API: who may, which amounts, limits, shapes; bad luck changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest

from aitbc.coordinator.api.schemas import exchange as schemas
from aitbc.coordinator.bitcoin.source import SourceError
from aitbc.coordinator.process.watching import Watcher
from aitbc.core.clock import ManualClock, parse_rfc3339
from tests.coordinator.api.support import Headers, Market, expect_error, held_to
from tests.support.exchange import ADDRESS, FakeChain, FakeSource, account_key

CREATE, STATUS, RATES = "/v1/exchange/create-payment", "/v1/exchange/payment-status", "/v1/exchange/rates"
OF_EXCHANGE = [("POST", CREATE), ("GET", STATUS + "/{payment_id}")]
"""The operations whose callers are tried out here rather than with all others."""
Json = dict[str, Any]
Begin = Callable[..., "Scene"]
SETTINGS = {"bitcoin_network": "regtest", "bitcoin_rpc_url": "http://unused", "bitcoin_xpub": account_key()}


class Scene:
    """An application, a fake chain that it looks at when told to, and its callers."""

    def __init__(self, api: Market) -> None:
        self.api = api
        self.chain = FakeChain()
        self.source = FakeSource(self.chain)
        self.watcher = Watcher(api.runtime, self.source)
        self.alice, self.bob = api.key("client", "alice"), api.key("client", "bob")
        self.look()

    def look(self) -> None:
        while self.api.run(self.watcher.run_once()):
            pass

    def create(self, who: Headers | None = None, status: int = 201, **body: Any) -> Json:
        answer = self.api.post(CREATE, who or self.alice, json=body or {"amount": 500})
        assert answer.status_code == status, answer.text
        return dict(answer.json())

    def status(self, payment: Json, who: Headers | None = None) -> Json:
        answer = self.api.get(f"{STATUS}/{payment['payment_id']}", who or self.alice)
        assert answer.status_code == 200, answer.text
        return dict(held_to(schemas.BitcoinPayment, answer.json()))

    def pay(self, payment: Json, sat: int | None = None) -> None:
        row = self.api.run(self.api.runtime.db.read(_row, payment["payment_id"]))
        self.chain.pay((bytes.fromhex(row.script), payment["satoshi"] if sat is None else sat))


def _row(tx: Any, payment_id: str) -> Any:
    from aitbc.coordinator.exchange import topups

    return topups.get(tx, payment_id)


@pytest.fixture
def begin(start_api: Callable[..., Market]) -> Begin:
    return lambda **more: Scene(start_api(**{**SETTINGS, **more}))


def test_a_payment_says_all_that_a_wallet_needs(begin: Begin) -> None:
    scene = begin()
    made = held_to(schemas.BitcoinPayment, scene.create(amount=500.5))
    assert (made["amount"], made["btc_amount"], made["satoshi"], made["rate"]) == (
        500.5,
        0.005005,
        500_500,
        100_000,
    )
    assert (made["status"], made["exception"], made["address_index"]) == ("pending", "none", 0)
    assert made["uri"] == f"bitcoin:{made['address']}?amount=0.005005"
    assert ElementTree.fromstring(made["qr"]).tag.endswith("svg")
    locked_ms = parse_rfc3339(made["expires_at"]) - parse_rfc3339(made["created_at"])
    assert locked_ms == 3_600_000
    scene.pay(made)
    scene.look()
    seen = scene.status(made)
    assert (seen["status"], seen["received_btc"], seen["outputs"][0]["status"]) == (
        "seen",
        0.005005,
        "mempool",
    )
    scene.chain.mine()
    scene.look()
    paid = scene.status(made)
    (output,) = paid["outputs"]
    assert (paid["status"], paid["credited"], output["confirmations"]) == ("confirmed", 500.5, 1)
    assert output["transfer_id"] == f"btc:{output['txid']}:{output['vout']}"
    account = scene.api.get("/v1/account", scene.alice).json()
    assert account["balance"] == 1500.5


def test_only_its_owner_and_admins_see_a_payment(begin: Begin) -> None:
    scene = begin()
    made = scene.create()
    path = f"{STATUS}/{made['payment_id']}"
    admin, miner = scene.api.key("admin", "root"), scene.api.key("miner", "mill")
    assert scene.api.get(path, admin).json()["id"] == made["id"]
    expect_error(scene.api.get(path, scene.bob), 404, "TOPUP_NOT_FOUND")
    expect_error(scene.api.get(path, miner), 403, "FORBIDDEN")
    expect_error(scene.api.get(path, {}), 401, "UNAUTHORIZED")
    expect_error(scene.api.get(f"{STATUS}/nothing", scene.alice), 404, "TOPUP_NOT_FOUND")
    for who, status, code in (
        (miner, 403, "FORBIDDEN"),
        (admin, 403, "FORBIDDEN"),
        ({}, 401, "UNAUTHORIZED"),
    ):
        expect_error(scene.api.post(CREATE, who, json={"amount": 500}), status, code)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"amount": 1, "btc_amount": 1},
        *({"amount": value} for value in (0, -1, 1e30, 0.000000001, "5", True, None, 0.5)),
        *({"btc_amount": value} for value in (0, -1, 21_000_001, 0.000000001, "5", 0.00000999, 901)),
    ],
    ids=str,
)
def test_amounts_that_are_none_are_refused(begin: Begin, body: Json) -> None:
    scene = begin()
    expect_error(scene.api.post(CREATE, scene.alice, json=body), 400, "INVALID_REQUEST")
    assert scene.create()["address_index"] == 0  # no index was used up


def test_the_same_idempotency_key_makes_one_payment(begin: Begin) -> None:
    scene = begin()
    headers = {**scene.alice, "Idempotency-Key": "once"}
    first, again = (scene.api.post(CREATE, headers, json={"amount": 500}) for _ in range(2))
    assert first.json() == again.json() and again.headers["Idempotency-Replayed"] == "true"
    expect_error(scene.api.post(CREATE, headers, json={"amount": 501}), 409, "IDEMPOTENCY_CONFLICT")
    assert scene.create()["address_index"] == 1


def test_an_account_has_few_payments_that_wait_and_not_many_unpaid_ones_a_day(
    begin: Begin, clock: ManualClock
) -> None:
    scene = begin(max_open_topups=2)
    for number in range(10):
        scene.create()
        if number % 2:
            expect_error(scene.api.post(CREATE, scene.alice, json={"amount": 5}), 429, "TOO_MANY_TOPUPS")
            assert scene.create(scene.bob)["status"] == "pending" if number == 1 else True
            clock.advance(3700)
            scene.look()
    expect_error(scene.api.post(CREATE, scene.alice, json={"amount": 5}), 429, "TOO_MANY_TOPUPS")
    clock.advance(86_400)
    scene.look()
    scene.create()


def test_nothing_is_promised_while_the_chain_is_not_seen(begin: Begin, clock: ManualClock) -> None:
    scene = begin()
    scene.source.fault = SourceError("down")
    for _ in range(10):
        clock.advance(100)
        scene.look()
    expect_error(scene.api.post(CREATE, scene.alice, json={"amount": 500}), 503, "EXCHANGE_BLIND")
    assert scene.api.get(RATES, {}).json()["open"] is False
    scene.source.fault = None
    scene.look()
    assert scene.create()["status"] == "pending"


def test_the_rates_are_public(begin: Begin) -> None:
    scene = begin(btc_to_aitbc_rate="123456.5", bitcoin_confirmations="2,4,8")
    rates = held_to(schemas.Rates, scene.api.get(RATES, {}).json())
    assert (rates["btc_to_ait"], rates["open"], rates["network"], rates["lock_s"]) == (
        123456.5,
        True,
        "regtest",
        3600,
    )
    assert [rule["blocks"] for rule in rates["confirmations"]] == [2, 4, 8]
    assert (rates["min_btc"], rates["bitcoin_height"]) == (0.00001, 0)


def test_without_an_exchange_it_says_so(api: Market) -> None:
    alice = api.key("client", "alice")
    expect_error(api.post(CREATE, alice, json={"amount": 5}), 503, "EXCHANGE_OFF")
    rates = held_to(schemas.Rates, api.get(RATES, {}).json())
    assert (rates["open"], rates["network"], rates["looked_at"]) == (False, None, None)


def test_an_operators_one_address_without_a_source_promises_nothing(start_api: Callable[..., Market]) -> None:
    api = start_api(bitcoin_address=ADDRESS)
    expect_error(api.post(CREATE, api.key("client", "alice"), json={"amount": 5}), 503, "EXCHANGE_OFF")


def test_an_operator_sees_in_the_metrics_what_is_wrong(begin: Begin, clock: ManualClock) -> None:
    scene = begin(bitcoin_xpub="", bitcoin_address=ADDRESS)
    made = scene.create()
    scene.pay(made, made["satoshi"] + 5)
    scene.chain.mine()
    scene.look()
    clock.advance(30)
    text = scene.api.get("/metrics", {}).text
    assert "aitbc_open_topups 1.0" in text
    assert "aitbc_uncredited_outputs 1.0" in text
    assert "aitbc_owed_outputs 0.0" in text
    assert "aitbc_bitcoin_age_seconds 30.0" in text
    assert 'aitbc_bitcoin_looks_total{outcome="done",source="fake"}' in text


def test_an_account_that_owes_makes_no_payment_until_it_is_settled(begin: Begin) -> None:
    from aitbc.coordinator.flows.acts import exchange

    scene = begin(devnet_grant=0)
    made = scene.create()
    scene.pay(made)
    scene.chain.mine()
    scene.look()
    scene.api.job(scene.alice, constraints={"max_price": 5_000})  # holds what was credited
    scene.chain.reorganise(1, 3, keep=False)
    scene.look()
    (output,) = scene.status(made)["outputs"]
    assert output["status"] == "gone" and output["owed"] > 0 and output["credited"] == 0
    refused = expect_error(scene.api.post(CREATE, scene.alice, json={"amount": 5}), 403, "ACCOUNT_OWES")
    assert refused["error"]["details"]["owed"] == output["owed"]
    scene.api.write(exchange.forgive, f"{output['txid']}:{output['vout']}")
    assert scene.create()["status"] == "pending"
