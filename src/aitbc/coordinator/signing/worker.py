"""`python -m aitbc.coordinator.signing.worker`: Ed25519 for its parent, until its input ends.

Standard input: the 32 bytes of the signing key's seed, then chunks of HEAD (kind, items, bytes) and items:

VERIFY  public key (32) | signature (64) | LENGTH | message     answered by one byte an item: 1 good, 0 not
SIGN    LENGTH | message                                        answered by 64 bytes an item

The first byte of standard output, READY, says that it listens. `signing.signatures` is the other side.
"""

import signal
import struct
import sys
from collections.abc import Iterator
from typing import BinaryIO

from aitbc.core.signing import PUBLIC_BYTES, SEED_BYTES, SIGNATURE_BYTES, PrivateKey, verify

HEAD = struct.Struct("<BII")
LENGTH = struct.Struct("<I")
VERIFY, SIGN = 0, 1
READY = b"R"
_FIXED = {VERIFY: PUBLIC_BYTES + SIGNATURE_BYTES, SIGN: 0}


def items(kind: int, count: int, data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(what stands before the length, message) of each item of a chunk."""
    fixed = _FIXED[kind]
    at = 0
    for _ in range(count):
        start = at + fixed + LENGTH.size
        (length,) = LENGTH.unpack_from(data, at + fixed)
        yield data[at : at + fixed], data[start : start + length]
        at = start + length


def answer(key: PrivateKey, kind: int, count: int, data: bytes) -> bytes:
    """What is written for one chunk."""
    if kind == SIGN:
        return b"".join(key.sign(message) for _, message in items(kind, count, data))
    return bytes(
        verify(fixed[:PUBLIC_BYTES], message, fixed[PUBLIC_BYTES:])
        for fixed, message in items(kind, count, data)
    )


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answers chunks until the source ends."""
    key = PrivateKey(source.read(SEED_BYTES))
    sink.write(READY)
    sink.flush()
    while len(head := source.read(HEAD.size)) == HEAD.size:
        kind, count, size = HEAD.unpack(head)
        sink.write(answer(key, kind, count, source.read(size)))
        sink.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it, by closing its input
    serve(sys.stdin.buffer, sys.stdout.buffer)
