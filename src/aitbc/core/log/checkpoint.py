"""C2SP checkpoints (signed tree heads) and the witnesses' cosignatures on them."""

from __future__ import annotations

from dataclasses import dataclass

from aitbc.core.log.merkle import HASH_BYTES
from aitbc.core.log.note import (
    COSIGNATURE_V1,
    Note,
    NoteInvalid,
    NoteSignature,
    Verifier,
    name_is_valid,
    note_key_id,
)
from aitbc.core.signing import PrivateKey, decode_b64, encode_b64, verify

MAX_SIZE = (1 << 63) - 1
_TIME_BYTES = 8


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: which log, how many leaves, which root (32 bytes). Our log writes no extension lines."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def to_text(self) -> str:
        """The note's text."""
        lines = (self.origin, str(self.size), encode_b64(self.root), *self.extensions)
        return "\n".join(lines) + "\n"


def parse_checkpoint(text: str) -> Checkpoint:
    """The tree head of a checkpoint's note text; its `to_text()` is `text` again. NoteInvalid."""
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
    return Checkpoint(origin, size, root, tuple(lines[3:-1]))


def cosign(text: str, name: str, key: PrivateKey, at_s: int) -> NoteSignature:
    """A witness's cosignature/v1 line: as of `at_s` (unix seconds) this is the largest tree it has seen.

    `text` is the checkpoint's note text. ValueError: a time that no cosignature has, a name that no key has.
    """
    if not 0 < at_s <= MAX_SIZE or not name_is_valid(name):
        raise ValueError("a cosignature has a time after 1970 and a key name")
    signed = at_s.to_bytes(_TIME_BYTES, "big") + key.sign(_cosigned(text, at_s))
    return NoteSignature(name, note_key_id(name, COSIGNATURE_V1, key.public_bytes), signed)


def cosignature_time(note: Note, witness: Verifier) -> int | None:
    """When the witness cosigned (unix seconds), the newest time of several; None where it did not.

    `witness` is a COSIGNATURE_V1 key, else ValueError. NoteInvalid where a line names it and is wrong.
    """
    if witness.kind != COSIGNATURE_V1:
        raise ValueError(f"{witness.name} is no cosignature key")
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
