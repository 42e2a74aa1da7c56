"""The tree as C2SP tlog-tiles store it: tiles of up to 256 hashes, and proofs read from few of them.

A tile is addressed by (level, index); its n-th hash is the root of a full subtree of 256**level leaves. Only
the tiles on the right edge are ever partial, so that growing the tree rewrites those and adds new ones.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from aitbc.core.log.merkle import EMPTY_ROOT, HASH_BYTES, node_hash

HEIGHT = 8
WIDTH = 1 << HEIGHT
TILE_BYTES = WIDTH * HASH_BYTES
MAX_LEVEL = 63
MAX_INDEX = (1 << (63 - HEIGHT)) - 1
"""A tree has fewer than 2**63 leaves, so no level has a tile beyond this one."""

Tile = tuple[int, int]
"""(level, index)."""

Node = tuple[int, int]
"""(height, index): the root of the full subtree over leaves [index << height, (index + 1) << height)."""

Read = Callable[[Sequence[Tile]], Mapping[Tile, bytes]]
"""Reads stored tiles; each holds at least the hashes that the tree's size demands. Missing ones: left out."""

_sha256 = hashlib.sha256
_PAIR = 2 * HASH_BYTES
_PATH = re.compile(r"(0|[1-9][0-9]?|entries)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII)
ENTRIES = -1
"""The level under which `parse_tile_path` reports entry bundles."""


class ProofError(ValueError):
    """The sizes are out of range, or a tile lacks hashes that the tree must have."""


def tile_path(level: int, index: int, width: int = WIDTH) -> str:
    """The path below `tile/`, such as `0/x001/234.p/17`; level ENTRIES for entry bundles.

    ValueError: a level, index or width that no tile has.
    """
    if not (ENTRIES <= level <= MAX_LEVEL and 0 <= index <= MAX_INDEX and 0 < width <= WIDTH):
        raise ValueError("no tile has this level, index or width")
    groups = [f"{index % 1000:03d}"]
    rest = index // 1000
    while rest:
        groups.insert(0, f"x{rest % 1000:03d}")
        rest //= 1000
    name = "entries" if level == ENTRIES else str(level)
    return f"{name}/{'/'.join(groups)}" + (f".p/{width}" if width != WIDTH else "")


def parse_tile_path(text: str) -> tuple[int, int, int]:
    """(level, index, width) of a path below `tile/`. ValueError where it is not the path of a tile."""
    match = _PATH.fullmatch(text)
    if match is None:
        raise ValueError("not a tile's path")
    name, groups, partial = match.groups()
    level = ENTRIES if name == "entries" else int(name)
    digits = groups.replace("x", "").replace("/", "")
    index = int(digits) if len(digits) <= 18 else MAX_INDEX + 1
    width = int(partial) if partial else WIDTH
    # The one spelling: no leading groups of zeroes, no .p/256.
    if tile_path(level, index, width) != text:
        raise ValueError("not a tile's path")
    return level, index, width


def width_in(size: int, level: int, index: int) -> int:
    """How many hashes the tile has in a tree of `size` leaves (0: it does not exist)."""
    return max(0, min(WIDTH, (size >> (HEIGHT * level)) - index * WIDTH))


def right_edge(size: int) -> list[Tile]:
    """The partial tiles of a tree of `size` leaves."""
    tiles: list[Tile] = []
    level = 0
    while size >> (HEIGHT * level):
        count = size >> (HEIGHT * level)
        if count % WIDTH:
            tiles.append((level, count // WIDTH))
        level += 1
    return tiles


def grow(size: int, new_leaves: Sequence[bytes], edge: Mapping[Tile, bytes]) -> dict[Tile, bytes]:
    """The tiles that change when `new_leaves` (hashes) are appended to a tree of `size`, whole.

    `edge` holds the tiles of `right_edge(size)`. Costs O(new + log size). ProofError where `edge` lacks one,
    ValueError where a new leaf is no hash.
    """
    if any(len(leaf) != HASH_BYTES for leaf in new_leaves):
        raise ValueError("a leaf hash has another length")
    changed: dict[Tile, bytes] = {}
    entries: list[bytes] = list(new_leaves)
    start, level = size, 0
    while entries:
        first, offset = divmod(start, WIDTH)
        stored = edge.get((level, first), b"")[: offset * HASH_BYTES] if offset else b""
        if len(stored) != offset * HASH_BYTES:
            raise ProofError("a tile of the right edge is missing")
        data = stored + b"".join(entries)
        above: list[bytes] = []
        for number, at in enumerate(range(0, len(data), TILE_BYTES)):
            tile = data[at : at + TILE_BYTES]
            changed[level, first + number] = tile
            if len(tile) == TILE_BYTES:
                above.append(_full_root(tile))
        entries, start, level = above, start >> HEIGHT, level + 1
    return changed


def root(size: int, read: Read) -> bytes:
    """The root of the tree of `size` leaves. ProofError."""
    if size == 0:
        return EMPTY_ROOT
    return _range_hashes([(0, size)], read)[0]


def inclusion_proof(index: int, size: int, read: Read) -> list[bytes]:
    """RFC 6962 audit path of the leaf at `index` in the tree of `size`, its sibling first. ProofError."""
    if not 0 <= index < size:
        raise ProofError(f"there is no leaf {index} in a tree of {size}")
    ranges: list[tuple[int, int]] = []
    low, high = 0, size
    while high - low > 1:
        split = low + _split(high - low)
        if index < split:
            ranges.append((split, high))
            high = split
        else:
            ranges.append((low, split))
            low = split
    ranges.reverse()
    return _range_hashes(ranges, read)


def consistency_proof(old_size: int, new_size: int, read: Read) -> list[bytes]:
    """RFC 6962 proof that the tree of `new_size` begins with that of `old_size`. ProofError."""
    if not 0 <= old_size <= new_size:
        raise ProofError(f"a tree of {new_size} does not contain one of {old_size}")
    if old_size in (0, new_size):
        return []
    ranges: list[tuple[int, int]] = []
    low, high, whole = 0, new_size, True
    while old_size != high:
        split = low + _split(high - low)
        if old_size <= split:
            ranges.append((split, high))
            high = split
        else:
            ranges.append((low, split))
            low, whole = split, False
    if not whole:
        ranges.append((low, high))
    ranges.reverse()
    return _range_hashes(ranges, read)


def _split(count: int) -> int:
    """The largest power of two below `count` (at least 2)."""
    return 1 << ((count - 1).bit_length() - 1)


def _cover(low: int, high: int) -> list[Node]:
    """Full subtrees, left to right, that make up leaves [low, high); `low` is aligned to the span."""
    nodes: list[Node] = []
    while low < high:
        height = (high - low).bit_length() - 1
        nodes.append((height, low >> height))
        low += 1 << height
    return nodes


def _range_hashes(ranges: Sequence[tuple[int, int]], read: Read) -> list[bytes]:
    covers = [_cover(low, high) for low, high in ranges]
    hashes = _load([node for cover in covers for node in cover], read)
    return [_fold(cover, hashes) for cover in covers]


def _fold(nodes: Sequence[Node], hashes: Mapping[Node, bytes]) -> bytes:
    hashed = hashes[nodes[-1]]
    for node in reversed(nodes[:-1]):
        hashed = node_hash(hashes[node], hashed)
    return hashed


def _load(nodes: Iterable[Node], read: Read) -> dict[Node, bytes]:
    """The hashes of these nodes, from one read of the tiles that hold them."""
    wanted = set(nodes)
    tiles = read(sorted({_place(node)[0] for node in wanted}))
    hashes: dict[Node, bytes] = {}
    for node in wanted:
        tile, offset, count = _place(node)
        data = tiles.get(tile, b"")[offset * HASH_BYTES : (offset + count) * HASH_BYTES]
        if len(data) != count * HASH_BYTES:
            raise ProofError("a tile lacks hashes that the tree must have")
        hashes[node] = _full_root(data)
    return hashes


def _place(node: Node) -> tuple[Tile, int, int]:
    """Where a node is: its tile, and the run of that tile's hashes (offset, count) that it is the root of."""
    height, index = node
    level, rest = divmod(height, HEIGHT)
    first = index << rest
    return (level, first // WIDTH), first % WIDTH, 1 << rest


def _full_root(data: bytes) -> bytes:
    """The root over 2**n concatenated hashes. This is where the time goes, hence no calls and no lists."""
    while len(data) > HASH_BYTES:
        data = b"".join(
            [_sha256(b"\x01" + data[at : at + _PAIR]).digest() for at in range(0, len(data), _PAIR)]
        )
    return data
