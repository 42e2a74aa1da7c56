"""What arrives on a (fake) chain is credited: in time, late, too little, twice, replaced, reorganised away."""

from __future__ import annotations

import pytest

from aitbc.audit.database import audit
from aitbc.coordinator.database import Database
from aitbc.coordinator.exchange import outputs
from aitbc.coordinator.flows.acts import exchange as acts
from aitbc.core.bitcoin import units_of
from tests.support.exchange import ADDRESS, RATE, Exchange, FakeChain, FakeSource
from tests.support.flows import CHAIN, Market

AIT = 100_000_000
RATE_UNITS = RATE * AIT
SMALL, MEDIUM, LARGE = 500_000, 5_000_000, 50_000_000
"""Satoshi that need 1, 3 and 6 confirmations."""


@pytest.fixture(params=["node", "server"])
def exchange(request: pytest.FixtureRequest, market: Market) -> Exchange:
    """Over a source that reads all blocks, and over one that is asked for addresses."""
    chain = FakeChain()
    return Exchange(market, FakeSource(chain, None if request.param == "node" else 10), chain)


@pytest.mark.parametrize(("sat", "blocks"), [(SMALL, 1), (MEDIUM, 3), (LARGE, 6)])
def test_a_payment_is_credited_once_it_is_as_deep_as_its_amount_asks(
    exchange: Exchange, sat: int, blocks: int
) -> None:
    client = exchange.market.client(units=0)

    async def scenario(x: Exchange) -> None:
        topup = await x.topup(client, units=units_of(sat, RATE_UNITS))
        assert (topup.sat, topup.key_index, await x.state(topup)) == (sat, 0, ("pending", "none"))
        x.pay(topup)
        await x.look()
        assert await x.state(topup) == ("seen", "none")
        await x.mine(blocks - 1)
        assert ((await x.balance(client)).balance_units, await x.state(topup)) == (0, ("seen", "none"))
        await x.mine()
        assert await x.state(topup) == ("confirmed", "none")
        for _ in range(3):
            await x.mine()
            await x.pass_time(3600)
        assert (await x.balance(client)).balance_units == units_of(sat, RATE_UNITS)
        assert await x.state(topup) == ("confirmed", "none")

    exchange.run(scenario)


def test_too_little_too_much_and_a_second_payment_are_credited_as_they_are(exchange: Exchange) -> None:
    client = exchange.market.client(units=0)

    async def scenario(x: Exchange) -> None:
        topup = await x.topup(client, sat=SMALL)
        x.pay(topup, SMALL - 1)
        await x.look()
        assert await x.state(topup) == ("seen", "underpaid")
        await x.mine()
        assert await x.state(topup) == ("confirmed", "underpaid")
        x.pay(topup, 1)
        await x.look()
        assert await x.state(topup) == ("seen", "none")
        await x.mine()
        assert await x.state(topup) == ("confirmed", "none")
        x.pay(topup, SMALL)
        await x.look()
        assert await x.state(topup) == ("confirmed", "overpaid")
        await x.mine(3)  # two of these together could be undone: they are above 0.01 BTC
        assert await x.state(topup) == ("confirmed", "overpaid")
        assert (await x.balance(client)).balance_units == units_of(2 * SMALL, RATE_UNITS)

    exchange.run(scenario)


def test_a_payment_cut_into_small_outputs_needs_what_it_needs_whole(exchange: Exchange) -> None:
    client = exchange.market.client(units=0)

    async def scenario(x: Exchange) -> None:
        topup = await x.topup(client, sat=LARGE)
        script = bytes.fromhex(topup.script)
        x.chain.pay(*[(script, LARGE // 100)] * 100)
        await x.mine(5)
        assert (await x.balance(client)).balance_units == 0
        await x.mine()
        assert (await x.balance(client)).balance_units == units_of(LARGE, RATE_UNITS)

    exchange.run(scenario)


def test_what_comes_late_is_credited_at_the_rate_of_its_confirmation(market: Market) -> None:
    chain = FakeChain()
    client = market.client(units=0)
    first, later = Exchange(market, chain=chain), Exchange(market, chain=chain, rate=50_000)

    async def scenario(x: Exchange) -> None:
        topup = await x.topup(client, sat=SMALL)
        await x.pass_time(3601)
        assert await x.state(topup) == ("expired", "none")
        x.pay(topup)
        await later.look()
        assert await x.state(topup) == ("seen", "late")
        await later.mine()
        assert await x.state(topup) == ("confirmed", "late")
        assert (await x.balance(client)).balance_units == units_of(SMALL, RATE_UNITS) // 2

    first.run(scenario)


def test_what_was_paid_in_time_keeps_its_rate_through_an_outage_of_the_source(exchange: Exchange) -> None:
    client = exchange.market.client(units=0)

    async def scenario(x: Exchange) -> None:
        topup = await x.topup(client, sat=SMALL)
        x.pay(topup)
        x.market.clock.advance(7200)  # nothing looked meanwhile
        await x.look()
        assert await x.state(topup) == ("seen", "none")
        await x.mine()
        assert await x.state(topup) == ("confirmed", "none")

    exchange.run(scenario)


def test_a_replaced_payment_is_not_credited_and_its_replacement_is(exchange: Exchange) -> None:
    client = exchange.market.client(units=0)

    async def scenario(x: Exchange) -> None:
        topup = await x.topup(client, sat=SMALL)
        x.pay(topup, spends="coin")
        await x.look()
        x.chain.pay((b"\x51", SMALL), spends="coin")  # to somebody else
        await x.look()
        assert await x.state(topup) == ("pending", "replaced")
        x.pay(topup, SMALL, spends="coin")  # and back, with a higher fee
        await x.look()
        assert await x.state(topup) == ("seen", "none")
        x.chain.pay((b"\x51", SMALL), spends="coin")
        await x.pass_time(3601)
        assert await x.state(topup) == ("invalid", "replaced")
        await x.mine(10)
        assert (await x.balance(client)).balance_units == 0
        assert [row.gone for row in await x.outputs(topup)] == [1, 1]

    exchange.run(scenario)


def test_a_short_reorganisation_takes_nothing_back_when_the_payment_comes_again(exchange: Exchange) -> None:
    client = exchange.market.client(units=0)

    async def scenario(x: Exchange) -> None:
        topup = await x.topup(client, sat=MEDIUM)
        paid = x.pay(topup)
        await x.mine(3)
        assert await x.state(topup) == ("confirmed", "none")
        x.chain.reorganise(3, 1, only=[])
        await x.look()  # shorter: nothing is believed
        assert await x.state(topup) == ("confirmed", "none")
        x.chain.mine(2, only=[])
        await x.look()  # as long
        assert [row.height for row in await x.outputs(topup)] == [1]
        x.chain.reorganise(2, 4, only=[paid])
        await x.look()
        assert await x.state(topup) == ("confirmed", "none")
        assert [(row.height, row.events) for row in await x.outputs(topup)] == [(2, 1)]
        assert (await x.balance(client)).balance_units == units_of(MEDIUM, RATE_UNITS)

    exchange.run(scenario)


def test_a_credit_that_is_reorganised_out_is_taken_back_from_what_is_left(exchange: Exchange) -> None:
    client = exchange.market.client(units=0)
    whole = units_of(MEDIUM, RATE_UNITS)

    async def scenario(x: Exchange) -> None:
        topup = await x.topup(client, sat=MEDIUM)
        paid = x.pay(topup, spends="coin")
        await x.mine(3)
        await x.market.db.write(_spend, client.account_id, whole // 4)
        x.chain.reorganise(3, 2, keep=False)
        x.chain.pay((b"\x51", MEDIUM), spends="coin")  # a double spend
        await x.mine(2)
        assert [(row.height, row.gone, row.events) for row in await x.outputs(topup)] == [(-1, 1, 2)]
        assert await x.state(topup) == ("invalid", "replaced") or await x.state(topup) == (
            "pending",
            "replaced",
        )
        assert (await x.balance(client)).balance_units == 0
        owed = await x.market.db.read(outputs.owed_by, client.account_id)
        assert owed == whole // 4
        # It comes back after all: with the credit that still stands it makes the whole.
        x.chain.reorganise(4, 6, only=[paid])
        await x.look()
        assert (await x.balance(client)).balance_units == whole - whole // 4
        assert await x.market.db.read(outputs.owed_by, client.account_id) == 0
        assert await x.state(topup) == ("confirmed", "none")

    exchange.run(scenario)


def _spend(tx: object, account: str, units: int) -> None:
    from aitbc.coordinator.ledger import service as ledger
    from aitbc.coordinator.ledger.models import TREASURY
    from tests.support.transfers import id_of, signed_of

    ledger.transfer(tx, id_of("spent"), account, TREASURY, units, ref=signed_of("spent"))  # type: ignore[arg-type]


def test_a_coinbase_output_waits_until_the_network_lets_it_be_spent(exchange: Exchange) -> None:
    client = exchange.market.client(units=0)

    async def scenario(x: Exchange) -> None:
        topup = await x.topup(client, sat=SMALL)
        x.chain.mine(1, only=[x.pay(topup, coinbase=True)])
        await x.mine(98)
        assert await x.state(topup) == ("seen", "none")
        await x.mine()
        assert await x.state(topup) == ("confirmed", "none")

    exchange.run(scenario)


def test_with_one_address_for_all_amounts_tell_payers_apart(market: Market) -> None:
    ann, ben = market.client("ann", 0), market.client("ben", 0)

    async def scenario(x: Exchange) -> None:
        one, two = await x.topup(ann, sat=SMALL), await x.topup(ben, sat=SMALL)
        assert (one.sat, two.sat, one.address, two.address) == (SMALL, SMALL + 1, ADDRESS, ADDRESS)
        x.pay(two)
        lost = x.pay(one, SMALL + 17)
        await x.mine()
        assert [await x.state(topup) for topup in (one, two)] == [("pending", "none"), ("confirmed", "none")]
        assert (await x.balance(ben)).balance_units == units_of(SMALL + 1, RATE_UNITS)
        await market.db.write(acts.assign, f"{lost.txid}:0", one.id)
        await x.look()
        assert await x.state(one) == ("confirmed", "late")
        assert (await x.balance(ann)).balance_units == units_of(SMALL + 17, RATE_UNITS)

    Exchange(market, bitcoin_address=ADDRESS).run(scenario)


def test_no_index_is_given_twice_and_addresses_differ(exchange: Exchange) -> None:
    clients = [exchange.market.client(f"c{number}", 0) for number in range(5)]

    async def scenario(x: Exchange) -> None:
        made = [await x.topup(client, sat=SMALL) for client in clients]
        assert [topup.key_index for topup in made] == [0, 1, 2, 3, 4]
        assert len({topup.address for topup in made}) == 5
        assert made[0].address.startswith("bcrt1q")

    exchange.run(scenario)


def test_a_payment_in_a_block_that_came_while_its_address_was_made_is_found(market: Market) -> None:
    """The look under way did not know the address yet, and has read the block."""
    chain = FakeChain()
    client = market.client(units=0)
    source = FakeSource(chain)

    async def scenario(x: Exchange) -> None:
        made = []
        chain.mine()

        def between() -> None:
            source.before = None
            made.append(market.db.write_sync(acts.create, x.terms, client, acts.Wanted(None, SMALL)))
            row = market.db.read_sync(
                __import__("aitbc.coordinator.exchange.topups", fromlist=["get"]).get, made[0]
            )
            x.pay(row)
            chain.mine()

        source.before = between
        await x.look()
        await x.look()
        topup = await x.topup_of(made[0])
        assert await x.state(topup) == ("confirmed", "none")

    Exchange(market, source, chain).run(scenario)


def test_two_coordinators_credit_it_once(market: Market) -> None:
    import asyncio

    chain = FakeChain()
    client = market.client(units=0)
    one, two = Exchange(market, chain=chain), Exchange(market, chain=chain)

    async def scenario(x: Exchange) -> None:
        topup = await x.topup(client, sat=SMALL)
        x.pay(topup)
        for _ in range(4):
            chain.mine()
            await asyncio.gather(one.look(), two.look())
        assert (await x.balance(client)).balance_units == units_of(SMALL, RATE_UNITS)
        assert [row.events for row in await x.outputs(topup)] == [1]

    one.run(scenario)


def test_everything_that_was_done_passes_the_audit(exchange: Exchange, db: Database) -> None:
    client = exchange.market.client(units=0)

    async def scenario(x: Exchange) -> None:
        for sat in (SMALL, MEDIUM):
            topup = await x.topup(client, sat=sat)
            x.pay(topup)
            await x.mine(3)
        x.chain.reorganise(2, 5, keep=False)
        await x.look()
        report = await db.read(audit, CHAIN)
        assert report.ok, report.problems

    exchange.run(scenario)
