"""C2SP checkpoints (signed tree heads) and the witnesses' cosignatures on them."""

from __future__ import annotations

from dataclasses import dataclass

from aitbc.core.merkle import HASH_BYTES
from aitbc.core.note import COSIGNATURE_V1, Note, NoteInvalid, NoteSignature, Verifier, note_key_id
from aitbc.core.signing import PrivateKey, decode_b64, encode_b64, verify

MAX_SIZE = (1 << 63) - 1
_TIME_BYTES = 8


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: which log, how many leaves, which root (32 bytes). We write no extension lines."""

    origin: str
    size: int
    root: bytes

    def to_text(self) -> str:
        """The note's text."""
        return f"{self.origin}\n{self.size}\n{encode_b64(self.root)}\n"


def parse_checkpoint(text: str) -> Checkpoint:
    """The tree head of a checkpoint's note text; extension lines are allowed and ignored. NoteInvalid."""
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1] or any(not line for line in lines[:-1]):
        raise NoteInvalid("a checkpoint is an origin, a size and a root, a line each")
    origin, size_text, root_text = lines[:3]
    if not (size_text.isascii() and size_text.isdigit() and len(size_text) < 20):
        raise NoteInvalid("the tree size is not a number")
    size = int(size_text)
    if str(size) != size_text or size > MAX_SIZE:
        raise NoteInvalid("the tree size has leading zeroes or is too large")
    try:
        root = decode_b64(root_text)
    except ValueError:
        raise NoteInvalid("the root is not base64") from None
    if len(root) != HASH_BYTES:
        raise NoteInvalid("the root is not a SHA-256 hash")
    return Checkpoint(origin, size, root)


def cosign(text: str, name: str, key: PrivateKey, at_s: int) -> NoteSignature:
    """A witness's cosignature/v1 line: as of `at_s` (unix seconds) this is the largest tree it has seen."""
    signed = at_s.to_bytes(_TIME_BYTES, "big") + key.sign(_cosigned(text, at_s))
    return NoteSignature(name, note_key_id(name, COSIGNATURE_V1, key.public_bytes), signed)


def cosignature_time(note: Note, witness: Verifier) -> int | None:
    """When the witness cosigned (unix seconds); None where it did not.

    NoteInvalid where a line names the witness and its signature is wrong.
    """
    newest: int | None = None
    for line in note.by(witness):
        at_s = int.from_bytes(line.signature[:_TIME_BYTES], "big")
        message = _cosigned(note.text, at_s)
        if not 0 < at_s <= MAX_SIZE or not verify(
            witness.public_bytes, message, line.signature[_TIME_BYTES:]
        ):
            raise NoteInvalid(f"the cosignature by {witness.name} is wrong")
        newest = at_s if newest is None else max(newest, at_s)
    return newest


def _cosigned(text: str, at_s: int) -> bytes:
    return f"cosignature/v1\ntime {at_s}\n{text}".encode()
