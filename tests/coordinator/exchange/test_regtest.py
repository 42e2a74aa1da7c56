"""What is paid on a real node is credited, seen through its JSON-RPC and through an Esplora-shaped server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from aitbc.coordinator.bitcoin.bitcoind import Bitcoind
from aitbc.coordinator.bitcoin.esplora import Esplora
from aitbc.coordinator.bitcoin.source import Source
from aitbc.coordinator.exchange import outputs
from aitbc.coordinator.exchange.topups import TopupRow
from aitbc.core.bitcoin import units_of
from tests.support.bitcoin import BitcoinNode
from tests.support.exchange import ADDRESS, RATE, Exchange, account_key
from tests.support.flows import Market
from tests.support.meddler import Answer, Meddler, meddling

RATE_UNITS = RATE * 100_000_000
SMALL, MEDIUM = 500_000, 5_000_000
"""Satoshi that need 1 and 3 confirmations."""
MakeExchange = Callable[..., Exchange]


@pytest.fixture(params=["bitcoind", "esplora"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def between(kind: str, bitcoin: BitcoinNode) -> Iterator[Meddler]:
    """Between the exchange and the node."""
    port = f"http://127.0.0.1:{bitcoin.rpc_port}"
    with meddling(port if kind == "bitcoind" else bitcoin.esplora_url) as meddler:
        yield meddler


@pytest.fixture
def open_exchange(market: Market, bitcoin: BitcoinNode, kind: str, between: Meddler) -> MakeExchange:
    """`open_exchange(**settings)`, with a key of its own: on the shared chain nobody else is paid at its addresses."""

    def make(**settings: object) -> Exchange:
        url = between.url.replace("//", f"//test:{bitcoin.password}@")
        source: Source = Bitcoind(url, 10) if kind == "bitcoind" else Esplora(between.url, 10)
        if "bitcoin_address" not in settings:
            settings["bitcoin_xpub"] = account_key(os.urandom(32))
        return Exchange(market, source, **settings)

    return make


@pytest.fixture
def exchange(open_exchange: MakeExchange) -> Exchange:
    return open_exchange()


async def balance(x: Exchange, client: object) -> int:
    return (await x.balance(client)).balance_units  # type: ignore[arg-type]


async def mine(x: Exchange, bitcoin: BitcoinNode, blocks: int = 1) -> None:
    bitcoin.mine(blocks)
    await x.look()


def test_paid_underpaid_and_paid_twice(exchange: Exchange, bitcoin: BitcoinNode) -> None:
    client = exchange.market.client(units=0)

    async def scenario(x: Exchange) -> None:
        topup = await x.topup(client, units=units_of(MEDIUM, RATE_UNITS))
        assert (topup.sat, await x.state(topup)) == (MEDIUM, ("pending", "none"))
        first = bitcoin.pay(topup.address, MEDIUM - 1)
        await x.look()
        assert await x.state(topup) == ("seen", "underpaid")
        await mine(x, bitcoin, 2)
        assert (await balance(x, client), await x.state(topup)) == (0, ("seen", "underpaid"))
        await mine(x, bitcoin)
        assert (await balance(x, client), await x.state(topup)) == (
            units_of(MEDIUM - 1, RATE_UNITS),
            ("confirmed", "underpaid"),
        )
        second = bitcoin.pay_all([(ADDRESS, 1), (topup.address, MEDIUM)])
        await mine(x, bitcoin, 10)
        assert await x.state(topup) == ("confirmed", "overpaid")
        assert await balance(x, client) == units_of(2 * MEDIUM - 1, RATE_UNITS)
        assert {row.id for row in await x.outputs(topup)} == {f"{first.txid}:0", f"{second.txid}:1"}

    exchange.run(scenario)


def test_paid_late_after_a_look_that_the_node_missed(
    exchange: Exchange, bitcoin: BitcoinNode, between: Meddler
) -> None:
    """Blocks that came while the node could not be asked are looked at afterwards, in several looks."""
    client = exchange.market.client(units=0)

    async def scenario(x: Exchange) -> None:
        topup = await x.topup(client, sat=SMALL)
        between.meddle = lambda asked, forward: Answer(503, b"starting")
        await x.pass_time(4000)
        assert await x.state(topup) == ("pending", "none")  # nobody looked: it may have been paid in time
        between.meddle = lambda asked, forward: forward()
        await x.pass_time(1)
        assert await x.state(topup) == ("expired", "none")
        bitcoin.pay(topup.address, SMALL)
        between.meddle = lambda asked, forward: Answer(200, b"{}")
        bitcoin.mine(45)
        await x.look()
        assert await balance(x, client) == 0
        between.meddle = lambda asked, forward: forward()
        await x.look()
        assert await x.state(topup) == ("confirmed", "late")
        assert await balance(x, client) == units_of(SMALL, RATE_UNITS)

    exchange.run(scenario)


def test_replaced_by_one_that_pays_elsewhere_and_by_one_that_pays_more(
    exchange: Exchange, bitcoin: BitcoinNode
) -> None:
    client = exchange.market.client(units=0)

    async def scenario(x: Exchange) -> None:
        topup = await x.topup(client, sat=SMALL)
        sent = bitcoin.pay(topup.address, SMALL)
        await x.look()
        assert await x.state(topup) == ("seen", "none")
        elsewhere = bitcoin.replace(sent, {ADDRESS: SMALL})
        await x.look()
        assert await x.state(topup) == ("pending", "replaced")
        bitcoin.replace(elsewhere, {topup.address: SMALL + 1})
        await x.look()
        assert await x.state(topup) == ("seen", "overpaid")
        await mine(x, bitcoin)
        assert await x.state(topup) == ("confirmed", "overpaid")
        assert await balance(x, client) == units_of(SMALL + 1, RATE_UNITS)

    exchange.run(scenario)


def test_a_reorganisation_that_pays_all_the_same_takes_nothing_back(
    exchange: Exchange, bitcoin: BitcoinNode
) -> None:
    client = exchange.market.client(units=0)

    async def scenario(x: Exchange) -> None:
        topup = await x.topup(client, sat=SMALL)
        sent = bitcoin.pay(topup.address, SMALL)
        await mine(x, bitcoin)
        before = await x.outputs(topup)
        tip = bitcoin.reorg(1, [sent])
        await x.look()
        (row,) = await x.outputs(topup)
        assert row.hash != before[0].hash
        assert (row.height, row.events) == (tip.height - 1, 1)
        assert await x.state(topup) == ("confirmed", "none")
        assert await balance(x, client) == units_of(SMALL, RATE_UNITS)

    exchange.run(scenario)


def test_a_reorganisation_that_pays_elsewhere_takes_the_credit_back(
    exchange: Exchange, bitcoin: BitcoinNode
) -> None:
    client = exchange.market.client(units=0)

    async def scenario(x: Exchange) -> None:
        topup = await x.topup(client, sat=MEDIUM)
        sent = bitcoin.pay(topup.address, MEDIUM)
        rival = bitcoin.rival(sent, {ADDRESS: MEDIUM})
        await mine(x, bitcoin, 3)
        assert await balance(x, client) == units_of(MEDIUM, RATE_UNITS)
        bitcoin.reorg(3, [rival])
        await x.look()
        assert await balance(x, client) == 0
        assert [(row.gone, row.events) for row in await x.outputs(topup)] == [(1, 2)]
        assert (await x.state(topup))[1] == "replaced"
        assert await x.market.db.read(outputs.owed_by, client.account_id) == 0
        await mine(x, bitcoin, 3)
        assert await balance(x, client) == 0

    exchange.run(scenario)


def test_one_address_for_all(open_exchange: MakeExchange, market: Market, bitcoin: BitcoinNode) -> None:
    """What others pay to it is nobody's top-up."""
    exchange = open_exchange(bitcoin_address=ADDRESS)
    ann, ben = market.client("ann", 0), market.client("ben", 0)

    async def scenario(x: Exchange) -> None:
        one, two = await x.topup(ann, sat=SMALL), await x.topup(ben, sat=SMALL)
        assert one.address == two.address == ADDRESS
        assert one.sat != two.sat
        bitcoin.pay(ADDRESS, two.sat)
        bitcoin.pay(ADDRESS, 77)
        await mine(x, bitcoin)
        assert await x.state(two) == ("confirmed", "none")
        assert await x.state(one) == ("pending", "none")
        assert (await balance(x, ann), await balance(x, ben)) == (0, units_of(two.sat, RATE_UNITS))

    exchange.run(scenario)


def test_many_topups_are_all_found(exchange: Exchange, market: Market, bitcoin: BitcoinNode) -> None:
    """More addresses than one look asks for."""
    clients = [market.client(f"client{at}", 0) for at in range(15)]

    async def scenario(x: Exchange) -> None:
        topups: list[TopupRow] = []
        for client in clients:
            topups += [await x.topup(client, sat=SMALL) for _ in range(4)]
        bitcoin.pay_all([(topup.address, topup.sat) for topup in topups])
        for _ in range(3):
            await mine(x, bitcoin)
        assert [await x.state(topup) for topup in topups] == [("confirmed", "none")] * len(topups)
        for client in clients:
            assert await balance(x, client) == 4 * units_of(SMALL, RATE_UNITS)

    exchange.run(scenario)
