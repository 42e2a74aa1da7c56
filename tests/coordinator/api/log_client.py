"""A client of the log, written from the C2SP texts: nothing of `aitbc` that reads tiles, notes or proofs."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import NamedTuple

import httpx
from nacl.signing import VerifyKey

Get = Callable[[str], httpx.Response]


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


class Head(NamedTuple):
    """A verified checkpoint."""

    origin: str
    size: int
    root: bytes


def verified(note: str, vkey: str) -> Head:
    """The checkpoint, if the key of this verifier key signed it."""
    name, key_hash, key = vkey.split("+", 2)
    typed = base64.b64decode(key)
    assert typed[0] == 1 and sha256(name.encode() + b"\n" + typed)[:4].hex() == key_hash
    text, signatures = note.split("\n\n")
    text += "\n"
    for line in signatures.splitlines():
        dash, signer, encoded = line.split(" ")
        data = base64.b64decode(encoded)
        if dash == "\u2014" and signer == name and data[:4].hex() == key_hash:
            VerifyKey(typed[1:]).verify(text.encode(), data[4:])
            origin, size, root = text.splitlines()
            return Head(origin, int(size), base64.b64decode(root))
    raise AssertionError("no signature of this key")


def tile_name(level: str, index: int, width: int) -> str:
    groups = [f"{index % 1000:03d}"]
    while index := index // 1000:
        groups.insert(0, f"x{index % 1000:03d}")
    return f"/log/tile/{level}/{'/'.join(groups)}" + ("" if width == 256 else f".p/{width}")


def names_of(level: int, size: int) -> list[tuple[int, int]]:
    """(index, width) of the tiles that a tree of `size` has on a level."""
    count = size // 256**level
    full = [(index, 256) for index in range(count // 256)]
    return [*full, (count // 256, count % 256)] if count % 256 else full


def entries_of(bundle: bytes) -> list[bytes]:
    found = []
    while bundle:
        length = int.from_bytes(bundle[:2], "big")
        assert len(bundle) >= 2 + length
        found.append(bundle[2 : 2 + length])
        bundle = bundle[2 + length :]
    return found


def hashes_of(tile: bytes) -> list[bytes]:
    assert len(tile) % 32 == 0
    return [tile[at : at + 32] for at in range(0, len(tile), 32)]


def root_of(hashes: list[bytes]) -> bytes:
    if len(hashes) == 1:
        return hashes[0]
    k = 1 << (len(hashes) - 1).bit_length() - 1
    return sha256(b"\x01" + root_of(hashes[:k]) + root_of(hashes[k:]))


def data_of(answer: httpx.Response) -> bytes:
    """An immutable resource."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "immutable" in answer.headers["cache-control"]
    return answer.content


def read_log(get: Get, vkey: str) -> tuple[Head, list[bytes]]:
    """The whole log, every resource that a tree of its size has; verified. Its entries."""
    answer = get("/log/checkpoint")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "immutable" not in answer.headers["cache-control"]
    head = verified(answer.text, vkey)
    entries: list[bytes] = []
    hashes: list[bytes] = []
    for index, width in names_of(0, head.size):
        bundle = entries_of(data_of(get(tile_name("entries", index, width))))
        tile = hashes_of(data_of(get(tile_name("0", index, width))))
        assert [sha256(b"\x00" + entry) for entry in bundle] == tile and len(tile) == width
        entries += bundle
        hashes += tile
    level, below = 1, hashes
    while head.size >> 8 * level:
        below = [root_of(below[at : at + 256]) for at in range(0, len(below) // 256 * 256, 256)]
        stored = [
            hashes_of(data_of(get(tile_name(str(level), *name)))) for name in names_of(level, head.size)
        ]
        assert [hashed for tile in stored for hashed in tile] == below
        level += 1
    assert root_of(hashes) == head.root
    return head, entries
