"""The explorer: what is sealed shows as it was sealed, pages reach everything once, and nothing is private."""

from collections.abc import Callable
from typing import Any

import pytest

from aitbc.coordinator.api.chain.explorer import router
from aitbc.coordinator.chain import witnessing
from aitbc.coordinator.process.loops import counting, sealing
from aitbc.core import receipt as receipt_document
from aitbc.core.clock import ManualClock
from aitbc.core.ids import new_id
from tests.coordinator.api.conftest import sqlite_only
from tests.coordinator.api.support import Headers, Market, expect_error

PROMPT, RESULT = "mark-of-a-prompt", "mark-of-a-result"
LABEL, ENDPOINT, MAIL = "mark-of-a-label", "http://mark-of-an-endpoint", "mark@example.org"
SECRETS = (PROMPT, RESULT, LABEL, "mark-of-an-endpoint", MAIL, "aitbc_client", "aitbc_miner", "devnet grant")


def finish(api: Market, client: Headers, miner: Headers, **job: Any) -> str:
    job_id = api.job(client, **job)
    api.claim(miner, job_id)
    assert api.complete(miner, job_id, result=RESULT).status_code == 200
    return job_id


def seal(api: Market) -> None:
    while api.run(sealing.seal_once(api.runtime)):
        pass
    while api.run(counting.run_once(api.runtime)):
        pass


@pytest.fixture
def market(api: Market) -> Market:
    """Three finished jobs, sealed in two blocks, and one that is pending."""
    client = api.key("client", "alice", label=LABEL)
    miner = api.key("miner", "bob", label=LABEL)
    api.miner(miner, endpoint=ENDPOINT, address=MAIL)
    finish(api, client, miner, prompt=PROMPT)
    seal(api)
    for _ in range(2):
        finish(api, client, miner, prompt=PROMPT)
    seal(api)
    api.job(client, prompt=PROMPT)
    return api


def walk(api: Market, path: str, limit: int = 2, **params: Any) -> list[Any]:
    """Every item of a list, page by page along the cursor."""
    items: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        answer = api.get(path, params={**params, "limit": limit, **cursor})
        assert answer.status_code == 200, answer.text
        items += answer.json()
        if "x-next-cursor" not in answer.headers:
            return items
        cursor = {"cursor": answer.headers["x-next-cursor"]}


def test_blocks_transactions_addresses_and_numbers_agree(market: Market) -> None:
    blocks = walk(market, "/v1/explorer/blocks")
    assert [block["height"] for block in blocks] == [2, 1, 0]
    assert [block["previous_hash"] for block in blocks[:2]] == [block["hash"] for block in blocks[1:]]
    transactions = walk(market, "/v1/explorer/transactions")
    assert transactions == market.get("/explorer/transactions?limit=100").json()
    # Two grants, three holds, posts and fees; and the hold of the pending job, which is not sealed yet.
    assert [one["block_height"] for one in transactions] == [None] + [2] * 6 + [1] * 5
    for block in blocks:
        of_block = walk(market, "/v1/explorer/transactions", block=block["height"])
        assert of_block == [one for one in transactions if one["block_height"] == block["height"]]
        assert len(of_block) == block["transactions"]
    sealed = transactions[1:]
    addresses = {one["address"]: one for one in walk(market, "/v1/explorer/addresses")}
    for name, shown in addresses.items():
        of_address = walk(market, "/v1/explorer/transactions", address=name)
        assert {one["id"] for one in of_address} == {
            one["id"] for one in transactions if name in (one["from"], one["to"])
        }
        assert shown["transactions"] == sum(name in (one["from"], one["to"]) for one in sealed)
        assert market.get(f"/v1/explorer/addresses/{name}").json() == shown
        moved = [one for one in transactions if one["type"] not in ("hold", "void")]
        assert shown["balance"] == pytest.approx(
            sum(one["amount"] for one in moved if one["to"] == name)
            - sum(one["amount"] for one in moved if one["from"] == name)
        )
    assert {"alice", "bob", "system:mint", "system:treasury"} <= addresses.keys()
    stats = market.get("/explorer/stats").json()
    assert stats == market.get("/v1/explorer/stats").json()
    assert stats["block_height"] == 2
    assert stats["total_jobs"] == 4
    assert stats["active_miners"] == 1
    assert stats["accounts"] == 2
    assert stats["total_transactions"] == len(sealed)
    assert stats["total_receipts"] == 3 == sum(block["receipts"] for block in blocks)
    assert stats["tree_size"] == blocks[0]["tree_size"] == sum(block["leaves"] for block in blocks)


def test_pages_by_cursor_and_by_offset_are_parts_of_the_same_list(market: Market) -> None:
    for path, params in (
        ("/explorer/blocks", {}),
        ("/explorer/transactions", {}),
        ("/v1/explorer/transactions", {"address": "alice"}),
        ("/v1/explorer/transactions", {"block": "2"}),
        ("/v1/explorer/addresses", {}),
        ("/explorer/receipts", {}),
        ("/explorer/receipts", {"client": "alice"}),
    ):
        whole = market.get(path, params={**params, "limit": 100}).json()
        assert len(whole) > 2
        assert walk(market, path, **params) == whole
        assert market.get(path, params={**params, "limit": 2, "offset": 1}).json() == whole[1:3]


def test_one_of_each_by_every_name_that_it_has(market: Market, clock: ManualClock) -> None:
    block = market.get("/explorer/blocks?limit=1").json()[0]
    by_height = market.get(f"/v1/explorer/blocks/{block['height']}").json()
    assert by_height == market.get(f"/v1/explorer/blocks/{block['hash']}").json()
    assert by_height["checkpoint"].startswith("aitbc/ait-devnet/")
    assert block.items() <= by_height.items()
    pending, newest = market.get("/explorer/transactions?limit=2").json()
    by_id = market.get(f"/v1/explorer/transactions/{newest['id']}").json()
    assert by_id == market.get(f"/v1/explorer/transactions/{newest['hash']}").json()
    assert newest.items() <= by_id.items()
    assert by_id["proof"].startswith("c2sp.org/tlog-proof@v1")
    assert market.get(f"/v1/explorer/transactions/{pending['id']}").json()["proof"] is None
    receipt = market.get("/explorer/receipts?limit=1").json()[0]
    one_receipt = market.get(f"/v1/explorer/receipts/{receipt['id']}").json()
    assert receipt_document.parse(one_receipt) is not None
    assert one_receipt == {**receipt, "proof": one_receipt["proof"]}
    assert market.get(f"/v1/explorer/receipts?job_id={receipt['job_id']}").json() == [receipt]

    def found(text: str) -> set[tuple[str, str]]:
        answer = market.get("/v1/explorer/search", params={"q": text})
        assert answer.status_code == 200, answer.text
        for match in answer.json():
            assert market.get(match["path"]).status_code == 200, match
        return {(match["type"], match["id"]) for match in answer.json()}

    assert found("2") == {("block", "2")}
    assert ("block", "2") in found(block["hash"][:8].upper())
    assert ("transaction", newest["id"]) in found(newest["hash"][:9])
    assert found("alice") == {("address", "alice")}
    assert found("system:mint") == {("address", "system:mint")}
    assert found(receipt["id"]) == {("receipt", receipt["id"])}
    of_job = found(receipt["job_id"])
    assert ("receipt", receipt["id"]) in of_job
    assert len(of_job) == 4
    assert found(pending["job_id"]) == {("transaction", pending["id"])}
    for nothing in ("3", "deadbee", "f" * 64, new_id(clock.now_ms()), "nobody", "%", "'"):
        assert found(nothing) == set()


def test_nothing_private_is_in_any_public_answer(market: Market) -> None:
    """Every public operation, of the explorer and of all else, with everything that the lists name."""
    transactions = market.get("/explorer/transactions?limit=100").json()
    receipts = market.get("/explorer/receipts").json()
    values = {
        "block": ["0", "2"],
        "transaction": [one["id"] for one in transactions],
        "address": ["alice", "bob", "system:mint"],
        "receipt_id": [one["id"] for one in receipts],
        "path": ["0/000.p/14", "entries/000.p/14"],
        "miner_id": ["m1"],
    }
    queries = {"/log/consistency": "?old=1&new=10", "/v1/explorer/search": f"?q={receipts[0]['job_id']}"}
    seen = b""
    answered = 0
    from aitbc.coordinator.api.app import ROUTERS

    for route in (route for one in ROUTERS for route in one.routes):
        if route.binding.auth is not None or "GET" not in route.methods:
            continue
        names = route.binding.path
        if names and names[0] not in values:
            continue
        for value in values[names[0]] if names else [""]:
            path = route.path.replace(":path", "")
            path = path.replace(f"{{{names[0]}}}", value) if names else path
            answer = market.get(path + queries.get(route.path, ""))
            assert answer.status_code < 500, path
            answered += answer.status_code == 200
            seen += answer.content + repr(sorted(answer.headers.items())).encode()
    assert answered > 40
    assert b"alice" in seen
    seen += market.get("/openapi.json").content
    found = [text for text in SECRETS if text.encode() in seen]
    # The log's entries are what was signed: a grant says there that it is one, and of nobody else.
    assert found == ["devnet grant"]
    assert "devnet grant" not in market.get("/explorer/transactions?limit=100").text


@sqlite_only
def test_final_blocks_are_those_that_enough_witnesses_cosigned(start_api: Callable[..., Market]) -> None:
    api = start_api(witness_quorum=2)
    miner = api.key("miner", "bob")
    api.miner(miner)
    for _ in range(3):
        finish(api, api.key("client"), miner)
        seal(api)
    for height, witness in ((1, "a"), (2, "a"), (2, "b"), (3, "a")):
        api.write(witnessing.record, height, witness, "line\n")
    shown = [(one["height"], one["final"], one["cosignatures"]) for one in walk(api, "/explorer/blocks")]
    assert shown == [(3, False, 1), (2, True, 2), (1, True, 1), (0, True, 0)]
    assert api.get("/explorer/stats").json()["final_height"] == 2


@sqlite_only
def test_what_is_not_there_and_what_is_not_asked_well(api: Market) -> None:
    assert api.get("/explorer/blocks").json()[0]["height"] == 0
    assert api.get("/explorer/stats").json()["total_jobs"] == 0
    for name in ("1", "x", "0" * 64, str(10**30), "01"):
        expect_error(api.get(f"/v1/explorer/blocks/{name}"), 404, "BLOCK_NOT_FOUND")
    for name in ("x", "0" * 64, new_id(0)):
        expect_error(api.get(f"/v1/explorer/transactions/{name}"), 404, "TRANSACTION_NOT_FOUND")
    expect_error(api.get("/v1/explorer/transactions?block=9"), 404, "BLOCK_NOT_FOUND")
    expect_error(api.get(f"/v1/explorer/addresses/0x{'aB' * 20}"), 404, "ACCOUNT_NOT_FOUND")
    expect_error(api.get("/v1/explorer/addresses/nobody"), 404, "ACCOUNT_NOT_FOUND")
    expect_error(api.get("/v1/explorer/receipts/x"), 404, "RECEIPT_NOT_FOUND")
    for query in (
        "blocks?limit=101",
        "blocks?limit=0",
        "blocks?offset=10001",
        "blocks?cursor=x",
        "transactions?cursor=-1",
        f"transactions?cursor={10**19}",
        "transactions?block=1&address=alice",
        "addresses?cursor=a.b",
        "receipts?client=alice&provider=bob",
        "search",
        "search?q=",
    ):
        expect_error(api.get(f"/v1/explorer/{query}"), 400, "INVALID_REQUEST")
    assert api.get("/explorer/transactions?cursor=0").json() == []
    assert all(route.binding.auth is None for route in router.routes)
