"""A log made of nothing but hashes, which can show a witness any of its trees, or a fork of one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from aitbc.core.log.checkpoint import Checkpoint, cosignature_time
from aitbc.core.log.note import COSIGNATURE_V1, Note, Verifier, parse_note, parse_signature_line, sign_note
from aitbc.core.log.witness_protocol import format_request
from aitbc.core.signing import PrivateKey
from tests.core.merkle_reference import Tree

ORIGIN = "aitbc/test"
KEY = PrivateKey.from_seed(b"\x05" * 32)
WITNESS_KEY = PrivateKey.from_seed(b"\x06" * 32)
WITNESS = Verifier("witness.example/w1", WITNESS_KEY.public_bytes, COSIGNATURE_V1)


@dataclass
class Log:
    """Leaves 0..; from `fork` on they are others than everybody else's."""

    fork: int = 1 << 30
    origin: str = ORIGIN
    key: PrivateKey = field(default_factory=lambda: KEY)

    def tree(self, size: int) -> Tree:
        return Tree([b"leaf %d" % i if i < self.fork else b"forged %d" % i for i in range(size)])

    @property
    def verifier(self) -> Verifier:
        return Verifier(self.origin, self.key.public_bytes)

    def text(self, size: int, root: bytes | None = None) -> str:
        return Checkpoint(self.origin, size, root or self.tree(size).root(size)).to_text()

    def note(self, size: int, root: bytes | None = None) -> str:
        text = self.text(size, root)
        return str(Note(text, (sign_note(text, self.origin, self.key),)))

    def proof(self, old: int, size: int) -> list[bytes]:
        return self.tree(size).proof(old, size) if 0 < old <= size else []

    def request(self, old: int, size: int) -> str:
        return format_request(old, self.proof(old, size), self.note(size))


def cosigned_at(note: str, lines: str, witness: Verifier = WITNESS) -> int | None:
    """When the witness cosigned the note's text, by the lines of its answer."""
    assert lines.startswith("\u2014 ") and lines.endswith("\n")
    signatures = tuple(parse_signature_line(line) for line in lines[:-1].split("\n"))
    return cosignature_time(Note(parse_note(note).text, signatures), witness)


def origin_hash(origin: str = ORIGIN) -> str:
    return hashlib.sha256(origin.encode()).hexdigest()
