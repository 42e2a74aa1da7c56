"""A source that is down, wrong, on another chain or behind changes nothing; strangers and races meet their bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from aitbc.coordinator.bitcoin.source import BlockRef, Look, SourceError
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import AitbcError
from aitbc.coordinator.exchange import outputs
from aitbc.coordinator.exchange.terms import UNPAID_A_DAY
from aitbc.coordinator.schema.tables import metadata
from aitbc.core.bitcoin import units_of
from tests.support.exchange import ADDRESS, RATE, Exchange, FakeChain, FakeSource
from tests.support.flows import Market

SAT = 500_000
RATE_UNITS = RATE * 100_000_000
OTHER = "ee" * 32
TABLES = [table for table in metadata.sorted_tables if table.name not in ("leaves", "counters")]


def everything(tx: Tx) -> dict[str, list[Any]]:
    return {table.name: sorted(map(tuple, tx.query(select(table))), key=repr) for table in TABLES}


def seen_with(**other: Any) -> Callable[[Look], Look]:
    return lambda look: replace(look, seen=tuple(replace(one, **other) for one in look.seen))


LIES: dict[str, Callable[[Look], Look]] = {
    "an output twice": lambda look: replace(look, seen=look.seen * 2),
    "another amount than before": seen_with(sat=SAT + 1),
    "an address that was not asked for": seen_with(script=b"\x51"),
    "a block that it did not name": seen_with(block=BlockRef(2, OTHER)),
    "a block above its last": seen_with(block=BlockRef(99, OTHER)),
    "a chain that ends before": lambda look: replace(look, upto=BlockRef(0, OTHER), blocks=()),
    "another block than the common one": lambda look: replace(look, upto=BlockRef(1, OTHER), blocks=()),
    "blocks that do not end": lambda look: replace(look, upto=BlockRef(look.upto.height, OTHER)),
    "blocks out of order": lambda look: replace(look, blocks=(look.upto, *look.blocks)),
    "more blocks than were asked for": lambda look: replace(
        look, upto=BlockRef(90, OTHER), blocks=(BlockRef(90, OTHER),)
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_nonsense_changes_nothing(market: Market, lie: str) -> None:
    client = market.client(units=0)

    async def scenario(x: Exchange) -> None:
        topup = await x.topup(client, sat=SAT)
        x.pay(topup)
        x.chain.mine(1, only=[])
        await x.look()
        assert await x.state(topup) == ("seen", "none")
        x.chain.mine()
        before = await market.db.read(everything)
        x.source.lie = LIES[lie]
        await x.pass_time(7200)
        assert await market.db.read(everything) == before
        x.source.lie = None
        await x.look()
        assert await x.state(topup) == ("confirmed", "none")
        assert (await x.balance(client)).balance_units == units_of(SAT, RATE_UNITS)

    Exchange(market).run(scenario)


def test_a_source_that_is_down_changes_nothing_however_long(market: Market) -> None:
    client = market.client(units=0)

    async def scenario(x: Exchange) -> None:
        topup = await x.topup(client, sat=SAT)
        before = await market.db.read(everything)
        x.source.fault = SourceError("connection refused")
        x.pay(topup)
        x.chain.mine(3)
        for _ in range(5):
            await x.pass_time(86_400)
        assert await market.db.read(everything) == before
        x.source.fault = None
        await x.look()
        assert await x.state(topup) == ("confirmed", "none")  # in time: nobody had looked

    Exchange(market).run(scenario)


def test_another_network_is_not_believed(market: Market) -> None:
    chain = FakeChain(blocks=[(BlockRef(0, OTHER), [])])

    async def scenario(_x: Exchange) -> None:
        with pytest.raises(AitbcError) as refused:
            await _x.topup(market.client(units=0), sat=SAT)
        assert refused.value.code == "EXCHANGE_OFF"

    Exchange(market, FakeSource(chain), chain).run(scenario)


def test_a_chain_that_has_none_of_our_blocks_is_refused(market: Market) -> None:
    """However long it is: on a real network nobody replaces a hundred blocks."""
    client = market.client(units=0)

    async def scenario(x: Exchange) -> None:
        x.chain.mine(130)
        await x.look()
        topup = await x.topup(client, sat=SAT)
        x.pay(topup)
        await x.mine()
        before = await market.db.read(everything)
        x.chain.reorganise(120, 500, keep=False)
        await x.look()
        assert await market.db.read(everything) == before

    Exchange(market).run(scenario)


def test_after_a_long_outage_all_blocks_are_read_in_steps(market: Market) -> None:
    client = market.client(units=0)

    async def scenario(x: Exchange) -> None:
        topup = await x.topup(client, sat=SAT)
        x.pay(topup)
        x.chain.mine(95)
        looks = x.source.looks
        await x.look()
        assert x.source.looks - looks == 5
        assert await x.state(topup) == ("confirmed", "none")
        assert [row.height for row in await x.outputs(topup)] == [1]

    Exchange(market).run(scenario)


def test_an_output_too_large_for_one_transfer_waits_for_the_operator(market: Market) -> None:
    client = market.client(units=0)

    async def scenario(x: Exchange) -> None:
        topup = await x.topup(client, sat=SAT)
        x.pay(topup, 1_000 * 100_000_000)
        await x.mine(10)
        assert await x.state(topup) == ("seen", "overpaid")
        x.pay(topup)
        await x.mine(10)
        assert (await x.balance(client)).balance_units == units_of(SAT, RATE_UNITS)

    Exchange(market).run(scenario)


def test_many_who_ask_at_once_get_indexes_of_their_own_and_no_more_than_their_share(market: Market) -> None:
    clients = [market.client(f"c{number}", 0) for number in range(4)]

    async def scenario(x: Exchange) -> None:
        async def ask(number: int) -> Any:
            try:
                return await x.topup(clients[number % 4], sat=SAT)
            except AitbcError as error:
                return error.code

        answers = await asyncio.gather(*map(ask, range(40)))
        made = [one for one in answers if not isinstance(one, str)]
        most = x.terms.max_open
        assert sorted(one.key_index for one in made) == list(range(4 * most))
        assert sorted(one.number for one in made) == list(range(4 * most))
        assert [one for one in answers if isinstance(one, str)] == ["TOO_MANY_TOPUPS"] * (40 - 4 * most)
        for _ in range(UNPAID_A_DAY - 1):
            await x.pass_time(3601)
            for client in clients * most:
                await x.topup(client, sat=SAT)
        await x.pass_time(3601)
        assert await ask(0) == "TOO_MANY_TOPUPS"

    Exchange(market).run(scenario)


def test_amounts_on_one_address_run_out_and_are_free_again_much_later(market: Market) -> None:
    clients = [market.client(f"c{number}", 0) for number in range(26)]

    async def scenario(x: Exchange) -> None:
        made = [(await x.topup(client, sat=1_000)).sat for client in clients for _ in range(4)][:101]
        assert made == list(range(1_000, 1_101))

    async def whole(x: Exchange) -> None:
        with pytest.raises(AitbcError) as refused:
            await scenario(x)
        assert refused.value.code == "NO_AMOUNT_FREE"
        await x.pass_time(3601)
        await x.pass_time(91 * 86_400)
        assert (await x.topup(clients[0], sat=1_000)).sat == 1_000

    Exchange(market, bitcoin_address=ADDRESS).run(whole)


def test_what_tells_no_payment_is_assigned_once(market: Market) -> None:
    from aitbc.coordinator.flows.acts import exchange as acts

    ann, ben = market.client("ann", 0), market.client("ben", 0)

    async def scenario(x: Exchange) -> None:
        one, two = await x.topup(ann, sat=SAT), await x.topup(ben, sat=SAT)
        lost = x.pay(one, SAT + 50)
        await x.mine()
        assert [row.id for row in await market.db.read(outputs.nobodys)] == [f"{lost.txid}:0"]
        for output, topup in ((f"{lost.txid}:1", one.id), (f"{lost.txid}:0", "nothing")):
            with pytest.raises(AitbcError):
                await market.db.write(acts.assign, output, topup)
        await market.db.write(acts.assign, f"{lost.txid}:0", two.id)
        with pytest.raises(AitbcError):
            await market.db.write(acts.assign, f"{lost.txid}:0", one.id)
        await x.look()
        assert (await x.balance(ann)).balance_units == 0
        assert (await x.balance(ben)).balance_units == units_of(SAT + 50, RATE_UNITS)
        with pytest.raises(AitbcError):
            await market.db.write(acts.forgive, f"{lost.txid}:0")

    Exchange(market, bitcoin_address=ADDRESS).run(scenario)
