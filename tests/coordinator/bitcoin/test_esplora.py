"""What is particular to an Esplora server: its pages, chains that change between requests, answers that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from aitbc.coordinator.bitcoin import esplora
from aitbc.coordinator.bitcoin.source import BlockRef, SourceError
from tests.coordinator.bitcoin.conftest import Place, View
from tests.support.bitcoin import BitcoinNode
from tests.support.meddler import Answer, Asked

NewPlace = Callable[[], Place]
Forward = Callable[[], Answer]
pytestmark = pytest.mark.parametrize("kind", ["esplora"], indirect=True)


def changing(part: str, change: Callable[[Any], Any]) -> Callable[[Asked, Forward], Answer]:
    """A meddle: answers to paths that hold `part` are changed."""

    def meddle(asked: Asked, forward: Forward) -> Answer:
        answer = forward()
        if part in asked.path:
            assert isinstance(answer.parts, bytes)
            answer.parts = json.dumps(change(json.loads(answer.parts))).encode()
        return answer

    return meddle


def before(part: str, act: Callable[[], Any], time: int = 1) -> Callable[[Asked, Forward], Answer]:
    """A meddle: `act` happens just before the `time`-th request for such a path is answered."""
    met = 0

    def meddle(asked: Asked, forward: Forward) -> Answer:
        nonlocal met
        met += part in asked.path
        if met == time and part in asked.path:
            act()
        return forward()

    return meddle


def history(paid: Place, transactions: list[Any]) -> Callable[[Asked, Forward], Answer]:
    """A meddle: the address has these transactions, in the documented pages."""
    waiting = [one for one in transactions if not one["status"]["confirmed"]]
    mined = [one for one in transactions if one["status"]["confirmed"]]

    def meddle(asked: Asked, forward: Forward) -> Answer:
        if f"/address/{paid.address}/" not in asked.path:
            return forward()
        last = asked.path.rpartition("/")[2]
        if last == "txs":
            page = waiting[:50] + mined[:25]
        else:
            begin = next((at + 1 for at, one in enumerate(mined) if one["txid"] == last), 0)
            page = mined[begin : begin + 25]
        return Answer(200, json.dumps(page).encode())

    return meddle


def transaction(number: int, paid: Place, block: BlockRef | None) -> dict[str, Any]:
    status = (
        {"confirmed": True, "block_height": block.height, "block_hash": block.hash, "block_time": 1}
        if block
        else {"confirmed": False}
    )
    vin = [{"txid": "00" * 32, "vout": 0, "is_coinbase": False}]
    return {
        "txid": f"{number:064x}",
        "vin": vin,
        "vout": [{"scriptpubkey": paid.script.hex(), "value": number}],
        "status": status,
    }


def test_all_pages_of_an_address_are_read(view: View, bitcoin: BitcoinNode, place: NewPlace) -> None:
    paid = place()
    tip = bitcoin.mine()
    block = BlockRef(tip.height, tip.hash)
    for mined, waiting in ((0, 0), (25, 0), (26, 3), (131, 49)):
        view.meddler.meddle = history(
            paid,
            [transaction(1000 + at, paid, None) for at in range(waiting)]
            + [transaction(1 + at, paid, block) for at in range(mined)],
        )
        found = view.pays(paid)
        assert [sat for _, _, sat, height in found if height] == list(range(1, mined + 1))
        assert len(found) == mined + waiting


def test_an_address_with_more_waiting_than_a_server_shows_is_named(
    view: View, bitcoin: BitcoinNode, place: NewPlace
) -> None:
    """What is not among the 50 shown must not seem to be gone; what is in blocks is found all the same."""
    paid, other = place(), place()
    tip = bitcoin.mine()
    block = BlockRef(tip.height, tip.hash)
    mined = [transaction(1 + at, paid, block) for at in range(30)]
    view.meddler.meddle = history(paid, [transaction(1000 + at, paid, None) for at in range(50)] + mined)
    look = view.look(paid, other)
    assert (look.whole, look.crowded) == (True, {paid.script})
    assert look.upto == block
    assert {seen.sat for seen in look.seen if seen.block} == set(range(1, 31))


def test_pages_without_an_end_end_the_look(
    view: View, bitcoin: BitcoinNode, place: NewPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(esplora, "MAX_PAGES", 5)
    paid = place()
    tip = bitcoin.mine()
    page = [transaction(1, paid, BlockRef(tip.height, tip.hash))]
    view.meddler.meddle = changing("/address/", lambda _: page)
    with pytest.raises(SourceError, match="more transactions than one look can read"):
        view.look(paid)
    assert len([asked for asked in view.meddler.asked if "/address/" in asked.path]) == 6


def test_a_block_that_comes_between_two_addresses(
    view: View, bitcoin: BitcoinNode, place: NewPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(esplora, "AT_ONCE", 1)
    places = [place(), place()]
    for paid in places:
        bitcoin.pay(paid.address, 5000)
    tip = bitcoin.mine()
    for paid in places:
        bitcoin.pay(paid.address, 6000)
    view.meddler.meddle = before("/address/", bitcoin.mine, time=2)
    look = view.look(*places)
    assert not look.whole
    assert look.upto == BlockRef(tip.height, tip.hash)
    assert [seen.sat for seen in look.seen] == [5000, 5000]


def test_a_reorganisation_between_two_addresses_ends_the_look(
    view: View, bitcoin: BitcoinNode, place: NewPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(esplora, "AT_ONCE", 1)
    places = [place(), place()]
    for paid in places:
        bitcoin.pay(paid.address, 5000)
    bitcoin.mine(2)
    view.meddler.meddle = before("/address/", lambda: bitcoin.reorg(2), time=3)
    with pytest.raises(SourceError, match="changed"):
        view.look(*places)
    assert [seen.block for seen in view.look(*places).seen] == [None, None]


@pytest.mark.parametrize(
    "lie",
    [
        lambda page: [*page, page[0]],  # an output twice
        lambda page: [{**one, "status": {**one["status"], "block_hash": "ab" * 32}} for one in page],
        lambda page: [
            {**one, "status": {**one["status"], "block_height": one["status"]["block_height"] + at % 2}}
            for at, one in enumerate([page[0], {**page[0], "txid": "cd" * 32}])
        ],
        lambda page: [
            {
                **page[0],
                "txid": f"{at:064x}",
                "status": {**page[0]["status"], "block_hash": hashed},
            }
            for at, hashed in enumerate([page[0]["status"]["block_hash"], "ef" * 32])
        ],
    ],
)
def test_answers_that_do_not_fit_each_other(
    view: View, bitcoin: BitcoinNode, place: NewPlace, lie: Callable[[Any], Any]
) -> None:
    paid = place()
    bitcoin.pay(paid.address, 5000)
    bitcoin.mine(2)

    def meddle(asked: Asked, forward: Forward) -> Answer:
        if "/txs/chain/" in asked.path:
            return Answer(200, b"[]")
        return changing("/address/", lie)(asked, forward)

    view.meddler.meddle = meddle
    with pytest.raises(SourceError):
        view.look(paid)


@pytest.mark.parametrize("height", ["", "-1", "1.5", "1e3", "²", "9" * 20, "null", " ", "<html>"])
def test_a_tip_that_is_no_height(view: View, height: str) -> None:
    view.meddler.meddle = lambda asked, forward: Answer(200, height.encode())
    with pytest.raises(SourceError):
        view.tip()


def test_a_chain_that_is_not_bitcoins(view: View, place: NewPlace) -> None:
    view.meddler.meddle = lambda asked, forward: (
        Answer(200, b"ab" * 32) if asked.path == "/block-height/0" else forward()
    )
    with pytest.raises(SourceError, match="networks"):
        view.look(place())


def test_only_the_documented_paths_are_asked_for(view: View, bitcoin: BitcoinNode, place: NewPlace) -> None:
    paid = place()
    bitcoin.pay(paid.address, 5000)
    tip = bitcoin.mine()
    view.meddler.asked.clear()
    assert len(view.pays(paid)) == 1
    paths = {asked.path for asked in view.meddler.asked}
    (txid,) = {seen.txid for seen in view.look(paid).seen}
    assert paths == {
        "/blocks/tip/height",
        "/block-height/0",
        f"/block-height/{view.after.height}",
        f"/block-height/{tip.height}",
        f"/address/{paid.address}/txs",
        f"/address/{paid.address}/txs/chain/{txid}",
    }
