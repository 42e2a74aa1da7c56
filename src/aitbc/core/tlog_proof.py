"""C2SP tlog-proof: one text that shows offline that a leaf is in the log and who has seen it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aitbc.core.merkle import HASH_BYTES
from aitbc.core.note import Note, NoteInvalid, parse_note
from aitbc.core.signing import decode_b64, encode_b64

HEADER = "c2sp.org/tlog-proof@v1"
MAX_HASHES = 63


class ProofInvalid(ValueError):
    """The text is not a tlog-proof."""


@dataclass(frozen=True, slots=True)
class TlogProof:
    """The leaf's index, its inclusion proof (sibling first) and the checkpoint's note."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: Note


def format_proof(index: int, hashes: Sequence[bytes], checkpoint: str) -> str:
    """The proof's text; `checkpoint` is the whole signed note."""
    lines = [HEADER, f"index {index}", *(encode_b64(hashed) for hashed in hashes)]
    return "\n".join(lines) + "\n\n" + checkpoint


def parse_proof(text: str) -> TlogProof:
    """ProofInvalid: anything that `format_proof` would not have written."""
    head, separator, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    if not separator or lines[0] != HEADER or len(lines) < 2 or len(lines) > 2 + MAX_HASHES:
        raise ProofInvalid("not a tlog-proof")
    word, _, number = lines[1].partition(" ")
    if word != "index" or not (number.isascii() and number.isdigit()) or len(number) > 19:
        raise ProofInvalid("the index is not a number")
    if str(int(number)) != number:
        raise ProofInvalid("the index has leading zeroes")
    try:
        hashes = tuple(decode_b64(line) for line in lines[2:])
        note = parse_note(checkpoint)
    except (ValueError, NoteInvalid) as error:
        raise ProofInvalid(str(error)) from None
    if any(len(hashed) != HASH_BYTES for hashed in hashes):
        raise ProofInvalid("a hash has another length")
    return TlogProof(int(number), hashes, note)
