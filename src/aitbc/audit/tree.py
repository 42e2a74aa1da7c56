"""The tree over the leaves and every tile of it, recomputed leaf by leaf in O(log n) memory."""

from __future__ import annotations

from aitbc.core.log.merkle import HASH_BYTES, Frontier, root_of
from aitbc.core.log.tiles import TILE_BYTES, WIDTH, Tile, tile_path


class Tree:
    """Grows by one leaf hash at a time. `root` is right at any size.

    The root does not come from the tiles, so that a wrong tile cannot hide behind itself.
    """

    def __init__(self) -> None:
        self._frontier = Frontier()
        self._open: list[bytearray] = []  # the unfinished tile of each level
        self._finished: list[int] = []  # how many tiles of each level are whole

    @property
    def size(self) -> int:
        return self._frontier.size

    def root(self) -> bytes:
        return self._frontier.root()

    def append(self, hashed: bytes) -> list[tuple[Tile, bytes]]:
        """Adds a leaf hash; the tiles that it completed, from the leaves up."""
        self._frontier.append(hashed)
        done: list[tuple[Tile, bytes]] = []
        level = 0
        while True:
            if level == len(self._open):
                self._open.append(bytearray())
                self._finished.append(0)
            data = self._open[level]
            data += hashed
            if len(data) < TILE_BYTES:
                return done
            whole = bytes(data)
            done.append(((level, self._finished[level]), whole))
            data.clear()
            self._finished[level] += 1
            hashed = root_of([whole[at : at + HASH_BYTES] for at in range(0, TILE_BYTES, HASH_BYTES)])
            level += 1

    def edge(self) -> list[tuple[Tile, bytes]]:
        """The tiles that are not whole, as far as they go."""
        return [
            ((level, self._finished[level]), bytes(data)) for level, data in enumerate(self._open) if data
        ]

    def tiles(self) -> int:
        """How many tiles a tree of this size has."""
        return sum(self._finished) + len(self.edge())


def name_of(tile: Tile) -> str:
    """As a path has it: 0/x001/234."""
    return tile_path(*tile, WIDTH)
