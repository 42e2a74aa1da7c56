"""Merkle tree hashing and the verification of proofs (RFC 6962; RFC 9162, sections 2.1.3.2 and 2.1.4.2).

Pure and small on purpose: this is what a verifier has to trust. Proofs are made in `core.tiles`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root of a tree without leaves."""

_sha256 = hashlib.sha256


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf's bytes; its prefix keeps it apart from a node's."""
    return _sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node from its two children."""
    return _sha256(b"\x01" + left + right).digest()


def root_of(leaf_hashes: Sequence[bytes]) -> bytes:
    """The root of the tree over these leaf hashes."""
    if not leaf_hashes:
        return EMPTY_ROOT
    level = list(leaf_hashes)
    while len(level) > 1:
        above = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        if len(level) % 2:
            above.append(level[-1])
        level = above
    return level[0]


class Frontier:
    """The right edge of a tree that grows leaf by leaf: its root at any size, in O(log n) memory.

    Knows nothing of tiles, so that an audit which uses it shares nothing with the code that wrote them.
    """

    __slots__ = ("_subtrees", "size")

    def __init__(self) -> None:
        self.size = 0
        self._subtrees: list[bytes] = []  # roots of full subtrees, the largest (leftmost) first

    def append(self, leaf: bytes) -> None:
        """Adds a leaf hash."""
        hashed, size = leaf, self.size
        while size & 1:
            hashed = node_hash(self._subtrees.pop(), hashed)
            size >>= 1
        self._subtrees.append(hashed)
        self.size += 1

    def root(self) -> bytes:
        """The root of the tree over all leaves so far."""
        if not self._subtrees:
            return EMPTY_ROOT
        hashed = self._subtrees[-1]
        for subtree in reversed(self._subtrees[:-1]):
            hashed = node_hash(subtree, hashed)
        return hashed


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` (the leaf's sibling first) shows this leaf hash at `index` of the tree of `size`."""
    if not 0 <= index < size or len(leaf) != HASH_BYTES:
        return False
    fn, sn, hashed = index, size - 1, leaf
    for sibling in proof:
        if sn == 0 or len(sibling) != HASH_BYTES:
            return False
        if fn & 1 or fn == sn:
            hashed = node_hash(sibling, hashed)
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            hashed = node_hash(hashed, sibling)
        fn >>= 1
        sn >>= 1
    return sn == 0 and hashed == root


def verify_consistency(
    old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> bool:
    """Whether the tree of `new_size` leaves begins with the one of `old_size` leaves.

    From the empty tree the proof is empty; between equal sizes the roots are equal and the proof is empty.
    The root of size 0 is EMPTY_ROOT.
    """
    if not 0 <= old_size <= new_size or any(len(sibling) != HASH_BYTES for sibling in proof):
        return False
    if old_size == 0 and old_root != EMPTY_ROOT:
        return False
    if old_size == new_size:
        return not proof and old_root == new_root
    if old_size == 0:
        return not proof
    if not proof:
        return False
    path = list(proof)
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)  # the old tree is a whole subtree: its root is where the proof starts
    fn, sn = old_size - 1, new_size - 1
    while fn & 1:
        fn >>= 1
        sn >>= 1
    old_hashed = new_hashed = path[0]
    for sibling in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            old_hashed = node_hash(sibling, old_hashed)
            new_hashed = node_hash(sibling, new_hashed)
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            new_hashed = node_hash(new_hashed, sibling)
        fn >>= 1
        sn >>= 1
    return sn == 0 and old_hashed == old_root and new_hashed == new_root
