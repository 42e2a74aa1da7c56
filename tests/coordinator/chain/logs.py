"""Leaves to seal, and what must be true of a chain, computed from its rows with hashlib and the formats' texts."""

from __future__ import annotations

import base64
import hashlib
import itertools
from functools import cache
from typing import Any

from sqlalchemy import text

from aitbc.coordinator.chain import network, sealer, service
from aitbc.coordinator.database import Database, Tx
from aitbc.core.log.block import genesis
from aitbc.core.log.note import Verifier, parse_note, verify_note
from aitbc.core.signing import PrivateKey
from tests.support.flows import CHAIN, KEY

_numbers = itertools.count(1)


def append(tx: Tx, count: int) -> None:
    """So many leaves, every seventh of them a receipt's."""
    for _ in range(count):
        number = next(_numbers)
        service.append(tx, int(number % 7 == 0), f"ref-{number}", b"leaf %d" % number)


def leave_gap(tx: Tx) -> None:
    """Makes the next leaf's seq more than one larger than the last one's, as a rollback on PostgreSQL does."""
    if tx.dialect == "postgresql":
        tx.query(text("SELECT nextval('leaves_seq_seq') FROM generate_series(1, 3)"))
        return
    number = next(_numbers)
    data = hashlib.sha256(b"\x00gap %d" % number).digest()
    tx.change(
        text(
            "INSERT INTO leaves (seq, kind, ref_id, hash, hash_head) "
            f"SELECT max(seq) + 3, 0, 'ref-{number}', x'{data.hex()}', {service.head_of(data)} FROM leaves"
        )
    )


def seal(db: Database) -> bool:
    """One round of sealing, as the background does it."""
    made = db.read_sync(sealer.draft, CHAIN, KEY)
    return made is not None and db.write_sync(sealer.seal, made)


class Tree:
    """MTH over leaf hashes, as RFC 6962 writes it; what was computed for one size serves the next."""

    def __init__(self, hashes: list[bytes]) -> None:
        self._hashes = hashes
        self._mth = cache(self._compute)

    def root(self, size: int) -> bytes:
        return self._mth(0, size) if size else hashlib.sha256(b"").digest()

    def _compute(self, low: int, high: int) -> bytes:
        if high - low == 1:
            return self._hashes[low]
        k = 1 << (high - low - 1).bit_length() - 1
        return hashlib.sha256(b"\x01" + self._mth(low, low + k) + self._mth(low + k, high)).digest()


def tiles_of(hashes: list[bytes]) -> dict[tuple[int, int], bytes]:
    """Every tile of the tree as C2SP tlog-tiles defines them."""
    found, level = {}, 0
    while hashes:
        parts = [hashes[at : at + 256] for at in range(0, len(hashes), 256)]
        found.update({(level, n): b"".join(part) for n, part in enumerate(parts)})
        hashes = [Tree(part).root(256) for part in parts if len(part) == 256]
        level += 1
    return found


def rows(tx: Tx, sql: str) -> list[Any]:
    return tx.query(text(sql))


class Chain:
    """What is stored, checked from scratch. `checkpoints` are the notes by tree size."""

    def __init__(self, tx: Tx, key: PrivateKey = KEY) -> None:
        self.network = network.of(tx)
        self.log = Verifier(self.network.origin, key.public_bytes)
        leaves = rows(tx, "SELECT seq, kind, hash, leaf_index FROM leaves ORDER BY leaf_index, seq")
        self.waiting = sum(1 for leaf in leaves if leaf.leaf_index is None)
        sealed = [leaf for leaf in leaves if leaf.leaf_index is not None]
        self.hashes = [bytes(leaf.hash) for leaf in sealed]
        self.seqs = [leaf.seq for leaf in sealed]
        self.kinds = [leaf.kind for leaf in sealed]
        self.blocks = [sealer.BlockRow._make(row) for row in rows(tx, "SELECT * FROM blocks ORDER BY height")]
        self.tiles = {(t.level, t.idx): bytes(t.hashes) for t in rows(tx, "SELECT * FROM tiles")}
        assert [leaf.leaf_index for leaf in sealed] == list(range(len(sealed)))
        self.checkpoints = self._check_blocks()
        assert self.tiles == tiles_of(self.hashes)

    def _check_blocks(self) -> dict[int, str]:
        first, *others = self.blocks
        founded = hashlib.sha256(self.network.founding.encode()).hexdigest()
        assert first.header(CHAIN) == genesis(CHAIN, founded)
        assert first.hash == genesis(CHAIN, founded).hash == self.network.network_id
        found = {}
        tree = Tree(self.hashes)
        receipts, before = 0, first
        for block in others:
            header = block.header(CHAIN)
            assert header.fault_after(before.header(CHAIN)) is None
            assert block.hash == header.hash
            assert header.is_signed(self.log.public_bytes, block.signature)
            root = tree.root(block.tree_size)
            assert block.root == root.hex()
            receipts += block.receipts
            kinds = self.kinds[block.first_leaf : block.tree_size]
            assert (block.transactions, block.receipts) == (kinds.count(0), kinds.count(1))
            assert block.total_receipts == receipts
            seqs = self.seqs[block.first_leaf : block.tree_size]
            assert seqs == sorted(seqs)
            note = parse_note(block.checkpoint)
            assert verify_note(note, [self.log]) == [self.log]
            assert note.text == f"{self.log.name}\n{block.tree_size}\n{base64.b64encode(root).decode()}\n"
            found[block.tree_size] = block.checkpoint
            before = block
        assert before.tree_size == len(self.hashes)
        return found


def check(db: Database) -> Chain:
    return db.read_sync(Chain)


class Published:
    """Everything that was ever visible: a checkpoint once seen is never contradicted nor lost."""

    def __init__(self, db: Database, key: PrivateKey = KEY) -> None:
        self.db = db
        self.key = key
        self.seen: dict[int, str] = {}

    def look(self) -> Chain:
        chain = self.db.read_sync(Chain, self.key)
        assert self.seen.items() <= chain.checkpoints.items()
        self.seen = chain.checkpoints
        return chain
