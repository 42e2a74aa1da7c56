"""C2SP tlog-proof: one text that shows offline that a leaf is in the log and who has seen it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from aitbc.core.log.checkpoint import Checkpoint, parse_checkpoint
from aitbc.core.log.merkle import HASH_BYTES
from aitbc.core.log.note import Note, NoteInvalid, parse_note
from aitbc.core.signing import decode_b64, encode_b64

HEADER = "c2sp.org/tlog-proof@v1"
MAX_HASHES = 63
MAX_INDEX = (1 << 63) - 1
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})", re.ASCII)


class ProofInvalid(ValueError):
    """The text is not a tlog-proof."""


@dataclass(frozen=True, slots=True)
class TlogProof:
    """The leaf's index, its inclusion proof (sibling first), the checkpoint as a note and as a tree head.

    Nothing vouches for `extra`: anyone can change it.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: Note
    head: Checkpoint
    extra: bytes | None = None


def format_proof(index: int, hashes: Sequence[bytes], checkpoint: str, extra: bytes | None = None) -> str:
    """The proof's text; `checkpoint` is the whole signed note."""
    lines = [HEADER] if extra is None else [HEADER, f"extra {encode_b64(extra)}"]
    lines += [f"index {index}", *map(encode_b64, hashes)]
    return "\n".join(lines) + "\n\n" + checkpoint


def parse_proof(text: str) -> TlogProof:
    """Reads a tlog-proof; verifies nothing. ProofInvalid: what `format_proof` would not have written."""
    top, _, checkpoint = text.partition("\n\n")
    lines = top.split("\n")
    if lines.pop(0) != HEADER:
        raise ProofInvalid(f"the first line is not {HEADER}")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = _base64(lines.pop(0).removeprefix("extra "))
    index = _INDEX.fullmatch(lines.pop(0) if lines else "")
    if index is None or int(index[1]) > MAX_INDEX:
        raise ProofInvalid("no line of index and a number without leading zeroes")
    if len(lines) > MAX_HASHES:
        raise ProofInvalid(f"a proof has at most {MAX_HASHES} hashes")
    hashes = tuple(map(_base64, lines))
    if any(len(hashed) != HASH_BYTES for hashed in hashes):
        raise ProofInvalid("a hash has another length")
    try:
        note = parse_note(checkpoint)
        head = parse_checkpoint(note.text)
    except NoteInvalid as error:
        raise ProofInvalid(str(error)) from None
    return TlogProof(int(index[1]), hashes, note, head, extra)


def _base64(line: str) -> bytes:
    try:
        return decode_b64(line)
    except ValueError as error:
        raise ProofInvalid(str(error)) from None
