"""The committed vectors against an independent reading of docs/formats/block.md, and against our own code.

All but the last test use no code of `aitbc`: hashlib, the rfc8785 library, RFC 6962 and Ed25519 as written down.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import rfc8785

from tests.core import ed25519_reference as ed25519
from tests.core import log_reference as log
from tests.core.block_vectors import VECTORS_FILE, build
from tests.core.merkle_reference import Tree

VECTORS: dict[str, Any] = json.loads(VECTORS_FILE.read_text(encoding="utf-8"))
TREE = Tree([leaf["bytes"].encode() for leaf in VECTORS["leaves"]])
SIZE = len(TREE.leaves)
SEED = bytes.fromhex(VECTORS["coordinator_seed"])
PUBLIC = ed25519.public_key(SEED)
WITNESS = ed25519.public_key(bytes.fromhex(VECTORS["witness_seed"]))
ORIGIN = "aitbc/ait-devnet"
GENESIS_FILE = Path(__file__).parents[2] / "src" / "aitbc" / "coordinator" / "chain" / "genesis.json"


def test_leaves_are_canonical_and_hashed_as_leaves() -> None:
    for leaf in VECTORS["leaves"]:
        if "transfer" in leaf:
            values = {**leaf["transfer"], "amount_units": str(leaf["transfer"]["amount_units"])}
            document = {"type": "aitbc/transfer/v1", **values}
        else:
            values = leaf["receipt"]
            signature = {"alg": "Ed25519", "key_id": values["key_id"], "sig": values["sig"]}
            body = json.loads(values["signed"])
            document = {"type": "aitbc/receipt-leaf/v1", "body": body, "signature": signature}
            sig = base64.b64decode(values["sig"])
            assert ed25519.verify(PUBLIC, values["signed"].encode(), sig)
        assert rfc8785.dumps(document).decode() == leaf["bytes"]
        assert hashlib.sha256(b"\x00" + leaf["bytes"].encode()).hexdigest() == leaf["hash"]
    assert sum("receipt" in leaf for leaf in VECTORS["leaves"]) == 1


def test_changes_of_parameters_are_leaves_too() -> None:
    for leaf in VECTORS["parameters"]:
        values = {
            name: value if value is None or not name.startswith("value") else str(value)
            for name, value in leaf["change"].items()
        }
        document = {"type": "aitbc/parameter/v1", **values}
        assert rfc8785.dumps(document).decode() == leaf["bytes"]
        assert hashlib.sha256(b"\x00" + leaf["bytes"].encode()).hexdigest() == leaf["hash"]


def test_credits_of_bitcoin_outputs_are_leaves_too() -> None:
    for leaf in VECTORS["bitcoin_credits"]:
        values = {
            {"entry_id": "id", "topup_id": "topup"}.get(name, name): str(value)
            if name in ("sat", "rate_units", "units", "short_units")
            else value
            for name, value in leaf["credit"].items()
        }
        document = {"type": "aitbc/bitcoin-credit/v1", **values}
        assert rfc8785.dumps(document).decode() == leaf["bytes"]
        assert hashlib.sha256(b"\x00" + leaf["bytes"].encode()).hexdigest() == leaf["hash"]


def test_governance_is_in_leaves_too() -> None:
    for leaf in VECTORS["governance"]:
        assert rfc8785.dumps(leaf["document"]).decode() == leaf["bytes"]
        assert hashlib.sha256(b"\x00" + leaf["bytes"].encode()).hexdigest() == leaf["hash"]


def check_proofs(vectors: dict[str, Any], tree: Tree) -> None:
    for vector in vectors["inclusion"]:
        path = tree.path(vector["index"], vector["size"])
        assert vector["hashes"] == [hashed.hex() for hashed in path]
        leaf_hash = tree.mth(vector["index"], vector["index"] + 1)
        root = log.root_from_path(leaf_hash, vector["index"], vector["size"], path)
        assert root == tree.root(vector["size"])
    for vector in vectors["consistency"]:
        assert vector["hashes"] == [hashed.hex() for hashed in tree.proof(vector["old"], vector["new"])]


def test_roots_and_proofs_are_those_of_rfc_6962() -> None:
    assert VECTORS["roots"] == [TREE.root(size).hex() for size in range(SIZE + 1)]
    assert VECTORS["roots"][0] == hashlib.sha256().hexdigest()
    check_proofs(VECTORS, TREE)
    assert len(VECTORS["inclusion"]) == SIZE * (SIZE + 1) // 2


def test_a_big_tree_and_its_tiles() -> None:
    big = VECTORS["big_tree"]
    size = big["size"]
    tree = Tree([str(number).encode() for number in range(size)])
    assert big["root"] == tree.root(size).hex()
    check_proofs(big, tree)
    for tile in big["tiles"]:
        span = 256 ** tile["level"]
        starts = [(tile["index"] * 256 + number) * span for number in range(256)]
        hashes = [tree.mth(start, start + span) for start in starts if start + span <= size]
        assert len(hashes) == tile["width"]
        assert hashlib.sha256(b"".join(hashes)).hexdigest() == tile["sha256"]
        partial = f".p/{tile['width']}" if tile["width"] < 256 else ""
        assert tile["path"] == f"{tile['level']}/{tile['index']:03d}{partial}"


def test_blocks_are_chained_hashed_and_signed() -> None:
    key_id = hashlib.sha256(PUBLIC).hexdigest()[:16]
    previous = VECTORS["genesis"]
    for height, block in enumerate(VECTORS["blocks"], 1):
        header = json.loads(block["header"])
        before = json.loads(previous["header"])
        assert rfc8785.dumps(header).decode() == block["header"]
        assert hashlib.sha256(block["header"].encode()).hexdigest() == block["hash"]
        assert base64.b64decode(block["signature"]) == ed25519.sign(SEED, block["header"].encode())
        first, size = header["first_leaf"], header["tree_size"]
        receipts = sum("receipt" in leaf for leaf in VECTORS["leaves"][first:size])
        assert header == {
            "version": "aitbc/block/v1",
            "chain_id": "ait-devnet",
            "height": height,
            "previous_hash": previous["hash"],
            "time": header["time"],
            "first_leaf": before["tree_size"],
            "last_leaf": size - 1,
            "tree_size": size,
            "root": TREE.root(size).hex(),
            "transactions": size - first - receipts,
            "receipts": receipts,
            "proposer": key_id,
        }
        assert len(header["time"]) == 24
        assert before["time"] <= header["time"]
        note = log.read_note(block["checkpoint"])
        assert note.text == f"{ORIGIN}\n{size}\n{base64.b64encode(TREE.root(size)).decode()}\n"
        (line,) = note.lines
        assert log.is_signed(note, line, ORIGIN, PUBLIC)
        previous = block
    assert json.loads(previous["header"])["tree_size"] == SIZE


def test_a_block_of_version_2_counts_by_kind() -> None:
    """The second block again, as it is once its network writes version 2."""
    block, same = VECTORS["block_v2"], json.loads(VECTORS["blocks"][1]["header"])
    header = json.loads(block["header"])
    assert rfc8785.dumps(header).decode() == block["header"]
    assert hashlib.sha256(block["header"].encode()).hexdigest() == block["hash"]
    assert base64.b64decode(block["signature"]) == ed25519.sign(SEED, block["header"].encode())
    assert block["checkpoint"] == VECTORS["blocks"][1]["checkpoint"]
    counts = {"transfers": same["transactions"], "receipts": same["receipts"]}
    assert header == {**same, "version": "aitbc/block/v2", "contents": {k: n for k, n in counts.items() if n}}
    assert sum(header["contents"].values()) == header["tree_size"] - header["first_leaf"]


def test_a_founded_network_is_what_its_founding_says() -> None:
    founded = VECTORS["founded"]
    document = json.loads(founded["bytes"])
    assert rfc8785.dumps(document).decode() == founded["bytes"]
    assert document.keys() == {"version", "chain_id", "origin", "log_key", "salt"}
    assert document["log_key"] == log.vkey(document["origin"], 1, PUBLIC)
    assert hashlib.sha256(founded["bytes"].encode()).hexdigest() == founded["hash"]
    header = json.loads(founded["header"])
    assert rfc8785.dumps(header).decode() == founded["header"]
    assert header == {**json.loads(VECTORS["genesis"]["header"]), "previous_hash": founded["hash"]}
    assert hashlib.sha256(founded["header"].encode()).hexdigest() == founded["network_id"]
    note = log.read_note(founded["checkpoint"])
    root = base64.b64encode(hashlib.sha256().digest()).decode()
    assert note.text == f"{document['origin']}\n0\n{root}\n"
    assert log.is_signed(note, note.lines[0], document["origin"], PUBLIC)


def test_an_older_network_has_an_id_as_well() -> None:
    old = VECTORS["old_network"]
    document = json.loads(old["bytes"])
    assert rfc8785.dumps(document).decode() == old["bytes"]
    assert document == {
        "version": "aitbc/old-network/v1",
        "genesis_hash": VECTORS["genesis"]["hash"],
        "log_key": base64.b64encode(PUBLIC).decode(),
    }
    assert hashlib.sha256(old["bytes"].encode()).hexdigest() == old["network_id"]


def test_genesis_is_the_committed_one() -> None:
    genesis = VECTORS["genesis"]
    assert hashlib.sha256(genesis["header"].encode()).hexdigest() == genesis["hash"]
    header = json.loads(genesis["header"])
    assert rfc8785.dumps(header).decode() == genesis["header"]
    assert json.loads(GENESIS_FILE.read_text("utf-8")) == {"header": header, "hash": genesis["hash"]}
    assert (header["height"], header["tree_size"], header["first_leaf"], header["last_leaf"]) == (0, 0, 0, -1)
    assert header["previous_hash"] == "0" * 64
    assert header["root"] == hashlib.sha256().hexdigest()


def test_the_witness_cosigned_and_the_proof_holds() -> None:
    assert VECTORS["log_vkey"] == log.vkey(ORIGIN, 1, PUBLIC)
    assert VECTORS["witness_vkey"] == log.vkey("witness.example/w1", 4, WITNESS)
    cosigned = log.read_note(VECTORS["cosigned"]["checkpoint"])
    signed, line = cosigned.lines
    assert log.is_signed(cosigned, signed, ORIGIN, PUBLIC)
    at_s = log.cosigned_at(cosigned, line, "witness.example/w1", WITNESS)
    assert at_s == VECTORS["cosigned"]["at_s"]
    proof = log.read_proof(VECTORS["proof"]["text"])
    assert proof.note == cosigned
    leaf_hash = bytes.fromhex(VECTORS["leaves"][proof.index]["hash"])
    assert proof.index == VECTORS["proof"]["index"]
    assert (
        log.root_from_path(leaf_hash, proof.index, proof.size, proof.hashes) == proof.root == TREE.root(SIZE)
    )


def test_the_page_shows_what_the_vectors_hold() -> None:
    page = VECTORS_FILE.with_name("block.md").read_text("utf-8")
    assert f"```\n{VECTORS['genesis']['hash']}\n```" in page
    assert f"```\n{log.read_note(VECTORS['cosigned']['checkpoint']).text}\n\u2014 " in page
    shown = next(block for block in page.split("```\n") if block.startswith('{"amount_units"'))
    assert shown.replace("\n", "") in {leaf["bytes"] for leaf in VECTORS["leaves"]}
    shown = next(block for block in page.split("```\n") if block.startswith('{"by"'))
    assert shown.replace("\n", "") == VECTORS["parameters"][0]["bytes"]
    shown = next(block for block in page.split("```\n") if block.startswith('{"account"'))
    assert shown.replace("\n", "") == VECTORS["bitcoin_credits"][0]["bytes"]
    shown = next(block for block in page.split("```\n") if block.startswith('{"account":"alice","at_ms"'))
    assert shown.replace("\n", "") == VECTORS["governance"][0]["bytes"]
    members = {name for name in VECTORS if name not in ("about", "chain_id")}
    table = page.partition("## The vectors")[2]
    assert all(f"`{name}`" in table for name in members)


def test_our_code_makes_the_same_vectors() -> None:
    assert build() == VECTORS
