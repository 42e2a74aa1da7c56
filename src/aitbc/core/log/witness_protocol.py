"""What travels between a log and its witnesses: the `add-checkpoint` request body (C2SP tlog-witness)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aitbc.core.log.merkle import HASH_BYTES
from aitbc.core.signing import decode_b64, encode_b64

MAX_HASHES = 63
MAX_REQUEST_BYTES = 512 * 1024
"""A checkpoint with 64 signatures of 5,000 bytes, as post-quantum ones have, and a proof of 63 hashes."""
SIZE_TYPE = "text/x.tlog.size"


class RequestInvalid(ValueError):
    """The body is not an add-checkpoint request."""


class AddCheckpoint(NamedTuple):
    """The size that the witness is thought to know, the proof from there, and the new checkpoint's note."""

    old_size: int
    proof: tuple[bytes, ...]
    checkpoint: str


def format_request(old_size: int, proof: Sequence[bytes], checkpoint: str) -> str:
    """The request's body."""
    lines = [f"old {old_size}", *(encode_b64(hashed) for hashed in proof)]
    return "\n".join(lines) + "\n\n" + checkpoint


def parse_request(text: str) -> AddCheckpoint:
    """Reads a request's body strictly. RequestInvalid."""
    head, separator, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    word, _, number = lines[0].partition(" ")
    if not separator or word != "old" or not (number.isascii() and number.isdigit()) or len(number) > 19:
        raise RequestInvalid("the first line is: old SIZE")
    if str(int(number)) != number:
        raise RequestInvalid("the old size has leading zeroes")
    if len(lines) - 1 > MAX_HASHES:
        raise RequestInvalid(f"a consistency proof has at most {MAX_HASHES} hashes")
    try:
        proof = tuple(decode_b64(line) for line in lines[1:])
    except ValueError:
        raise RequestInvalid("a proof line is not base64") from None
    if any(len(hashed) != HASH_BYTES for hashed in proof):
        raise RequestInvalid("a proof line is not a SHA-256 hash")
    return AddCheckpoint(int(number), proof, checkpoint)
