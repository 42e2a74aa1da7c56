"""C2SP texts that carry proofs: tlog-proof, which shows offline that a leaf is in the log and who has seen
it, and the request by which a witness is asked to cosign (tlog-witness, add-checkpoint)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from aitbc.core.checkpoint import Checkpoint, parse_checkpoint
from aitbc.core.merkle import HASH_BYTES
from aitbc.core.note import Note, parse_note
from aitbc.core.signing import decode_b64, encode_b64

HEADER = "c2sp.org/tlog-proof@v1"
MAX_HASHES = 63
MAX_NUMBER = (1 << 63) - 1
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


class ProofInvalid(ValueError):
    """The text is not a tlog-proof, or not an add-checkpoint request."""


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


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """What a witness is asked: to go on from a tree of `old_size` to this checkpoint, with the proof."""

    old_size: int
    hashes: tuple[bytes, ...]
    checkpoint: Note
    head: Checkpoint


def format_proof(index: int, hashes: Sequence[bytes], checkpoint: str, extra: bytes | None = None) -> str:
    """The proof's text; `checkpoint` is the whole signed note."""
    lines = [HEADER] if extra is None else [HEADER, f"extra {encode_b64(extra)}"]
    lines += [f"index {index}", *map(encode_b64, hashes)]
    return "\n".join(lines) + "\n\n" + checkpoint


def parse_proof(text: str) -> TlogProof:
    """Reads a tlog-proof; verifies nothing. ProofInvalid: what `format_proof` would not have written."""
    lines, checkpoint = _split(text)
    if lines[0] != HEADER:
        raise ProofInvalid(f"the first line is not {HEADER}")
    extra = None
    if len(lines) > 1 and lines[1].startswith("extra "):
        extra = _base64(lines.pop(1).removeprefix("extra "))
    index = _number(lines[1] if len(lines) > 1 else "", "index ")
    return TlogProof(index, _hashes(lines[2:]), *_checkpoint(checkpoint), extra)


def format_add_checkpoint(old_size: int, hashes: Sequence[bytes], checkpoint: str) -> str:
    """The body of a request to a witness; `checkpoint` is the whole signed note."""
    return "\n".join([f"old {old_size}", *map(encode_b64, hashes)]) + "\n\n" + checkpoint


def parse_add_checkpoint(text: str) -> AddCheckpoint:
    """Reads the body of such a request; verifies nothing. ProofInvalid."""
    lines, checkpoint = _split(text)
    return AddCheckpoint(_number(lines[0], "old "), _hashes(lines[1:]), *_checkpoint(checkpoint))


def _split(text: str) -> tuple[list[str], str]:
    head, separator, checkpoint = text.partition("\n\n")
    if not separator:
        raise ProofInvalid("no empty line before the checkpoint")
    return head.split("\n"), checkpoint


def _number(line: str, word: str) -> int:
    number = line.removeprefix(word)
    if number == line or _NUMBER.fullmatch(number) is None or int(number) > MAX_NUMBER:
        raise ProofInvalid(f"no line of {word!r} and a number without leading zeroes")
    return int(number)


def _hashes(lines: Sequence[str]) -> tuple[bytes, ...]:
    if len(lines) > MAX_HASHES:
        raise ProofInvalid(f"a proof has at most {MAX_HASHES} hashes")
    hashes = tuple(map(_base64, lines))
    if any(len(hashed) != HASH_BYTES for hashed in hashes):
        raise ProofInvalid("a hash has another length")
    return hashes


def _base64(line: str) -> bytes:
    try:
        return decode_b64(line)
    except ValueError as error:
        raise ProofInvalid(str(error)) from None


def _checkpoint(text: str) -> tuple[Note, Checkpoint]:
    try:
        note = parse_note(text)
        return note, parse_checkpoint(note.text)
    except ValueError as error:
        raise ProofInvalid(str(error)) from None
