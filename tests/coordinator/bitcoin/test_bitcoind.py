"""What is particular to a node: chains that change while they are read, lies, the mempool's memory, credentials."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

import pytest

from aitbc.coordinator.bitcoin import bitcoind
from aitbc.coordinator.bitcoin.bitcoind import Bitcoind
from aitbc.coordinator.bitcoin.mempool import Mempool
from aitbc.coordinator.bitcoin.opening import open_source
from aitbc.coordinator.bitcoin.source import BlockRef, SourceError
from aitbc.coordinator.config import Settings
from tests.coordinator.bitcoin.conftest import Place, Run, View
from tests.support.bitcoin import BitcoinNode
from tests.support.meddler import Answer, Asked

NewPlace = Callable[[], Place]
Forward = Callable[[], Answer]
pytestmark = pytest.mark.parametrize("kind", ["bitcoind"], indirect=True)


def method_of(asked: Asked) -> str:
    """'batch': several at once."""
    request = json.loads(asked.body)
    return str(request["method"]) if isinstance(request, dict) else "batch"


def methods(view: View) -> list[str]:
    return [method_of(asked) for asked in view.meddler.asked]


def before(method: str, act: Callable[[], Any], time: int = 1) -> Callable[[Asked, Forward], Answer]:
    """A meddle: `act` happens just before the `time`-th such request is answered."""
    met = 0

    def meddle(asked: Asked, forward: Forward) -> Answer:
        nonlocal met
        met += method_of(asked) == method
        if met == time and method_of(asked) == method:
            act()
        return forward()

    return meddle


def changing(method: str, change: Callable[[Any], Any]) -> Callable[[Asked, Forward], Answer]:
    """A meddle: the answer to such requests is changed."""

    def meddle(asked: Asked, forward: Forward) -> Answer:
        answer = forward()
        if method_of(asked) == method:
            assert isinstance(answer.parts, bytes)
            answer.parts = json.dumps(change(json.loads(answer.parts))).encode()
        return answer

    return meddle


def test_a_long_way_is_walked_in_steps(view: View, bitcoin: BitcoinNode, place: NewPlace) -> None:
    paid = place()
    first = bitcoin.pay(paid.address, 1000)
    bitcoin.mine(7)
    last = bitcoin.pay(paid.address, 2000)
    tip = bitcoin.mine()
    waiting = bitcoin.pay(paid.address, 3000)
    begin, found, steps = view.after.height, [], []
    while True:
        look = view.look(paid, most_blocks=3)
        steps.append([block.height - begin for block in look.blocks])
        found += [seen.txid for seen in look.seen]
        view.after = look.upto
        if look.whole:
            break
    assert steps == [[1, 2, 3], [4, 5, 6], [7, 8]]
    assert found == [first.txid, last.txid, waiting.txid]
    assert look.upto == BlockRef(tip.height, tip.hash)


def test_a_chain_that_is_reorganised_while_it_is_walked_is_read_again(
    view: View, bitcoin: BitcoinNode, place: NewPlace
) -> None:
    paid, other = place(), place()
    goes = bitcoin.pay(paid.address, 5000)
    rival = bitcoin.rival(goes, {other.address: 1})
    bitcoin.mine(3)
    view.meddler.meddle = before("getblock", lambda: bitcoin.reorg(3, [rival]), time=2)
    look = view.look(paid, other)
    assert look.whole
    assert [(seen.txid, seen.sat) for seen in look.seen] == [(rival.txid, 1)]
    assert [view.hash_at(block.height) for block in look.blocks] == [block.hash for block in look.blocks]


def test_a_chain_that_changes_each_time_that_it_is_read_ends_the_look(
    view: View, bitcoin: BitcoinNode, place: NewPlace
) -> None:
    bitcoin.mine(2)
    depths = iter([0, 2, 0, 3, 0, 4])  # all above where the look begins, before each second block

    def meddle(asked: Asked, forward: Forward) -> Answer:
        depth = next(depths) if method_of(asked) == "getblockhash" else 0
        if depth:
            bitcoin.reorg(depth)
        return forward()

    view.meddler.meddle = meddle
    with pytest.raises(SourceError, match="not one chain"):
        view.look(place())
    assert list(depths) == []


def test_a_block_that_comes_while_the_mempool_is_read_makes_the_look_less_than_whole(
    view: View, bitcoin: BitcoinNode, place: NewPlace
) -> None:
    """What waited may be in that block: it must not seem to be gone."""
    paid = place()
    sent = bitcoin.pay(paid.address, 5000)
    view.meddler.meddle = before("getrawmempool", bitcoin.mine)
    look = view.look(paid)
    assert (look.whole, look.upto, look.seen) == (False, view.after, ())
    assert [txid for txid, *_ in view.pays(paid)] == [sent.txid]


def test_the_mempool_is_asked_for_each_transaction_once(
    view: View, bitcoin: BitcoinNode, place: NewPlace
) -> None:
    first, second = place(), place()
    one = bitcoin.pay_all([(first.address, 1000), (second.address, 2000)])
    assert view.pays(first) == [(one.txid, 0, 1000, 0)]
    view.meddler.asked.clear()
    # Another script is found in what is already known.
    assert view.pays(second) == [(one.txid, 1, 2000, 0)]
    assert view.pays(first, second) == [(one.txid, 0, 1000, 0), (one.txid, 1, 2000, 0)]
    assert "batch" not in methods(view)
    bitcoin.pay(first.address, 3000)
    assert len(view.pays(first, second)) == 3
    (asked,) = [json.loads(asked.body) for asked in view.meddler.asked if method_of(asked) == "batch"]
    assert len(asked) == 1


def test_a_large_mempool_is_got_to_know_in_several_looks(
    view: View, bitcoin: BitcoinNode, place: NewPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bitcoind, "MOST_NEW", 4)
    monkeypatch.setattr(bitcoind, "BATCH", 3)
    paid = place()
    bitcoin.mine()
    view.after = view.tip()
    sent = {bitcoin.pay(paid.address, 1000 + at).txid for at in range(9)}
    looks = [view.look(paid) for _ in range(3)]
    assert [look.whole for look in looks] == [False, False, True]
    assert {look.upto for look in looks} == {view.after}
    assert {seen.txid for seen in looks[-1].seen} == sent


def test_a_transaction_that_leaves_the_mempool_before_it_is_asked_for(
    view: View, bitcoin: BitcoinNode, place: NewPlace
) -> None:
    paid = place()
    goes, stays = bitcoin.pay(paid.address, 1000), bitcoin.pay(paid.address, 2000)
    view.meddler.meddle = before("batch", lambda: bitcoin.forget(goes))
    assert view.pays(paid) == [(stays.txid, 0, 2000, 0)]


def test_a_block_must_be_the_one_that_was_asked_for(
    view: View, bitcoin: BitcoinNode, place: NewPlace
) -> None:
    paid = place()
    bitcoin.pay(paid.address, 0x1234)
    bitcoin.mine()
    honest = view.pays(paid)
    raws: list[str] = []
    view.meddler.meddle = changing("getblock", lambda answer: raws.append(answer["result"]) or answer)
    assert view.pays(paid) == honest
    (raw,) = raws
    amount = (0x1234).to_bytes(8, "little").hex()
    assert raw.count(amount) == 1
    lies = [
        raw.replace(amount, (0x123456).to_bytes(8, "little").hex()),
        raw.replace(paid.script.hex(), place().script.hex()),
        raw[:-2],
        raw + "00",
        raw[:-1],
        "g" + raw[1:],
        raw[:8] + "00" * 32 + raw[72:],  # it follows another block, and so is another one
    ]
    for lie in lies:
        view.meddler.meddle = changing("getblock", lambda answer, lie=lie: {**answer, "result": lie})
        with pytest.raises(SourceError):
            view.look(paid)
    older = view.hash_at(view.after.height - 1)
    view.meddler.meddle = changing("getblockhash", lambda answer: {**answer, "result": older})
    with pytest.raises(SourceError):
        view.look(paid)


def test_a_transaction_must_be_the_one_that_was_asked_for(
    view: View, bitcoin: BitcoinNode, place: NewPlace
) -> None:
    paid = place()
    sent = bitcoin.pay(paid.address, 0x1234)
    lie = sent.raw.replace((0x1234).to_bytes(8, "little").hex(), (0x123456).to_bytes(8, "little").hex())
    for change in (
        lambda answers: [{**one, "result": lie} for one in answers],
        lambda answers: [{**one, "result": sent.raw[:-2]} for one in answers],
        lambda answers: [{**one, "result": None} for one in answers],
        lambda answers: [{**one, "id": one["id"] + 1000} for one in answers],
        lambda answers: [{**one, "id": str(one["id"])} for one in answers],
        lambda answers: [{**one, "error": {"code": -32601, "message": "no"}} for one in answers],
        lambda answers: answers[:-1],
        lambda answers: [*answers, answers[0]],
        lambda answers: {str(one["id"]): one for one in answers},
        lambda answers: [one["result"] for one in answers],
    ):
        view.meddler.meddle = changing("batch", change)
        with pytest.raises(SourceError):
            view.look(paid)
    view.meddler.meddle = lambda asked, forward: forward()
    assert view.pays(paid) == [(sent.txid, 0, 0x1234, 0)]


def test_a_reward_that_is_said_to_wait_is_in_its_block(
    view: View, bitcoin: BitcoinNode, place: NewPlace
) -> None:
    """A node that lists a mined transaction in its mempool, too."""
    paid = place()
    sent = bitcoin.pay(paid.address, 5000)
    tip = bitcoin.mine()
    view.meddler.meddle = changing("getrawmempool", lambda answer: {**answer, "result": [sent.txid]})
    assert view.pays(paid) == [(sent.txid, 0, 5000, tip.height)]


@pytest.mark.usefixtures("kind")
def test_credentials_are_of_the_url_or_of_the_cookie_file(
    bitcoin: BitcoinNode, run: Run[Any], tmp_path: Path
) -> None:
    plain = f"http://127.0.0.1:{bitcoin.rpc_port}"
    cookie = tmp_path / ".cookie"
    source = Bitcoind(plain, 10, cookie)
    with pytest.raises(SourceError, match="cookie file cannot be read"):
        run(source.tip())
    cookie.write_text("__cookie__:of the former start\n")
    with pytest.raises(SourceError, match="credentials"):
        run(source.tip())
    cookie.write_text(f"__cookie__:{bitcoin.password}\n")
    tip = run(source.tip())
    for url, good in (
        (plain, False),
        (f"http://test:wrong@127.0.0.1:{bitcoin.rpc_port}", False),
        (
            f"http://test:%{ord(bitcoin.password[0]):x}{bitcoin.password[1:]}@127.0.0.1:{bitcoin.rpc_port}",
            True,
        ),
    ):
        asked = Bitcoind(url, 10)
        if good:
            assert run(asked.tip()) == tip
        else:
            with pytest.raises(SourceError, match="credentials"):
                run(asked.tip())
        run(asked.close())
    opened = open_source(Settings(bitcoin_rpc_url=plain, bitcoin_rpc_cookie_file=str(cookie)))
    assert opened is not None
    assert run(opened.tip()) == tip
    run(opened.close())
    run(source.close())


def test_a_look_that_is_given_up_leaves_nothing_half_known(
    view: View, bitcoin: BitcoinNode, place: NewPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends while a thread still looks through the mempool for an address; the next look knows all the same."""
    first, second = place(), place()
    sent = bitcoin.pay_all([(first.address, 1000), (second.address, 2000)])
    assert len(view.pays(first)) == 1
    began, go_on = threading.Event(), threading.Event()
    look_through = Mempool._look

    def slowly(self: Mempool, txid: str, scripts: Set[bytes]) -> None:
        began.set()
        go_on.wait(10)
        look_through(self, txid, scripts)

    monkeypatch.setattr(Mempool, "_look", slowly)

    async def give_up() -> None:
        look = asyncio.create_task(view.source.look({second.script}, view.after, 20))
        await asyncio.to_thread(began.wait, 10)
        look.cancel()
        with pytest.raises(asyncio.CancelledError):
            await look
        monkeypatch.undo()
        again = await view.source.look({second.script}, view.after, 20)
        assert [(seen.txid, seen.sat) for seen in again.seen] == [(sent.txid, 2000)]
        assert not go_on.is_set()
        go_on.set()

    view.run(give_up())
