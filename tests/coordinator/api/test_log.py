"""The log as an outsider reads it: checkpoint, tiles, entries, proofs."""

import base64
import hashlib
import json
import random
from typing import Any

import pytest

from aitbc.coordinator.chain import sealer
from aitbc.coordinator.database import Tx
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.process.loops.sealing import seal_once
from aitbc.core.ids import new_id
from aitbc.core.transfer_ids import REASON, new_transfer_id
from tests.coordinator.api.conftest import sqlite_only
from tests.coordinator.api.log_client import names_of, read_log, tile_name, verified
from tests.coordinator.api.support import Market, expect_error
from tests.core.log_reference import read_proof
from tests.core.merkle_reference import Tree


def pay(tx: Tx, count: int) -> None:
    for number in range(count):
        ledger.mint(tx, new_transfer_id(tx.now_ms), "payée", 1, REASON.of(f"ref {number} \u2014 \u00fc"))


def open_account(tx: Tx) -> None:
    ledger.open_account(tx, "payée")


class Log:
    """A log of transfers and receipts that grows as a test wants."""

    def __init__(self, api: Market) -> None:
        self.api = api
        api.write(open_account)
        self.client, self.miner = api.key("client"), api.key("miner")
        api.miner(self.miner)

    def receipt(self) -> str:
        job = self.api.job(self.client)
        self.api.claim(self.miner, job)
        answer = self.api.complete(self.miner, job)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["receipt_id"])

    def grow(self, count: int) -> None:
        self.api.write(pay, count)

    def seal(self) -> int:
        """The size of the tree."""
        while self.api.run(seal_once(self.api.runtime)):
            pass
        head = self.api.run(self.api.runtime.db.read(sealer.head))
        return int(head.tree_size)

    @property
    def vkey(self) -> str:
        (key,) = [key for key in self.api.get("/v1/keys").json()["keys"] if key["use"] == "log"]
        return str(key["vkey"])


@pytest.fixture
def log(api: Market) -> Log:
    return Log(api)


def test_an_independent_client_verifies_the_whole_log(log: Log) -> None:
    """Through several blocks, with every partial tile that some checkpoint has."""
    empty = verified(log.api.get("/log/checkpoint").text, log.vkey)
    assert (empty.size, empty.root) == (0, hashlib.sha256(b"").digest())
    receipts: list[str] = []
    older: list[tuple[int, list[bytes]]] = []
    for count in (0, 250, 1, 300):
        receipts.append(log.receipt())
        log.grow(count)
        size = log.seal()
        head, entries = read_log(log.api.get, log.vkey)
        assert head.size == size and head.origin == empty.origin == log.vkey.partition("+")[0]
        for before, start in older:
            assert entries[:before] == start
            for level in ("0", "entries"):  # tiles of older trees are served as they were
                for index, width in names_of(0, before):
                    now = log.api.get(tile_name(level, index, width))
                    assert now.status_code == 200
        older.append((size, entries))
    documents = [json.loads(entry) for entry in entries]
    found = [d["body"]["receipt_id"] for d in documents if d["type"] == "aitbc/receipt-leaf/v1"]
    assert found == receipts
    amounts = [int(d["amount_units"]) for d in documents if d["type"] == "aitbc/transfer/v1"]
    assert amounts.count(1) >= 551

    tree = Tree(entries)
    for receipt in receipts:
        answer = log.api.get(f"/v1/receipts/{receipt}/proof")
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
        proof = read_proof(answer.text)
        assert documents[proof.index]["body"]["receipt_id"] == receipt
        assert proof.hashes == tree.path(proof.index, proof.size)
        assert verified(answer.text.split("\n\n", 1)[1], log.vkey).root == tree.root(proof.size) == proof.root
        assert log.api.get(f"/v1/receipts/{receipt}").json()["proof"] == answer.text

    generator = random.Random(3)
    pairs = [(generator.randrange(1, size), generator.randrange(1, size + 1)) for _ in range(60)]
    for old, new in [*map(sorted, pairs), (0, size), (0, 0), (size, size), (256, 512), (1, size), (255, 257)]:
        answer = log.api.get("/log/consistency", params={"old": old, "new": new})
        assert answer.status_code == 200
        served = [base64.b64decode(line) for line in answer.text.splitlines()]
        assert served == (tree.proof(old, new) if old else [])


@sqlite_only
def test_tiles_that_are_not_there(log: Log) -> None:
    log.grow(300)
    size = log.seal()
    rest = size - 256
    assert 0 < rest < 256
    for path in (
        "0/001",  # partial so far
        f"0/001.p/{rest + 1}",
        "0/002",
        "0/002.p/1",
        "0/x001/000",
        "1/000",
        "1/000.p/2",
        "1/001.p/1",
        "2/000.p/1",
        "63/000",
        "entries/001",
        f"entries/001.p/{rest + 1}",
        "entries/002.p/1",
        f"0/{'x999/' * 12}999",
    ):
        expect_error(log.api.get(f"/log/tile/{path}"), 404, "NOT_FOUND")
    for path in ("0/000", "0/000.p/255", "0/000.p/1", f"0/001.p/{rest}", "1/000.p/1", "entries/000"):
        assert log.api.get(f"/log/tile/{path}").status_code == 200, path


@sqlite_only
def test_paths_that_name_no_tile(log: Log) -> None:
    log.grow(300)
    log.seal()
    for path in (
        "", "0", "0/", "/0/000", "0/0", "0/00", "0/0000", "00/000", "-1/000", "+0/000", "64/000", "0/x000/000",
        "0/000/", "0/001/000", "0/x001", "0/000.p", "0/000.p/", "0/000.p/0", "0/000.p/01", "0/000.p/256",
        "0/000.p/-1", "0/000.p/1/", "0/000.P/1", "0/000.p/1e1", "0/000.p/%D9%A1", "0/%D9%A0%D9%A0%D9%A0",
        "0/000%0A", "entries", "entries/", "Entries/000", "data/000", "0/..%2f000", "0/000%20",
        "-1/000.p/1", f"0/{'x001/' * 20}000",
    ):  # fmt: skip
        answer = log.api.get(f"/log/tile/{path}")
        assert answer.status_code == 404, path
        assert "immutable" not in answer.headers.get("cache-control", ""), path


@sqlite_only
def test_sizes_out_of_range(log: Log) -> None:
    log.grow(20)
    size = log.seal()
    bad: list[dict[str, Any]] = [
        {"old": 1, "new": size + 1},
        {"old": size + 1, "new": size + 1},
        {"old": 3, "new": 2},
        {"old": -1, "new": 2},
        {"old": 0, "new": 2**63},
        {"old": 0, "new": 10**40},
        {"old": "one", "new": 2},
        {"old": 1.5, "new": 2},
        {"old": "", "new": 2},
        {"old": 1},
        {"new": 1},
        {},
    ]
    for sizes in bad:
        expect_error(log.api.get("/log/consistency", params=sizes), 400, "INVALID_REQUEST")


@sqlite_only
def test_before_the_first_block(log: Log) -> None:
    answer = log.api.get("/log/consistency", params={"old": 0, "new": 0})
    assert (answer.status_code, answer.text) == (200, "")
    expect_error(log.api.get("/log/consistency", params={"old": 0, "new": 1}), 400, "INVALID_REQUEST")
    for path in ("0/000", "0/000.p/1", "entries/000.p/1"):
        expect_error(log.api.get(f"/log/tile/{path}"), 404, "NOT_FOUND")


def test_a_proof_of_what_is_not_sealed_yet(log: Log) -> None:
    receipt = log.receipt()
    answer = log.api.get(f"/v1/receipts/{receipt}/proof")
    expect_error(answer, 409, "NOT_SEALED")
    assert 1 <= int(answer.headers["retry-after"]) <= 2 * log.api.runtime.settings.block_interval_s
    assert log.api.get(f"/v1/receipts/{receipt}").json()["proof"] is None
    for unknown in (new_id(), "nothing", receipt.upper() + "x"):
        expect_error(log.api.get(f"/v1/receipts/{unknown}/proof"), 404, "RECEIPT_NOT_FOUND")
    log.seal()
    assert log.api.get(f"/v1/receipts/{receipt}/proof").status_code == 200


@sqlite_only
def test_a_tile_that_was_tampered_with_is_not_what_the_log_signed(log: Log) -> None:
    """The client above is no mere formality: it refuses a log whose rows were changed."""
    log.grow(260)
    log.seal()
    read_log(log.api.get, log.vkey)
    data = hashlib.sha256(b"x").hexdigest()
    log.api.write(
        lambda tx: tx._cursor.execute(f"UPDATE tiles SET hashes = x'{data}' WHERE level = 1 AND idx = 0")
    )
    with pytest.raises(AssertionError):
        read_log(log.api.get, log.vkey)


def test_headers_alone_and_what_the_caller_has_already(log: Log) -> None:
    """What may be kept is marked so, and the server's own answer to HEAD has the headers of GET."""
    log.grow(300)
    size = log.seal()
    paths = {
        "/log/checkpoint": "no-cache",
        "/log/tile/0/000": "public, max-age=31536000, immutable",
        f"/log/tile/0/001.p/{size - 256}": "public, max-age=31536000, immutable",
        "/log/tile/entries/000": "public, max-age=31536000, immutable",
        f"/log/consistency?old=5&new={size}": "public, max-age=31536000, immutable",
    }
    tags = {}
    for path, cache in paths.items():
        plain = {"Accept-Encoding": "identity"}
        got, head = log.api.get(path, plain), log.api.call("HEAD", path, plain)
        assert (got.status_code, head.status_code) == (200, 200)
        tags[path] = got.headers["etag"]
        for answer in (got, head):
            assert answer.headers["cache-control"] == cache
            assert answer.headers["content-length"] == str(len(got.content))
            assert answer.headers["etag"] == tags[path]
        for known in (tags[path], f"W/{tags[path]}", f'"other", {tags[path]}', "*"):
            same = log.api.get(path, {**plain, "If-None-Match": known})
            assert (same.status_code, same.content) == (304, b"")
            assert (same.headers["etag"], same.headers["cache-control"]) == (tags[path], cache)
        assert log.api.get(path, {**plain, "If-None-Match": '"other"'}).content == got.content
    assert len({tags[path] for path in paths}) == len(paths)
    gone = log.api.get("/log/tile/0/009", {"If-None-Match": "*"})
    expect_error(gone, 404, "NOT_FOUND")
    assert gone.headers["cache-control"] == "no-store", "it may be there later"
    assert log.api.post("/log/checkpoint").headers["allow"] == "GET, HEAD"
    log.grow(1)
    log.seal()
    fresh = log.api.get("/log/checkpoint", {"If-None-Match": tags["/log/checkpoint"]})
    assert fresh.status_code == 200
    assert fresh.headers["etag"] != tags["/log/checkpoint"]


@sqlite_only
def test_entries_are_sent_packed_to_who_accepts_it(log: Log) -> None:
    log.grow(300)
    log.seal()
    path = tile_name("entries", 0, 256)
    plain = log.api.get(path, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    for accepted in ("gzip", "gzip, deflate", "br;q=1.0, GZIP;q=0.5", "*"):
        packed = log.api.get(path, headers={"Accept-Encoding": accepted})
        assert packed.headers["content-encoding"] == "gzip", accepted
        assert packed.headers["vary"] == "Accept-Encoding"
        assert packed.content == plain.content
        assert int(packed.headers["content-length"]) < len(plain.content) / 2
        assert packed.headers["etag"] != plain.headers["etag"]
    for refused in ("", "br", "gzip;q=0", "identity;q=1, *;q=0", "gzip;q=x"):
        answer = log.api.get(path, headers={"Accept-Encoding": refused})
        assert "content-encoding" not in answer.headers, refused
        assert answer.content == plain.content
    hashes = log.api.get(tile_name("0", 0, 256), headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in hashes.headers
