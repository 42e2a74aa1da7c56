"""Blocks and transactions as the network sends them (BIP144), read so far as the exchange needs it. Pure.

Ids are computed here, never taken on trust: a block's hash covers its header, which covers all its transactions.
"""

from collections.abc import Iterator, Set
from hashlib import sha256
from typing import NamedTuple

HEADER_BYTES = 80
MAX_TRANSACTIONS = 100_000
"""In a block; far more than its 4,000,000 weight units can hold."""


class Malformed(ValueError):
    """These bytes are no block, or no transaction."""


class Output(NamedTuple):
    """An output to a script that was looked for. txid as explorers show it."""

    txid: str
    vout: int
    script: bytes
    sat: int
    coinbase: bool


class Block(NamedTuple):
    """Hashes as explorers show them. `found`: its outputs to the scripts that were looked for."""

    hash: str
    previous: str
    found: list[Output]


class Transaction(NamedTuple):
    """Of the bytes that it was read from.

    id       its hash in the order in which the network sends it
    outputs  as they were sent
    end      the first byte after it
    """

    id: bytes
    outputs: bytes
    end: int


def read_block(raw: bytes, scripts: Set[bytes]) -> Block:
    """A whole block, whose header must cover its transactions. Malformed."""
    try:
        count, at = _number(raw, HEADER_BYTES)
        if not 1 <= count <= MAX_TRANSACTIONS:
            raise Malformed("a block has no such number of transactions")
        ids: list[bytes] = []
        found: list[Output] = []
        for index in range(count):
            one = _transaction(raw, at)
            at = one.end
            ids.append(one.id)
            found += outputs_to(one, scripts, coinbase=index == 0)
    except IndexError as error:
        raise Malformed("a block ends in the middle") from error
    if at != len(raw):
        raise Malformed("a block does not end where its last transaction does")
    if len(set(ids)) != len(ids):  # the root would be the same without the second (CVE-2012-2459)
        raise Malformed("a block has a transaction twice")
    if _merkle_root(ids) != raw[36:68]:
        raise Malformed("a block's header does not cover its transactions")
    return Block(_shown(_hash(raw[:HEADER_BYTES])), _shown(raw[4:36]), found)


def read_transaction(raw: bytes) -> Transaction:
    """One whole transaction. Malformed."""
    try:
        found = _transaction(raw, 0)
    except IndexError as error:
        raise Malformed("a transaction ends in the middle") from error
    if found.end != len(raw):
        raise Malformed("a transaction does not end where its bytes do")
    return found


def outputs_to(transaction: Transaction, scripts: Set[bytes], coinbase: bool = False) -> list[Output]:
    """Its outputs that bear one of the scripts."""
    return [
        Output(_shown(transaction.id), vout, script, sat, coinbase)
        for vout, (sat, script) in enumerate(_outputs(transaction.outputs))
        if script in scripts
    ]


def _outputs(raw: bytes) -> Iterator[tuple[int, bytes]]:
    count, at = _number(raw, 0)
    for _ in range(count):
        length, begin = _number(raw, at + 8)
        yield int.from_bytes(raw[at : at + 8], "little"), raw[begin : begin + length]
        at = begin + length


def _transaction(raw: bytes, start: int) -> Transaction:
    """The one that begins at `start`. IndexError where `raw` ends before it."""
    body = start + 4
    has_witness = raw[body] == 0
    if has_witness:
        if raw[body + 1] != 1:
            raise Malformed("a transaction without inputs")
        body += 2
    inputs, at = _number(raw, body)
    if not inputs:
        raise Malformed("a transaction without inputs")
    for _ in range(inputs):
        length, at = _number(raw, at + 36)
        at += length + 4
    outputs = at
    count, at = _number(raw, at)
    if not count:
        raise Malformed("a transaction without outputs")
    for _ in range(count):
        length, at = _number(raw, at + 8)
        at += length
    end = at
    if has_witness:
        at = _after_witnesses(raw, at, inputs)
    at += 4
    raw[at - 1]  # it ends here at the latest
    hashed = raw[start : start + 4] + raw[body:end] + raw[at - 4 : at] if has_witness else raw[start:at]
    return Transaction(_hash(hashed), raw[outputs:end], at)


def _after_witnesses(raw: bytes, at: int, inputs: int) -> int:
    for _ in range(inputs):
        items, at = _number(raw, at)
        for _ in range(items):
            length, at = _number(raw, at)
            at += length
    return at


def _number(raw: bytes, at: int) -> tuple[int, int]:
    """A number of the network's variable length, and where what follows it begins. IndexError past the end.

    One that reaches past the end is read short, and whoever goes on from there meets the end.
    """
    first = raw[at]
    if first < 0xFD:
        return first, at + 1
    size = 1 << (first - 0xFC)  # 2, 4 or 8 bytes
    return int.from_bytes(raw[at + 1 : at + 1 + size], "little"), at + 1 + size


def _merkle_root(ids: list[bytes]) -> bytes:
    level = ids
    while len(level) > 1:
        if len(level) % 2:
            level = [*level, level[-1]]
        level = [_hash(level[i] + level[i + 1]) for i in range(0, len(level), 2)]
    return level[0]


def _hash(data: bytes) -> bytes:
    return sha256(sha256(data).digest()).digest()


def _shown(hashed: bytes) -> str:
    return hashed[::-1].hex()
