from __future__ import annotations

import random

import pytest

from aitbc.core.log.merkle import (
    EMPTY_ROOT,
    Frontier,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from tests.core.merkle_reference import Tree

# The eight leaves, roots and proofs that Certificate Transparency's implementations test themselves with.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
H01 = "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
H1 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
H23 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
H4 = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
H45 = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
H67 = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
H47 = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
H03 = "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"
INCLUSION = [
    (0, 1, []),
    (0, 8, [H1, H23, H47]),
    (5, 8, [H4, H67, H03]),
    (2, 3, [H01]),
    (1, 5, [ROOTS[1], H23, H4]),
]
CONSISTENCY = [
    (1, 1, []),
    (1, 8, [H1, H23, H47]),
    (6, 8, [H45, H67, H03]),
    (2, 5, [H23, H4]),
]
HASHES = [leaf_hash(leaf) for leaf in LEAVES]
SIZE = 130
TREE = Tree([f"leaf {number}".encode() for number in range(SIZE)])
TREE_HASHES = [leaf_hash(leaf) for leaf in TREE.leaves]


def unhex(texts: list[str]) -> list[bytes]:
    return [bytes.fromhex(text) for text in texts]


@pytest.mark.parametrize("size", range(9))
def test_known_roots(size: int) -> None:
    assert root_of(HASHES[:size]).hex() == ROOTS[size]
    frontier = Frontier()
    for hashed in HASHES[:size]:
        frontier.append(hashed)
    assert (frontier.root().hex(), frontier.size) == (ROOTS[size], size)
    assert Tree(LEAVES).root(size).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size", "proof"), INCLUSION)
def test_known_inclusion_proofs(index: int, size: int, proof: list[str]) -> None:
    assert Tree(LEAVES).path(index, size) == unhex(proof)
    assert verify_inclusion(index, size, HASHES[index], unhex(proof), bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("old", "new", "proof"), CONSISTENCY)
def test_known_consistency_proofs(old: int, new: int, proof: list[str]) -> None:
    assert Tree(LEAVES).proof(old, new) == unhex(proof)
    assert verify_consistency(old, new, unhex(proof), bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new]))


def test_leaves_and_nodes_are_kept_apart() -> None:
    assert EMPTY_ROOT.hex() == ROOTS[0]
    assert leaf_hash(HASHES[0] + HASHES[1]) != node_hash(HASHES[0], HASHES[1])


def test_every_leaf_is_proven_at_its_place_and_at_no_other() -> None:
    frontier = Frontier()
    for size in range(1, SIZE + 1):
        frontier.append(TREE_HASHES[size - 1])
        root = TREE.root(size)
        assert frontier.root() == root
        for index in range(size):
            proof = TREE.path(index, size)
            assert verify_inclusion(index, size, TREE_HASHES[index], proof, root)
        if size % 16 < 3:
            proof = TREE.path(size // 2, size)
            leaf = TREE_HASHES[size // 2]
            right = [at for at in range(-1, size + 2) if verify_inclusion(at, size, leaf, proof, root)]
            assert right == [size // 2]


def test_every_size_is_consistent_with_every_later_one() -> None:
    for new in range(1, SIZE + 1):
        for old in range(1, new + 1):
            assert verify_consistency(old, new, TREE.proof(old, new), TREE.root(old), TREE.root(new))
    for new in range(SIZE + 1):
        assert verify_consistency(0, new, [], EMPTY_ROOT, TREE.root(new))


def variants(proof: list[bytes]) -> list[list[bytes]]:
    """Proofs that are nearly this one."""
    near = [[*proof, bytes(32)], [bytes(32), *proof]]
    for number, hashed in enumerate(proof):
        near.append(proof[:number] + proof[number + 1 :])
        near.append([*proof[:number], bytes([hashed[0] ^ 1]) + hashed[1:], *proof[number + 1 :]])
        near.append([*proof[:number], hashed[:31], *proof[number + 1 :]])
        near.append([*proof[:number], hashed + b"\x00", *proof[number + 1 :]])
        near.append([*proof[:number], hashed, hashed, *proof[number + 1 :]])
    near += [proof[::-1]] if len(set(proof)) > 1 else []
    return near


def test_no_other_proof_leaf_root_or_size_passes() -> None:
    pick = random.Random(6962)
    for _ in range(60):
        size = pick.randint(2, SIZE)
        index, old = pick.randrange(size), pick.randint(1, size - 1)
        root, leaf = TREE.root(size), TREE_HASHES[index]
        path, proof = TREE.path(index, size), TREE.proof(old, size)
        for wrong in variants(path):
            assert not verify_inclusion(index, size, leaf, wrong, root)
        for wrong in variants(proof):
            assert not verify_consistency(old, size, wrong, TREE.root(old), root)
        assert not verify_inclusion(index, size, leaf_hash(b"x"), path, root)
        assert not verify_inclusion(index, size, leaf, path, leaf_hash(b"x"))
        assert not verify_consistency(old, size, proof, leaf_hash(b"x"), root)
        assert not verify_consistency(old, size, proof, TREE.root(old), leaf_hash(b"x"))
        assert not verify_consistency(size, old, proof, root, TREE.root(old))


def test_sizes_and_lengths_that_cannot_be() -> None:
    root = TREE.root(1)
    assert not verify_inclusion(0, 0, root, [], EMPTY_ROOT)
    assert not verify_inclusion(-1, 1, root, [], root)
    assert not verify_inclusion(0, 1, root[:31], [], root[:31])
    assert not verify_inclusion(0, 1, root, [bytes(32)] * 100, root)
    assert not verify_consistency(-1, 1, [], EMPTY_ROOT, root)
    assert not verify_consistency(0, 1, [], root, root)
    assert not verify_consistency(0, 0, [], root, root)
    assert not verify_consistency(0, 1, [bytes(32)], EMPTY_ROOT, root)
    assert not verify_consistency(1, 1, [bytes(32)], root, root)
    assert not verify_consistency(1, 1, [], root, TREE.root(2))
    assert not verify_consistency(1, 2, [], root, TREE.root(2))
    assert not verify_consistency(2, 3, [], root, TREE.root(3))


def test_an_inner_node_is_no_leaf() -> None:
    """A proof cut short would show an inner node as if it were a leaf of a smaller tree."""
    path = TREE.path(0, 64)
    inner = node_hash(TREE_HASHES[0], TREE_HASHES[1])
    for index in range(64):
        assert not verify_inclusion(index, 64, inner, path[1:], TREE.root(64))
