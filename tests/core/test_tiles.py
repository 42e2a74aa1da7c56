from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.core.log import tiles
from aitbc.core.log.merkle import EMPTY_ROOT, leaf_hash, verify_consistency, verify_inclusion
from aitbc.core.log.tiles import ENTRIES, ProofError, Tile, parse_tile_path, tile_path
from tests.core.merkle_reference import Tree

BIG = 70_000
TREE = Tree([number.to_bytes(4, "big") for number in range(BIG)])
HASHES = [leaf_hash(leaf) for leaf in TREE.leaves]


class Store:
    """Tiles as a database keeps them, which counts what is read."""

    def __init__(self) -> None:
        self.size = 0
        self.tiles: dict[Tile, bytes] = {}
        self.reads: list[Sequence[Tile]] = []

    def read(self, wanted: Sequence[Tile]) -> Mapping[Tile, bytes]:
        self.reads.append(wanted)
        return {tile: self.tiles[tile] for tile in wanted if tile in self.tiles}

    def grow(self, hashes: Sequence[bytes]) -> dict[Tile, bytes]:
        edge = {tile: self.tiles[tile] for tile in tiles.right_edge(self.size)}
        changed = tiles.grow(self.size, hashes, edge)
        self.tiles.update(changed)
        self.size += len(hashes)
        return changed


def store_of(size: int) -> Store:
    store = Store()
    store.grow(HASHES[:size])
    return store


def tile_as_defined(size: int, level: int, index: int) -> bytes:
    """The tile in the words of tlog-tiles: the MTHs of the full subtrees of 256**level leaves."""
    span = 256**level
    starts = (n * span for n in range(index * 256, (index + 1) * 256))
    return b"".join(TREE.mth(start, start + span) for start in starts if start + span <= size)


@pytest.fixture(scope="module")
def big() -> Store:
    return store_of(BIG)


def test_a_tree_of_70000_has_the_tiles_of_the_specification(big: Store) -> None:
    widths: dict[int, list[int]] = {}
    for (level, _), data in sorted(big.tiles.items()):
        widths.setdefault(level, []).append(len(data) // 32)
    assert widths == {0: [256] * 273 + [112], 1: [256, 17], 2: [1]}
    assert tiles.right_edge(BIG) == [(0, 273), (1, 1), (2, 0)]
    assert set(store_of(256).tiles) == {(0, 0), (1, 0)}
    assert tiles.right_edge(256) == [(1, 0)]
    for tile in ((0, 0), (0, 272), (0, 273), (1, 0), (1, 1), (2, 0)):
        assert big.tiles[tile] == tile_as_defined(BIG, *tile)
        assert tiles.width_in(BIG, *tile) == len(big.tiles[tile]) // 32
    assert tiles.width_in(BIG, 0, 274) == tiles.width_in(BIG, 2, 1) == tiles.width_in(BIG, 3, 0) == 0


def test_growing_in_any_steps_gives_the_same_tiles() -> None:
    pick = random.Random(8)
    store, at = Store(), 0
    for step in (0, 1, 1, 253, 1, 1, 255, 256, 257, 512, *(pick.randint(1, 900) for _ in range(12))):
        old, before = dict(store.tiles), store.size
        changed = store.grow(HASHES[at : at + step])
        at += step
        assert store.tiles == store_of(at).tiles
        assert tiles.root(at, store.read) == TREE.root(at)
        for tile, data in changed.items():
            assert data.startswith(old.get(tile, b"")), "a tile only grows"
            assert len(data) == 32 * tiles.width_in(at, *tile) > 32 * tiles.width_in(before, *tile)
        assert len(changed) <= step / 256 + step / 65536 + 4, "O(new + log size) tiles"
    for (level, index), data in store.tiles.items():
        assert data == tile_as_defined(at, level, index)


def test_every_proof_up_to_300_leaves() -> None:
    store = store_of(300)
    for size in range(1, 301):
        # Every size near the powers of two and the tile's edge; of the others every 29th leaf.
        step = 1 if size < 34 or 255 <= size <= 257 else 29
        root = TREE.root(size)
        assert tiles.root(size, store.read) == root
        for index in range(size % step, size, step):
            assert tiles.inclusion_proof(index, size, store.read) == TREE.path(index, size)
            if index:
                assert tiles.consistency_proof(index, size, store.read) == TREE.proof(index, size)
        assert tiles.consistency_proof(0, size, store.read) == []
        assert tiles.consistency_proof(size, size, store.read) == []
    assert tiles.root(0, store.read) == EMPTY_ROOT


def test_random_proofs_of_a_big_tree_read_few_tiles(big: Store) -> None:
    pick = random.Random(70)
    edges = [1, 2, 255, 256, 257, 65535, 65536, 65537, BIG - 1, BIG]
    sizes = [pick.choice(edges) if pick.random() < 0.3 else pick.randint(1, BIG) for _ in range(80)]
    for size in sizes:
        index, old = pick.randrange(size), pick.randint(1, size)
        root = TREE.root(size)
        for proof in (
            tiles.inclusion_proof(index, size, big.read),
            tiles.consistency_proof(old, size, big.read),
        ):
            assert len(proof) <= 18
        big.reads.clear()
        inclusion = tiles.inclusion_proof(index, size, big.read)
        assert inclusion == TREE.path(index, size)
        assert verify_inclusion(index, size, HASHES[index], inclusion, root)
        consistency = tiles.consistency_proof(old, size, big.read)
        assert consistency == TREE.proof(old, size)
        assert verify_consistency(old, size, consistency, TREE.root(old), root)
        assert tiles.root(size, big.read) == root
        assert len(big.reads) <= 3, "one read each"
        for wanted in big.reads:
            assert len(wanted) <= 2 * 3, "at most two tiles of each level"
            assert len(set(wanted)) == len(wanted)


def test_a_tree_of_a_billion_leaves_asks_for_few_tiles() -> None:
    asked: list[Tile] = []

    def read(wanted: Sequence[Tile]) -> Mapping[Tile, bytes]:
        asked.extend(wanted)
        return {tile: bytes(tiles.TILE_BYTES) for tile in wanted}

    for size in (2**30, 2**30 + 1, 10**9, 2**62 + 12345):
        levels = (size.bit_length() + 7) // 8
        for old in (1, 3, size // 3, size - 1):
            asked.clear()
            assert len(tiles.inclusion_proof(old, size, read)) <= size.bit_length()
            assert len(tiles.consistency_proof(old, size, read)) <= size.bit_length() + 1
            assert len(asked) <= 4 * levels
            for level, index in asked:
                assert tiles.width_in(size, level, index) > 0


def test_what_is_missing_is_said() -> None:
    store = store_of(300)
    for index, size in ((0, 0), (5, 5), (-1, 5)):
        with pytest.raises(ProofError):
            tiles.inclusion_proof(index, size, store.read)
    for old, new in ((5, 4), (-1, 4), (301, 302), (300, 301)):
        with pytest.raises(ProofError):
            tiles.consistency_proof(old, new, store.read)
    with pytest.raises(ProofError):
        tiles.inclusion_proof(0, 301, store.read)
    with pytest.raises(ProofError):
        tiles.root(301, store.read)
    with pytest.raises(ProofError):
        tiles.root(300, lambda wanted: {})
    with pytest.raises(ProofError):
        tiles.grow(300, HASHES[:1], {})
    with pytest.raises(ProofError):
        tiles.grow(300, HASHES[:1], {(0, 1): bytes(32 * 43)})
    with pytest.raises(ValueError):
        tiles.grow(0, [b"short"], {})


def test_a_tile_that_is_ahead_of_the_tree_does_no_harm() -> None:
    """The sealer may have been cut off after the tiles were written: only their first hashes count."""
    ahead = store_of(700)
    store = store_of(290)
    edge = {tile: ahead.tiles[tile] for tile in tiles.right_edge(290)}
    assert tiles.grow(290, HASHES[290:300], edge) == store.grow(HASHES[290:300])
    assert tiles.root(290, ahead.read) == TREE.root(290)


@pytest.mark.parametrize(
    ("path", "level", "index", "width"),
    [
        ("0/000", 0, 0, 256),
        ("0/x001/x234/067", 0, 1234067, 256),
        ("0/x001/x234/067.p/1", 0, 1234067, 1),
        ("63/999.p/255", 63, 999, 255),
        ("1/x001/000", 1, 1000, 256),
        ("entries/x001/x234/067", ENTRIES, 1234067, 256),
        ("entries/273.p/112", ENTRIES, 273, 112),
        ("0/x036/x028/x797/x018/x963/967", 0, 2**55 - 1, 256),
    ],
)
def test_paths_both_ways(path: str, level: int, index: int, width: int) -> None:
    assert tile_path(level, index, width) == path
    assert parse_tile_path(path) == (level, index, width)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "0",
        "0/",
        "0/0",
        "0/00",
        "0/0000",
        "0/x000",
        "0/x000/001",
        "0/001/002",
        "0/x001/x002",
        "00/000",
        "64/000",
        "-1/000",
        "0/000.p/0",
        "0/000.p/256",
        "0/000.p/01",
        "0/000.p/",
        "0/000.p/999",
        "0/000.p",
        "0/000\n",
        "0/000 ",
        "/0/000",
        "0/000/",
        "data/000",
        "Entries/000",
        "0/\u0660\u0660\u0660",
        "0/x036/x028/x797/x018/x963/968",
        "0/" + "x001/" * 3000 + "000",
    ],
)
def test_no_other_path_is_a_tile(path: str) -> None:
    with pytest.raises(ValueError):
        parse_tile_path(path)


@pytest.mark.parametrize(
    ("level", "index", "width"), [(-2, 0, 1), (64, 0, 1), (0, -1, 1), (0, 2**55, 1), (0, 0, 0), (0, 0, 257)]
)
def test_tiles_that_cannot_be_have_no_path(level: int, index: int, width: int) -> None:
    with pytest.raises(ValueError):
        tile_path(level, index, width)


@settings(max_examples=100, deadline=None)
@given(st.integers(-1, 63), st.integers(0, 2**55 - 1), st.integers(1, 256))
def test_every_tile_has_one_path(level: int, index: int, width: int) -> None:
    assert parse_tile_path(tile_path(level, index, width)) == (level, index, width)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=30), st.text("0123456789x/.p-", max_size=30)))
def test_reading_a_path_fails_in_one_way(text: str) -> None:
    try:
        found = parse_tile_path(text)
    except ValueError:
        return
    assert tile_path(*found) == text
