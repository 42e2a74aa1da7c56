"""Writes docs/formats/block-vectors.json: `python -m tests.core.block_vectors` in the root folder.

Everything follows from the fixed seeds and values below, so that the file is the same on every run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aitbc.core import receipt, signing
from aitbc.core.log import tiles
from aitbc.core.log.block import VERSION, VERSION_2, BlockHeader, genesis
from aitbc.core.log.checkpoint import Checkpoint, cosign
from aitbc.core.log.leaf import (
    bitcoin_credit_leaf,
    delegation_leaf,
    parameter_leaf,
    proposal_leaf,
    transfer_leaf,
    vote_leaf,
)
from aitbc.core.log.merkle import leaf_hash, root_of
from aitbc.core.log.note import Note, Verifier, sign_note
from aitbc.core.log.tlog_proof import format_proof
from aitbc.core.network import Founding, old_network_id
from tests.core.proofs import (
    CHAIN_ID,
    COORDINATOR,
    COSIGNED_AT_S,
    LOG,
    ORIGIN,
    WITNESS_KEYS,
    WITNESSES,
    leaf_of,
)
from tests.core.receipt_vectors import prompt_job

VECTORS_FILE = Path(__file__).parents[2] / "docs" / "formats" / "block-vectors.json"
JOB, HOLD = "019b7c1e-5a46-7000-8000-000000000001", "019b7c1e-5a46-7000-8000-00000000000a"
ODD_TEXT = 'a "quote", a \\, a tab \t, \x00, \x7f, \u2028, \u2713 and \U0001f600'
TIME_MS = 1_767_323_045_000
BIG = 70_000
TRANSFERS: list[dict[str, Any]] = [
    {
        "id": "grant:alice",
        "kind": "mint",
        "debit": "system:mint",
        "credit": "alice",
        "amount_units": 100_000_000_000,
        "hold_id": None,
        "ref": "devnet grant",
        "created_at_ms": TIME_MS,
    },
    {
        "id": HOLD,
        "kind": "hold",
        "debit": "alice",
        "credit": "system:escrow",
        "amount_units": 265_000,
        "hold_id": None,
        "ref": JOB,
        "created_at_ms": TIME_MS + 10,
    },
    {
        "id": "019b7c1e-5d2e-7000-8000-00000000000b",
        "kind": "post",
        "debit": "alice",
        "credit": "bob",
        "amount_units": 19_950,
        "hold_id": HOLD,
        "ref": JOB,
        "created_at_ms": TIME_MS + 2000,
    },
    {
        "id": "019b7c1e-5d2e-7000-8000-00000000000c",
        "kind": "fee",
        "debit": "alice",
        "credit": "system:treasury",
        "amount_units": 1050,
        "hold_id": HOLD,
        "ref": JOB,
        "created_at_ms": TIME_MS + 2000,
    },
    {
        "id": "019b7c1e-6000-7000-8000-00000000000d",
        "kind": "transfer",
        "debit": "bob",
        "credit": "carol",
        "amount_units": 2**53 - 1,
        "hold_id": None,
        "ref": ODD_TEXT,
        "created_at_ms": TIME_MS + 3000,
    },
]
SEALED = (2, 6)  # the tree's size after block 1 and after block 2


def _founded() -> dict[str, Any]:
    origin = "market.example/log"
    made = Founding(CHAIN_ID, origin, Verifier(origin, COORDINATOR.public_bytes).vkey, "5a" * 32)
    first = genesis(CHAIN_ID, made.hash)
    text = Checkpoint(origin, 0, root_of([])).to_text()
    return {
        "bytes": made.encode().decode(),
        "hash": made.hash,
        "header": first.encode().decode(),
        "network_id": made.network_id,
        "checkpoint": str(Note(text, (sign_note(text, origin, COORDINATOR),))),
    }


def _old_network(genesis_hash: str) -> dict[str, Any]:
    stated = {
        "genesis_hash": genesis_hash,
        "log_key": signing.public_to_text(COORDINATOR.public_bytes),
        "version": "aitbc/old-network/v1",
    }
    data = json.dumps(stated, separators=(",", ":"))
    return {"bytes": data, "network_id": old_network_id(CHAIN_ID, COORDINATOR.public_bytes)}


def _leaves() -> list[dict[str, Any]]:
    fields, _, _ = prompt_job()
    signature = receipt.sign(fields, COORDINATOR)
    leaves = []
    for values in TRANSFERS:
        named = {"transfer_id" if name == "id" else name: value for name, value in values.items()}
        leaves.append({"transfer": values, "bytes": transfer_leaf(**named).decode()})
    signed = {
        "signed": receipt.signed_bytes(fields).decode(),
        "key_id": signature.key_id,
        "sig": signing.encode_b64(signature.sig),
    }
    leaves.insert(4, {"receipt": signed, "bytes": leaf_of(fields, signature).decode()})
    return [{**leaf, "hash": leaf_hash(leaf["bytes"].encode()).hex()} for leaf in leaves]


def _changes() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for number, before, reason in ((1, None, "as decided"), (2, 250, ODD_TEXT)):
        change = {
            "number": number,
            "name": "fee_bps",
            "value_before": before,
            "value_after": 300 if before else 250,
            "effective_at_ms": TIME_MS + 3000,
            "by": "operator",
            "reason": reason,
        }
        data = parameter_leaf(**change)
        made.append({"change": change, "bytes": data.decode(), "hash": leaf_hash(data).hex()})
    return made


def _credits() -> list[dict[str, Any]]:
    """An output that is credited, reorganised away after half of it was spent, and credited again."""
    outpoint = "5a1c3a2e7e0f7b1f6d8c9b0a1e2d3c4b5a69788796a5b4c3d2e1f00112233445:0"
    made: list[dict[str, Any]] = []
    for number, (kind, units, short) in enumerate(
        (
            ("credit", 5_000_000_000, 0),
            ("reversal", 2_000_000_000, 3_000_000_000),
            ("credit", 2_000_000_000, 0),
        )
    ):
        credit = {
            "entry_id": f"entry:btc:{outpoint}" + (f":{number}" if number else ""),
            "kind": kind,
            "outpoint": outpoint,
            "topup_id": JOB,
            "account": "alice",
            "sat": 50_000,
            "rate_units": 10_000_000_000_000,
            "units": units,
            "short_units": short,
            "block_height": 930_123 + 2 * (number // 2),
            "block_hash": hashlib.sha256(bytes([number // 2])).hexdigest(),
            "created_at_ms": TIME_MS + 3000 * number,
        }
        data = bitcoin_credit_leaf(**credit)
        made.append({"credit": credit, "bytes": data.decode(), "hash": leaf_hash(data).hex()})
    return made


def _governance() -> list[dict[str, Any]]:
    proposal = JOB
    leaves = [
        vote_leaf(f"vote:{proposal}:1", "alice", "alice", "for", 100_000_000, TIME_MS + 4_000),
        proposal_leaf(f"proposal:{proposal}:2", "opened", TIME_MS + 3_000, "", "{}"),
        proposal_leaf(
            f"proposal:{proposal}:5",
            "queued",
            TIME_MS + 5_000,
            "",
            '{"execute_after_ms":"1767330000000","execute_by_ms":"1767340000000"}',
        ),
        vote_leaf(f"vote:{proposal}:2", ODD_TEXT, "bob", "veto", 2**53 - 1, TIME_MS),
        delegation_leaf("delegation:1:alice", "alice", "bob", TIME_MS),
        delegation_leaf(f"delegation:2:{ODD_TEXT}", ODD_TEXT, "", TIME_MS),
    ]
    return [
        {"document": json.loads(leaf), "bytes": leaf.decode(), "hash": leaf_hash(leaf).hex()}
        for leaf in leaves
    ]


def _hashes(leaves: Sequence[dict[str, Any]]) -> list[bytes]:
    return [bytes.fromhex(leaf["hash"]) for leaf in leaves]


def _checkpoint(size: int, root: bytes) -> Note:
    text = Checkpoint(ORIGIN, size, root).to_text()
    return Note(text, (sign_note(text, ORIGIN, COORDINATOR),))


def _blocks(leaves: list[dict[str, Any]], second: str = VERSION) -> list[dict[str, Any]]:
    """`second`: the version of the second one."""
    previous, blocks = genesis(CHAIN_ID), []
    for size in SEALED:
        new = leaves[previous.tree_size : size]
        root = root_of(_hashes(leaves[:size]))
        receipts = sum("receipt" in leaf for leaf in new)
        header = BlockHeader(
            chain_id=CHAIN_ID,
            height=previous.height + 1,
            previous_hash=previous.hash,
            time_ms=TIME_MS + 2000 * (previous.height + 1),
            first_leaf=previous.tree_size,
            tree_size=size,
            root=root.hex(),
            transactions=len(new) - receipts,
            receipts=receipts,
            proposer=COORDINATOR.key_id,
            version=second if blocks else VERSION,
        )
        blocks.append(
            {
                "header": header.encode().decode(),
                "hash": header.hash,
                "signature": header.sign(COORDINATOR),
                "checkpoint": str(_checkpoint(size, root)),
            }
        )
        previous = header
    return blocks


def _proofs(hashes: Sequence[bytes], inclusion: Any, consistency: Any) -> dict[str, Any]:
    stored = tiles.grow(0, hashes, {})

    def read(wanted: Sequence[tiles.Tile]) -> Mapping[tiles.Tile, bytes]:
        return {tile: stored[tile] for tile in wanted}

    return {
        "inclusion": [
            {"index": m, "size": n, "hashes": [h.hex() for h in tiles.inclusion_proof(m, n, read)]}
            for m, n in inclusion
        ],
        "consistency": [
            {"old": m, "new": n, "hashes": [h.hex() for h in tiles.consistency_proof(m, n, read)]}
            for m, n in consistency
        ],
    }


def _big_tree() -> dict[str, Any]:
    hashes = [leaf_hash(str(number).encode()) for number in range(BIG)]
    stored = tiles.grow(0, hashes, {})
    wanted = [(0, 0), (0, 272), (0, 273), (1, 0), (1, 1), (2, 0)]
    return {
        "about": "The leaves are the numbers 0 to 69999 in decimal digits.",
        "size": BIG,
        "root": root_of(hashes).hex(),
        "tiles": [
            {
                "level": level,
                "index": index,
                "width": len(stored[level, index]) // 32,
                "path": tiles.tile_path(level, index, len(stored[level, index]) // 32),
                "sha256": hashlib.sha256(stored[level, index]).hexdigest(),
            }
            for level, index in wanted
        ],
        **_proofs(
            hashes,
            [(0, BIG), (12_345, BIG), (65_536, BIG), (BIG - 1, BIG), (300, 66_000)],
            [(1, BIG), (1000, BIG), (65_536, BIG), (65_537, 69_999)],
        ),
    }


def build() -> dict[str, Any]:
    """The whole vector file."""
    leaves = _leaves()
    hashes, size = _hashes(leaves), len(leaves)
    first = genesis(CHAIN_ID)
    note = _checkpoint(size, root_of(hashes))
    cosigned = cosign(note.text, WITNESSES[0].name, WITNESS_KEYS[0], COSIGNED_AT_S)
    note = dataclasses.replace(note, signatures=(*note.signatures, cosigned))
    sizes = range(1, size + 1)
    proofs = _proofs(
        hashes,
        [(index, n) for n in sizes for index in range(n)],
        [(old, new) for new in sizes for old in range(1, new)],
    )
    path = [bytes.fromhex(text) for text in proofs["inclusion"][-2]["hashes"]]
    return {
        "about": "Test vectors of docs/formats/block.md. Texts are UTF-8; seeds, hashes and roots are hex.",
        "coordinator_seed": COORDINATOR.seed.hex(),
        "witness_seed": WITNESS_KEYS[0].seed.hex(),
        "chain_id": CHAIN_ID,
        "log_vkey": LOG.vkey,
        "witness_vkey": WITNESSES[0].vkey,
        "genesis": {"header": first.encode().decode(), "hash": first.hash},
        "founded": _founded(),
        "old_network": _old_network(first.hash),
        "leaves": leaves,
        "roots": [root_of(hashes[:n]).hex() for n in range(size + 1)],
        **proofs,
        "blocks": _blocks(leaves),
        "parameters": _changes(),
        "bitcoin_credits": _credits(),
        "governance": _governance(),
        "block_v2": _blocks(leaves, VERSION_2)[1],
        "cosigned": {"at_s": COSIGNED_AT_S, "checkpoint": str(note)},
        "proof": {"index": size - 2, "text": format_proof(size - 2, path, str(note))},
        "big_tree": _big_tree(),
    }


if __name__ == "__main__":
    VECTORS_FILE.write_text(json.dumps(build(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
