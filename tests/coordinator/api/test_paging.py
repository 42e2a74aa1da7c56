"""Lists that are paged while what they list goes on: nothing that stood there at the first page is left out."""

from collections.abc import Callable
from typing import Any

from aitbc.coordinator.database import Tx
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.process.loops import counting, sealing
from aitbc.core.clock import ManualClock
from aitbc.core.transfer_ids import MINTED, REASON, new_transfer_id
from tests.coordinator.api.support import Headers, Market
from tests.support.transfers import booking_of, id_of, outpoint_of, signed_of


def paged(
    api: Market, path: str, who: Headers | None, meanwhile: Callable[[int], object], name: str, **params: Any
) -> list[str]:
    """The names of all items, page by page along the cursor; `meanwhile(n)` happens after page n."""
    found: list[str] = []
    cursor: dict[str, str] = {}
    for number in range(100):
        answer = api.get(path, who, params={**params, "limit": 3, **cursor})
        assert answer.status_code == 200, answer.text
        found += [item[name] for item in answer.json()]
        if "x-next-cursor" not in answer.headers:
            return found
        cursor = {"cursor": answer.headers["x-next-cursor"]}
        meanwhile(number)
    raise AssertionError("the pages have no end")


def test_jobs_of_a_state_that_they_leave(api: Market, clock: ManualClock) -> None:
    client = api.key("client")
    ids = []
    for _ in range(11):
        clock.advance(0.01)
        ids.append(api.job(client))

    def meanwhile(number: int) -> None:
        clock.advance(0.01)
        api.post(f"/v1/jobs/{ids[-1 - number]}/cancel", client)  # one that was shown
        api.job(client)  # one that is newer than all that were

    found = paged(api, "/v1/jobs", client, meanwhile, "job_id", status="pending")
    assert found == ids[::-1]


def test_receipts_and_transfers_while_jobs_complete(api: Market, clock: ManualClock) -> None:
    client, miner = api.key("client", "alice"), api.key("miner", "mill")
    api.miner(miner)

    def answered(_number: int = 0) -> str:
        clock.advance(0.01)
        job_id = api.job(client)
        api.claim(miner, job_id)
        receipt: str = api.complete(miner, job_id).json()["receipt_id"]
        return receipt

    ids = [answered() for _ in range(7)]
    assert paged(api, "/v1/receipts", None, answered, "id", client="alice") == ids[::-1]
    whole = [one["id"] for one in api.get("/explorer/transactions", params={"limit": 100}).json()]
    assert paged(api, "/explorer/transactions", None, answered, "id") == whole


def test_transfers_of_one_moment_whatever_their_ids_look_like(api: Market) -> None:
    """In the order of the log, at every cursor: named ids stand before and behind UUIDs as text."""
    client = api.key("client", "alice")

    def mint(tx: Tx) -> list[str]:
        longest = (outpoint_of("x", 2**32 - 1), MINTED.of("m" * 64))
        ids = [outpoint_of("w"), new_transfer_id(tx.now_ms), *longest, id_of("y"), MINTED.of("0")]
        for one in ids:
            ledger.mint(tx, one, "alice", 1, REASON.of("to page through"))
        ledger.transfer(tx, booking_of("z"), "alice", "alice", 1, ref=signed_of())
        return [*ids, booking_of("z")]

    ids = api.write(mint)

    def nothing(_number: int) -> None:
        pass

    of_alice = ["grant:alice", *ids]
    for path, params in (("/explorer/transactions", {}), ("/explorer/transactions", {"address": "alice"})):
        assert paged(api, path, None, nothing, "id", **params) == of_alice[::-1]
    rows: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = api.get("/v1/statements", client, params={"limit": 1, "cursor": cursor}).json()
        rows += [row["transfer_id"] for row in page["rows"]]
        cursor = page["next_cursor"]
    assert rows == [*of_alice, ids[-1]], "on both sides of the last"


def test_miners_while_they_are_heard_of(api: Market, clock: ManualClock) -> None:
    miner = api.key("miner")
    ids = [f"m{number}" for number in range(8)]
    for one in ids:
        clock.advance(1)
        api.miner(miner, one)

    def meanwhile(number: int) -> None:
        clock.advance(1)
        body = {"miner_id": ids[(5 + number) % 8], "status": "active"}
        answer = api.post("/v1/miner/heartbeat", miner, json=body)
        assert answer.status_code == 200, answer.text

    assert paged(api, "/v1/miners", None, meanwhile, "miner_id") == ids


def test_addresses_while_they_become_active(api: Market, clock: ManualClock) -> None:
    """Those that are still to come above all: they may not move past the page where they are due."""
    keys = [api.key("client", f"client-{number}") for number in range(8)]

    def sealed() -> None:
        clock.advance(1)
        while api.run(sealing.seal_once(api.runtime)):
            pass
        while api.run(counting.run_once(api.runtime)):
            pass

    def meanwhile(number: int) -> None:
        for key in (keys[0], keys[3], keys[6]):
            api.job(key)  # held money is a transfer
        api.key("client", f"newcomer-{number}")
        sealed()

    sealed()
    whole = [one["address"] for one in api.get("/v1/explorer/addresses", params={"limit": 100}).json()]
    assert len(whole) == 9
    assert paged(api, "/v1/explorer/addresses", None, meanwhile, "address") == whole
