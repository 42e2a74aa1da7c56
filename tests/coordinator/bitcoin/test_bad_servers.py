"""Servers that are down, slow, flooding, or answer nonsense: each look ends with the named error, within its time."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aitbc.coordinator.bitcoin.bitcoind import Bitcoind
from aitbc.coordinator.bitcoin.esplora import Esplora
from aitbc.coordinator.bitcoin.source import BlockRef, Source, SourceError
from tests.coordinator.bitcoin.conftest import Place, Run, View
from tests.support.bitcoin import BitcoinNode
from tests.support.meddler import Answer, Asked, Meddle, meddling
from tests.support.server import free_port

NewPlace = Callable[[], Place]
SECRET = "sesame-and-more"
GENESIS = BlockRef(0, "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206")
SCRIPT = b"\x00\x14" + b"\x07" * 20
SHORT_S = 0.4


def open_source(kind: str, url: str, timeout_s: float) -> Source:
    if kind == "bitcoind":
        return Bitcoind(url.replace("//", f"//test:{SECRET}@"), timeout_s)
    return Esplora(url, timeout_s)


def ways(source: Source) -> list[Awaitable[Any]]:
    return [source.tip(), source.hash_at(5), source.look({SCRIPT}, GENESIS, 20)]


async def ends_with_the_error(kind: str, url: str, timeout_s: float = SHORT_S) -> list[str]:
    """What each way to ask says. None takes longer than its requests may."""
    source = open_source(kind, url, timeout_s)
    said = []
    for way in ways(source):
        began = time.monotonic()
        with pytest.raises(SourceError) as caught:
            await way
        assert time.monotonic() - began < timeout_s + 5
        said.append(str(caught.value))
        assert SECRET not in said[-1]
        assert url not in said[-1]
    await source.close()
    return said


def test_a_server_that_is_down(kind: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    said = asyncio.run(ends_with_the_error(kind, url))
    assert said == ["it cannot be asked: ConnectError"] * 3


def test_a_server_without_a_name_that_can_be_found(kind: str) -> None:
    asyncio.run(ends_with_the_error(kind, "http://no-such-host.invalid"))


def answers(answer: Callable[[Any], Answer]) -> Callable[[Any], Meddle]:
    """To whatever is asked."""
    return lambda meddler: lambda asked, forward: answer(meddler)


BAD_ANSWERS = {
    "silent": answers(lambda meddler: meddler.ended.wait(30) and Answer()),
    "dripping": answers(lambda meddler: Answer(200, meddler.dripping())),
    "flooding": answers(lambda meddler: Answer(200, meddler.flooding())),
    "packed": answers(lambda meddler: Answer(200, b"\x1f\x8b", {"Content-Encoding": "gzip"})),
    "empty": answers(lambda meddler: Answer(200)),
    "shorter than it says": answers(lambda meddler: Answer(200, b"1", {"Content-Length": "100"})),
    "a page": answers(lambda meddler: Answer(200, b"<html>Please log in</html>")),
    "no text": answers(lambda meddler: Answer(200, bytes(range(256)))),
    "deep": answers(lambda meddler: Answer(200, b"[" * 100_000)),
    "not a number": answers(lambda meddler: Answer(200, b"NaN")),
    "a number of ten thousand digits": answers(lambda meddler: Answer(200, b"1" * 10_000)),
    "null": answers(lambda meddler: Answer(200, b"null")),
    "a list": answers(lambda meddler: Answer(200, b"[]")),
    "an object": answers(lambda meddler: Answer(200, b"{}")),
    "moved": answers(lambda meddler: Answer(302, b"", {"Location": meddler.url})),
    "refused": answers(lambda meddler: Answer(401)),
    "forbidden": answers(lambda meddler: Answer(403)),
    "too often": answers(lambda meddler: Answer(429)),
    "busy": answers(lambda meddler: Answer(503, b"Work queue depth exceeded")),
    "broken": answers(lambda meddler: Answer(500, b"\x00\x1b[31mred")),
}


@pytest.mark.parametrize("bad", BAD_ANSWERS)
def test_a_server_that_answers_badly(kind: str, bad: str) -> None:
    with meddling("http://127.0.0.1:9") as meddler:
        meddler.meddle = BAD_ANSWERS[bad](meddler)
        for said in asyncio.run(ends_with_the_error(kind, meddler.url)):
            assert said.isprintable()
            assert len(said) < 250


RESULTS: list[Any] = [
    None, True, -1, 2**31, 1e3, "", "00", "zz" * 32, "AB" * 32, [], [1], ["zz"], {}, [None],
    {"blocks": 5}, {"blocks": "5", "bestblockhash": "00" * 32}, {"blocks": -1, "bestblockhash": "00" * 32},
    {"blocks": True, "bestblockhash": "00" * 32}, {"blocks": 1e1, "bestblockhash": "00" * 32},
    {"blocks": 5, "bestblockhash": "0" * 63}, {"blocks": 5, "bestblockhash": ["00" * 32]},
]  # fmt: skip


@pytest.mark.parametrize("method", ["getblockchaininfo", "getblockhash", "getblock", "getrawmempool"])
def test_a_node_whose_results_have_another_shape(bitcoin: BitcoinNode, run: Run[Any], method: str) -> None:
    """One method at a time; the others answer as they should."""
    tip = bitcoin.mine()
    after = BlockRef(tip.height, tip.hash)
    bitcoin.mine()
    with meddling(f"http://127.0.0.1:{bitcoin.rpc_port}") as meddler:
        source = Bitcoind(meddler.url.replace("//", f"//test:{bitcoin.password}@"), 10)
        for result in RESULTS:
            if method == "getrawmempool" and result == []:
                continue  # that is an empty one
            lie = json.dumps({"result": result, "error": None, "id": 1}).encode()
            meddler.meddle = lambda asked, forward, lie=lie: (
                Answer(200, lie) if f'"{method}"'.encode() in asked.body else forward()
            )
            with pytest.raises(SourceError):
                run(source.look({SCRIPT}, after, 20))
        meddler.meddle = lambda asked, forward: forward()
        assert run(source.look({SCRIPT}, after, 20)).whole
        run(source.close())


@pytest.mark.parametrize(
    "error", [1, "no", [], {}, {"code": "x"}, {"code": True}, {"code": -28, "message": {}}]
)
def test_a_node_whose_errors_have_another_shape(run: Run[Any], error: Any) -> None:
    with meddling("http://127.0.0.1:9") as meddler:
        body = json.dumps({"result": None, "error": error, "id": 1}).encode()
        meddler.meddle = lambda asked, forward: Answer(500, body)
        asyncio.run(ends_with_the_error("bitcoind", meddler.url, 10))


@pytest.mark.parametrize("kind", ["esplora"], indirect=True)
@pytest.mark.parametrize(
    ("of", "wrong"),
    [
        ("status", None), ("status", []), ("status", {}), ("status", {"confirmed": 1}),
        ("status", {"confirmed": True}),
        ("status", {"confirmed": True, "block_height": 5.0, "block_hash": "00" * 32}),
        ("status", {"confirmed": True, "block_height": "5", "block_hash": "00" * 32}),
        ("status", {"confirmed": True, "block_height": -1, "block_hash": "00" * 32}),
        ("status", {"confirmed": True, "block_height": 2**40, "block_hash": "00" * 32}),
        ("txid", None), ("txid", 5), ("txid", "../" * 21 + "x"), ("txid", "ZZ" * 32), ("txid", "00"),
        ("vout", None), ("vout", {}), ("vout", [1]), ("vout", [{}]),
        ("value", None), ("value", "5"), ("value", 0.00005), ("value", 5e3), ("value", True), ("value", -1),
        ("value", 21_000_000 * 10**8 + 1), ("value", 10**30),
        ("vin", None), ("vin", [1]),
    ],
)  # fmt: skip
def test_an_esplora_server_whose_transactions_have_another_shape(
    view: View, bitcoin: BitcoinNode, place: NewPlace, of: str, wrong: Any
) -> None:
    paid = place()
    bitcoin.pay(paid.address, 5000)
    bitcoin.mine()

    def lie(asked: Asked, forward: Callable[[], Answer]) -> Answer:
        answer = forward()
        if "/address/" in asked.path:
            assert isinstance(answer.parts, bytes)
            page = json.loads(answer.parts)
            for one in page:
                if of == "value":
                    one["vout"][0]["value"] = wrong
                else:
                    one[of] = wrong
            answer.parts = json.dumps(page).encode()
        return answer

    view.meddler.meddle = lie
    with pytest.raises(SourceError):
        view.look(paid)
    view.meddler.meddle = lambda asked, forward: forward()
    assert [seen.sat for seen in view.look(paid).seen] == [5000]
