"""The log's formats read with nothing of `aitbc`: notes, cosignatures, proofs, as docs/formats has them."""

from __future__ import annotations

import base64
import hashlib
from typing import NamedTuple

from tests.core import ed25519_reference as ed25519


class Line(NamedTuple):
    """A signature line: key name, 4-byte key id, what follows it."""

    name: str
    key_id: bytes
    signature: bytes


class ReadNote(NamedTuple):
    """A note's text and its signature lines."""

    text: str
    lines: list[Line]


class ReadProof(NamedTuple):
    """A tlog-proof: index, hashes, the checkpoint's note and its three lines."""

    index: int
    hashes: list[bytes]
    note: ReadNote
    origin: str
    size: int
    root: bytes


def read_note(text: str) -> ReadNote:
    body, tail = text.split("\n\n")
    lines = []
    for line in tail.splitlines():
        dash, name, encoded = line.split(" ")
        assert dash == "\u2014"
        data = base64.b64decode(encoded)
        lines.append(Line(name, data[:4], data[4:]))
    return ReadNote(body + "\n", lines)


def read_proof(text: str) -> ReadProof:
    head, body, tail = text.split("\n\n")
    header, index, *hashes = head.split("\n")
    assert header == "c2sp.org/tlog-proof@v1"
    assert index.startswith("index ")
    note = read_note(f"{body}\n\n{tail}")
    origin, size, root = note.text.splitlines()
    return ReadProof(
        int(index[6:]),
        [base64.b64decode(line) for line in hashes],
        note,
        origin,
        int(size),
        base64.b64decode(root),
    )


def root_from_path(leaf_hash: bytes, m: int, n: int, path: list[bytes]) -> bytes:
    """What the root of n leaves must be if `path` is PATH(m, D[n]) of RFC 6962, section 2.1.1."""
    if n == 1:
        assert not path
        return leaf_hash
    k = 1
    while k * 2 < n:
        k *= 2
    *rest, last = path
    if m < k:
        return hashlib.sha256(b"\x01" + root_from_path(leaf_hash, m, k, rest) + last).digest()
    return hashlib.sha256(b"\x01" + last + root_from_path(leaf_hash, m - k, n - k, rest)).digest()


def key_id(name: str, kind: int, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


def vkey(name: str, kind: int, public: bytes) -> str:
    return f"{name}+{key_id(name, kind, public).hex()}+{base64.b64encode(bytes([kind]) + public).decode()}"


def is_signed(note: ReadNote, line: Line, name: str, public: bytes) -> bool:
    """Whether the line is this key's Ed25519 signature on the note."""
    named = (line.name, line.key_id) == (name, key_id(name, 1, public))
    return named and ed25519.verify(public, note.text.encode(), line.signature)


def cosigned_at(note: ReadNote, line: Line, name: str, public: bytes) -> int | None:
    """When this key cosigned the note, if the line says so and is true."""
    if (line.name, line.key_id) != (name, key_id(name, 4, public)) or len(line.signature) != 72:
        return None
    at_s = int.from_bytes(line.signature[:8], "big")
    message = f"cosignature/v1\ntime {at_s}\n{note.text}".encode()
    return at_s if ed25519.verify(public, message, line.signature[8:]) else None
