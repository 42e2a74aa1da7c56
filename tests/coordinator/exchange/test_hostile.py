"""What strangers, operators and bad luck can do to the exchange, and what must hold all the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aitbc.audit.database import audit
from aitbc.coordinator.bitcoin.source import Look
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import ExchangeBlind, InvalidRequest
from aitbc.coordinator.exchange import outputs
from aitbc.coordinator.flows.acts import exchange as acts
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.models import TREASURY
from aitbc.core.bitcoin import units_of
from tests.support.exchange import ADDRESS, RATE, Exchange, FakeChain, FakeSource, account_key
from tests.support.flows import CHAIN, Market
from tests.support.transfers import id_of, signed_of

AIT = 100_000_000
RATE_UNITS = RATE * AIT
SMALL = 500_000


def asked_by_address(market: Market, most: int, **more: object) -> Exchange:
    chain = FakeChain()
    return Exchange(market, FakeSource(chain, most), chain, **more)


def test_a_reorganisation_just_after_a_long_outage_is_followed(market: Market) -> None:
    """A server that is asked by address names only the tip of what was missed."""
    client = market.client(units=0)

    async def scenario(x: Exchange) -> None:
        topup = await x.topup(client, sat=SMALL)
        await x.mine(150)
        x.chain.reorganise(1, 2)
        x.pay(topup)
        await x.mine()
        assert await x.state(topup) == ("confirmed", "none")

    asked_by_address(market, 10).run(scenario)


def test_nothing_is_taken_back_that_was_not_looked_for(market: Market) -> None:
    """More outputs in blocks that left the chain than a server is asked for at once; all are in the new ones."""
    client = market.client(units=0)

    async def scenario(x: Exchange) -> None:
        made = [await x.topup(client, sat=SMALL) for _ in range(4)]
        paid = [x.pay(topup) for topup in made]
        await x.mine()
        for _ in range(3):
            await x.pass_time(10)
        assert [await x.state(topup) for topup in made] == [("confirmed", "none")] * 4
        x.chain.reorganise(1, 2, only=paid)
        for _ in range(6):
            await x.pass_time(10)
        assert [row.events for topup in made for row in await x.outputs(topup)] == [1] * 4

    asked_by_address(market, 3).run(scenario)


def test_a_credit_of_which_nothing_is_left_is_owed_whole_and_comes_again_as_nothing(market: Market) -> None:
    client = market.client(units=0)
    whole = units_of(SMALL, RATE_UNITS)

    def spend(tx: Tx) -> None:
        ledger.transfer(tx, id_of("spent"), client.account_id, TREASURY, whole, ref=signed_of("spent"))

    async def scenario(x: Exchange) -> None:
        topup = await x.topup(client, sat=SMALL)
        paid = x.pay(topup)
        await x.mine()
        await market.db.write(spend)
        x.chain.reorganise(1, 2, keep=False)
        await x.look()
        assert await market.db.read(outputs.owed_by, client.account_id) == whole
        x.chain.reorganise(1, 2, only=[paid])
        await x.look()
        assert await market.db.read(outputs.owed_by, client.account_id) == 0
        assert (await x.balance(client)).balance_units == 0
        assert await x.state(topup) == ("confirmed", "none")

    Exchange(market).run(scenario)


def test_an_output_worth_no_unit_stops_nothing(market: Market) -> None:
    client = market.client(units=0)

    async def scenario(x: Exchange) -> None:
        topup = await x.topup(client, sat=SMALL)
        x.pay(topup, 1)
        await x.mine()
        other = await x.topup(client, sat=SMALL + 1)
        x.pay(other)
        await x.mine()
        assert await x.state(other) == ("confirmed", "none")
        report = await market.db.read(audit, CHAIN)
        assert report.ok, report.problems

    Exchange(market, rate="0.5").run(scenario)


def test_an_output_is_assigned_to_a_payment_of_its_own_address_alone(market: Market) -> None:
    client = market.client(units=0)
    chain = FakeChain()
    common = Exchange(market, chain=chain, bitcoin_address=ADDRESS)
    own = Exchange(market, chain=chain, bitcoin_xpub=account_key())

    async def scenario(x: Exchange) -> None:
        one = await x.topup(client, sat=SMALL)
        other = await own.topup(client, sat=SMALL)
        lost = x.pay(one, SMALL + 17)
        await x.mine()
        with pytest.raises(InvalidRequest):
            await market.db.write(acts.assign, f"{lost.txid}:0", other.id)

    common.run(scenario)


def test_an_output_that_was_replaced_waits_for_no_operator(market: Market) -> None:
    client = market.client(units=0)

    async def scenario(x: Exchange) -> None:
        topup = await x.topup(client, sat=SMALL)
        lost = x.pay(topup, SMALL + 17)
        await x.look()
        assert len(await market.db.read(outputs.nobodys)) == 1
        x.chain.drop(lost)
        await x.look()
        assert await market.db.read(outputs.nobodys) == []
        with pytest.raises(InvalidRequest):
            await market.db.write(acts.assign, f"{lost.txid}:0", topup.id)

    Exchange(market, bitcoin_address=ADDRESS).run(scenario)


def test_the_common_address_under_the_key_keeps_its_payers_apart(market: Market) -> None:
    """An operator who began with an address of his wallet, and then gave the wallet's key."""
    ann, ben = market.client("ann", 0), market.client("ben", 0)
    chain = FakeChain()
    own = Exchange(market, chain=chain, bitcoin_xpub=account_key())
    assert own.terms.receiving is not None
    first = own.terms.receiving.place(0).address
    common = Exchange(market, chain=chain, bitcoin_address=first)

    async def scenario(x: Exchange) -> None:
        anns = await x.topup(ann, sat=SMALL)
        bens = await own.topup(ben, sat=2 * SMALL)
        x.pay(anns)
        await own.mine()
        assert await x.state(anns) == ("confirmed", "none")
        assert await x.state(bens) == ("pending", "none")

    common.run(scenario)


def test_what_is_in_a_block_in_the_place_of_one_that_was_looked_at_is_found(market: Market) -> None:
    """More addresses than a server is asked for at once, all looked at up to a block that leaves the chain."""
    client = market.client(units=0)

    async def scenario(x: Exchange) -> None:
        made = [await x.topup(client, sat=SMALL) for _ in range(4)]
        await x.mine()
        for _ in range(4):
            await x.pass_time(10)
        paid = [x.pay(topup) for topup in made]
        x.chain.reorganise(1, 2, only=paid)
        for _ in range(6):
            await x.pass_time(10)
        assert [await x.state(topup) for topup in made] == [("confirmed", "none")] * 4

    asked_by_address(market, 3).run(scenario)


def test_many_payments_on_their_way_keep_no_other_from_being_looked_for(market: Market) -> None:
    """One transaction with a small fee, to more addresses than a server is asked for at once, may wait for weeks."""
    strangers, client = [market.client(f"stranger{at}", 0) for at in range(3)], market.client("client", 0)

    async def scenario(x: Exchange) -> None:
        for stranger in strangers:
            made = [await x.topup(stranger, sat=SMALL) for _ in range(4)]
            x.chain.pay(*[(bytes.fromhex(topup.script), 300) for topup in made])
            for _ in range(3):
                await x.pass_time(10)
        topup, late = await x.topup(client, sat=SMALL), await x.topup(client, sat=SMALL)
        paid = x.pay(topup)
        x.chain.mine(only=[paid])
        for _ in range(4):
            await x.pass_time(10)
        assert await x.state(topup) == ("confirmed", "none")
        for _ in range(8):
            await x.pass_time(3601)
        assert await x.state(late) == ("expired", "none")
        paid = x.pay(late)
        x.chain.mine(only=[paid])
        for _ in range(12):
            await x.pass_time(10)
        assert await x.state(late) == ("confirmed", "late")

    asked_by_address(market, 9).run(scenario)


@pytest.mark.parametrize("common", [False, True])
def test_an_address_that_strangers_crowd_stops_no_other(market: Market, common: bool) -> None:
    """Of the crowded one nothing is taken for gone, and no lock ends; of the others everything is as always."""
    stranger, client = market.client("stranger", 0), market.client("client", 0)

    async def scenario(x: Exchange) -> None:
        crowded = await x.topup(stranger, sat=SMALL)
        x.pay(crowded)
        await x.look()
        script = bytes.fromhex(crowded.script)

        def lie(look: Look) -> Look:
            seen = tuple(one for one in look.seen if one.script != script or one.block)
            return replace(look, seen=seen, crowded=frozenset({script}))

        x.source.lie = lie
        await x.pass_time(10)
        assert [row.gone for row in await x.outputs(crowded)] == [0]
        if common:
            await x.pass_time(3600)
            with pytest.raises(ExchangeBlind):
                await x.topup(client, sat=SMALL)
            return
        topup, unpaid = await x.topup(client, sat=SMALL), await x.topup(client, sat=SMALL)
        x.pay(topup)
        await x.look()
        assert await x.state(topup) == ("seen", "none")
        x.chain.mine(only=x.chain.mempool[1:])
        await x.pass_time(3601)
        assert [await x.state(one) for one in (topup, unpaid)] == [("confirmed", "none"), ("expired", "none")]
        assert await x.topup(client, sat=SMALL)
        del x.chain.mempool[:]
        x.source.lie = None
        await x.look()
        assert await x.state(crowded) == ("invalid", "replaced")

    asked_by_address(market, 9, **({"bitcoin_address": ADDRESS} if common else {})).run(scenario)


def test_what_a_server_tells_some_blocks_too_late_is_found(market: Market) -> None:
    """Of several servers behind one name, one may have the tip and another not yet the transactions in it."""
    client = market.client(units=0)

    async def scenario(x: Exchange) -> None:
        topup = await x.topup(client, sat=SMALL)
        x.pay(topup)
        await x.look()
        x.source.lie = lambda look: replace(look, seen=tuple(replace(one, block=None) for one in look.seen))
        await x.mine()
        assert await x.state(topup) == ("seen", "none")
        await x.mine(2)
        x.source.lie = None
        await x.look()
        assert await x.state(topup) == ("confirmed", "none")

    asked_by_address(market, 9).run(scenario)


def test_what_was_paid_before_a_payment_was_asked_for_is_not_its_own(market: Market) -> None:
    """Everybody sees what the common address is paid, and could ask for as much just after."""
    client = market.client(units=0)

    async def scenario(x: Exchange) -> None:
        assert x.terms.named is not None
        x.chain.pay((x.terms.named.script, SMALL))
        await x.mine(2)
        topup = await x.topup(client, sat=SMALL)
        await x.mine(3)
        assert await x.state(topup) == ("pending", "none")

    asked_by_address(market, 9, bitcoin_address=ADDRESS).run(scenario)
