"""Both kinds of source show what is in a real node's chain and mempool, and only that."""

from collections.abc import Callable

import pytest

from aitbc.coordinator.bitcoin.addresses import GENESIS
from aitbc.coordinator.bitcoin.source import BlockRef, SourceError
from tests.coordinator.bitcoin.conftest import Place, View
from tests.support.bitcoin import BitcoinNode

NewPlace = Callable[[], Place]
COIN = 100_000_000


def test_the_chain_and_its_kind(view: View, bitcoin: BitcoinNode) -> None:
    tip = bitcoin.mine()
    assert view.tip() == BlockRef(tip.height, tip.hash)
    assert view.hash_at(tip.height) == tip.hash
    assert view.hash_at(tip.height + 1) is None
    genesis = view.hash_at(0)
    assert genesis is not None
    assert GENESIS[genesis] == "regtest"


def test_a_payment_is_seen_waiting_and_then_in_its_block(
    view: View, bitcoin: BitcoinNode, place: NewPlace
) -> None:
    paid, other, unpaid = place(), place(), place()
    sent = bitcoin.pay_all([(other.address, 1), (paid.address, 12_345_678), (paid.address, 3 * COIN + 1)])
    waiting = [(sent.txid, 1, 12_345_678, 0), (sent.txid, 2, 3 * COIN + 1, 0)]
    assert view.pays(paid, unpaid) == waiting
    tip = bitcoin.mine()
    assert view.pays(paid, unpaid) == [(txid, vout, sat, tip.height) for txid, vout, sat, _ in waiting]
    look = view.look(paid, other, unpaid)
    assert {seen.script for seen in look.seen} == {paid.script, other.script}
    assert {seen.block for seen in look.seen} == {BlockRef(tip.height, tip.hash)}
    assert look.upto == look.blocks[-1] == BlockRef(tip.height, tip.hash)
    assert not any(seen.coinbase for seen in look.seen)


def test_nothing_is_asked_for(view: View, bitcoin: BitcoinNode) -> None:
    assert view.pays() == []
    bitcoin.mine()
    assert view.pays() == []


def test_what_is_below_where_the_look_begins_is_not_repeated(
    view: View, bitcoin: BitcoinNode, place: NewPlace
) -> None:
    paid = place()
    bitcoin.pay(paid.address, 5000)
    bitcoin.mine()
    view.after = view.tip()
    later = bitcoin.pay(paid.address, 6000)
    assert view.pays(paid) == [(later.txid, 0, 6000, 0)]


def test_a_replacement_takes_the_place_of_what_it_replaces(
    view: View, bitcoin: BitcoinNode, place: NewPlace
) -> None:
    paid, other = place(), place()
    sent = bitcoin.pay(paid.address, 5000)
    assert len(view.pays(paid, other)) == 1
    elsewhere = bitcoin.replace(sent, {other.address: 4000})
    assert view.pays(paid, other) == [(elsewhere.txid, 0, 4000, 0)]
    bitcoin.forget(elsewhere)
    assert view.pays(paid, other) == []


def test_a_reorganisation_puts_payments_back_or_takes_them_away(
    view: View, bitcoin: BitcoinNode, place: NewPlace
) -> None:
    paid, other = place(), place()
    stays = bitcoin.pay(paid.address, 5000)
    goes = bitcoin.pay(paid.address, 6000)
    rival = bitcoin.rival(goes, {other.address: 1})
    first = bitcoin.mine()
    assert {height for *_, height in view.pays(paid, other)} == {first.height}
    tip = bitcoin.reorg(1, [rival])
    assert view.hash_at(first.height) != first.hash
    assert view.pays(paid, other) == sorted([(stays.txid, 0, 5000, 0), (rival.txid, 0, 1, tip.height - 1)])
    mined = bitcoin.mine()
    assert (stays.txid, 0, 5000, mined.height) in view.pays(paid, other)


def test_where_the_look_begins_must_be_in_the_chain(
    view: View, bitcoin: BitcoinNode, place: NewPlace
) -> None:
    tip = bitcoin.mine()
    view.after = BlockRef(tip.height, tip.hash)
    bitcoin.reorg(1)
    with pytest.raises(SourceError):
        view.look(place())
    view.after = BlockRef(tip.height + 1000, tip.hash)
    with pytest.raises(SourceError):
        view.look(place())


def test_a_blocks_reward_is_told_apart(view: View, bitcoin: BitcoinNode, place: NewPlace) -> None:
    paid = place()
    tip = bitcoin.mine(to=paid.address)
    look = view.look(paid)
    # The reward, and the commitment to the witnesses that pays nobody.
    assert [(seen.coinbase, seen.block) for seen in look.seen] == [(True, BlockRef(tip.height, tip.hash))]


def test_many_payments_to_one_address(view: View, bitcoin: BitcoinNode, place: NewPlace) -> None:
    paid = place()
    mined = []
    for _ in range(3):
        mined += [bitcoin.pay(paid.address, 5000 + at).txid for at in range(9)]
        bitcoin.mine(9)
    waiting = [bitcoin.pay(paid.address, 6000 + at).txid for at in range(9)]
    found = view.look(paid, most_blocks=100)
    assert found.whole
    assert {seen.txid for seen in found.seen if seen.block is not None} == set(mined)
    assert {seen.txid for seen in found.seen if seen.block is None} == set(waiting)
    assert len(found.seen) == 36
