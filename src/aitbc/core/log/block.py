"""Blocks: what each of them commits to, its hash, and its proposer's signature.

docs/formats/block.md gives the exact bytes, with test vectors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aitbc.core import canonical
from aitbc.core.clock import parse_rfc3339, rfc3339
from aitbc.core.log.merkle import EMPTY_ROOT
from aitbc.core.signing import PrivateKey, decode_b64, encode_b64, verify

VERSION = "aitbc/block/v1"
VERSION_2 = "aitbc/block/v2"
NO_HASH = "0" * 64
GENESIS_TIME_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z

_OURS = "aitbc/"
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PROPOSER = re.compile(r"(?:[0-9a-f]{16})?", re.ASCII)
MAX_KINDS = 64
TRANSFERS, RECEIPTS = "transfers", "receipts"

_KIND = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)
_NUMBERS = ("height", "first_leaf", "tree_size")
_COUNTS = ("transactions", "receipts")
_TEXTS = ("chain_id", "previous_hash", "root", "proposer")
_COMMON = frozenset((*_NUMBERS, *_COUNTS, *_TEXTS, "version", "time", "last_leaf"))
_MEMBERS = {VERSION: _COMMON, VERSION_2: _COMMON | {"contents"}}


class BlockInvalid(ValueError):
    """A document is not a block header of a known version; the message says where."""


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """What a block's hash covers. Leaves first_leaf .. last_leaf are new in it; `root` is hex.

    `tree_size`, `root`, and the counts of transactions (transfers) and receipts among the new leaves are of
    the tree after it. `proposer` is the id of the key that signs it, "" for genesis. `others`: how many of the new
    leaves are of which other kind, by name; version 1 knows none.
    """

    chain_id: str
    height: int
    previous_hash: str
    time_ms: int
    first_leaf: int
    tree_size: int
    root: str
    transactions: int
    receipts: int
    proposer: str
    version: str = VERSION
    others: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        if self.others and self.version == VERSION:
            raise BlockInvalid(f"{VERSION} counts transfers and receipts alone")

    @property
    def contents(self) -> dict[str, int]:
        """How many of the new leaves are of which kind; kinds of which there are none are left out."""
        found = {TRANSFERS: self.transactions, RECEIPTS: self.receipts, **dict(self.others)}
        return {name: count for name, count in sorted(found.items()) if count}

    @property
    def last_leaf(self) -> int:
        """The last leaf's index; one less than first_leaf (-1 in genesis) where the block has no leaves."""
        return self.tree_size - 1

    def to_json(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "chain_id": self.chain_id,
            "height": self.height,
            "previous_hash": self.previous_hash,
            "time": rfc3339(self.time_ms),
            "first_leaf": self.first_leaf,
            "last_leaf": self.last_leaf,
            "tree_size": self.tree_size,
            "root": self.root,
            "transactions": self.transactions,
            "receipts": self.receipts,
            **({"contents": self.contents} if self.version == VERSION_2 else {}),
            "proposer": self.proposer,
        }

    @classmethod
    def from_json(cls, document: object) -> BlockHeader:
        """Reads a header back; `to_json` of it is the document again. BlockInvalid."""
        if not isinstance(document, dict):
            raise BlockInvalid("a block header is an object")
        version = document.get("version")
        if version not in (VERSION, VERSION_2):
            raise BlockInvalid(f"version is neither {VERSION} nor {VERSION_2}")
        if document.keys() != _MEMBERS[version]:
            raise BlockInvalid("a block header has exactly the members of its version")
        contents = _read_contents(document["contents"]) if version == VERSION_2 else None
        for name in (*_NUMBERS, *_COUNTS):
            if type(document[name]) is not int or not 0 <= document[name] <= canonical.MAX_INTEGER:
                raise BlockInvalid(f"{name} is not an integer from 0 to 2**53-1")
        for name in _TEXTS:
            if not isinstance(document[name], str):
                raise BlockInvalid(f"{name} is not a string")
        if not _HASH.fullmatch(document["previous_hash"]) or not _HASH.fullmatch(document["root"]):
            raise BlockInvalid("a hash is not 64 lower-case hex digits")
        if not _PROPOSER.fullmatch(document["proposer"]):
            raise BlockInvalid("proposer is not a key id")
        told = {TRANSFERS: document["transactions"], RECEIPTS: document["receipts"]}
        if contents is not None and told != {name: contents.get(name, 0) for name in told}:
            raise BlockInvalid("its counts are not those of its contents")
        header = cls(
            **{name: document[name] for name in (*_NUMBERS, *_TEXTS)},
            **counted(told if contents is None else contents),
            version=version,
            time_ms=_read_time(document["time"]),
        )
        if type(document["last_leaf"]) is not int or document["last_leaf"] != header.last_leaf:
            raise BlockInvalid("last_leaf is not tree_size - 1")
        if not header.adds_up():
            raise BlockInvalid("its contents do not add up to the block's leaves")
        return header

    def encode(self) -> bytes:
        """RFC 8785: what is hashed and signed."""
        return canonical.encode(self.to_json())

    @property
    def hash(self) -> str:
        """SHA-256 of the encoded header, hex."""
        return canonical.sha256_hex(self.encode())

    def sign(self, key: PrivateKey) -> str:
        """The proposer's Ed25519 signature, base64."""
        return encode_b64(key.sign(self.encode()))

    def is_signed(self, public_bytes: bytes, signature: str) -> bool:
        """Whether this is the key's signature on the block."""
        try:
            return verify(public_bytes, self.encode(), decode_b64(signature))
        except ValueError:
            return False

    def adds_up(self) -> bool:
        """Whether what it counts is as many leaves as it seals, whatever their kinds."""
        others = sum(count for _name, count in self.others)
        return self.transactions + self.receipts + others == self.tree_size - self.first_leaf

    def fault_after(self, previous: BlockHeader) -> str | None:
        """What keeps this from being the block after `previous`; None where it fits.

        Says nothing of the signature, nor of whether the trees are consistent.
        """
        if self.chain_id != previous.chain_id:
            return f"chain_id is not {previous.chain_id}"
        if self.height != previous.height + 1:
            return f"height is not {previous.height + 1}"
        if self.previous_hash != previous.hash:
            return "previous_hash is not the hash of the block before"
        if self.first_leaf != previous.tree_size:
            return f"first_leaf is not {previous.tree_size}"
        if self.tree_size <= self.first_leaf:
            return "it seals no leaves"
        if not self.adds_up():
            return "its contents do not add up to the block's leaves"
        if self.version < previous.version:
            return f"version is {self.version} after a block of {previous.version}"
        if self.time_ms < previous.time_ms:
            return "time is before that of the block before"
        return None


def counted(contents: Mapping[str, int]) -> dict[str, Any]:
    """The members of a `BlockHeader` that count leaves, from how many there are of which kind."""
    others = sorted((name, count) for name, count in contents.items() if name not in (TRANSFERS, RECEIPTS))
    return {
        "transactions": contents.get(TRANSFERS, 0),
        "receipts": contents.get(RECEIPTS, 0),
        "others": tuple(others),
    }


def stored_counts(transactions: int, receipts: int, contents: str) -> dict[str, Any]:
    """The members of a `BlockHeader` that count leaves, and its version, from a row of blocks. ValueError.

    `contents`: the header's, as JSON; '' of version 1. The two counts stand beside it, and have to be the same.
    """
    if not contents:
        return {"transactions": transactions, "receipts": receipts}
    found = counted(_read_contents(canonical.loads_strict(contents.encode())))
    if (found["transactions"], found["receipts"]) != (transactions, receipts):
        raise BlockInvalid("its counts are not those of its contents")
    return {**found, "version": VERSION_2}


def _read_contents(value: object) -> dict[str, int]:
    if not isinstance(value, dict) or len(value) > MAX_KINDS:
        raise BlockInvalid(f"contents is not an object of at most {MAX_KINDS} members")
    for name, count in value.items():
        if not isinstance(name, str) or not _KIND.fullmatch(name):
            raise BlockInvalid("contents names something that is no kind of leaf")
        if type(count) is not int or not 1 <= count <= canonical.MAX_INTEGER:
            raise BlockInvalid(f"contents: {name} is not an integer from 1 to 2**53-1")
    return value


def genesis(chain_id: str, founding_hash: str = NO_HASH) -> BlockHeader:
    """Block 0: no leaves, no proposer, always of version 1, since the network's id is its hash.

    It follows the network's founding (`core.network`), in hex. Networks from before foundings have none: all of one
    name share one genesis block.
    """
    return BlockHeader(chain_id, 0, founding_hash, GENESIS_TIME_MS, 0, 0, EMPTY_ROOT.hex(), 0, 0, "")


def origin_of(chain_id: str) -> str:
    """The origin line of a log from before foundings, and the beginning of one that has no public URL."""
    return f"{_OURS}{chain_id}"


def origin_fits(origin: str, chain_id: str) -> bool:
    """Whether a log of this origin can be of this chain: one that is named after a chain is of that chain."""
    return not origin.startswith(_OURS) or f"{origin}/".startswith(f"{origin_of(chain_id)}/")


def _read_time(value: object) -> int:
    try:
        time_ms = parse_rfc3339(value) if isinstance(value, str) else 0
        if rfc3339(time_ms) == value:
            return time_ms
    except ValueError:
        pass
    raise BlockInvalid("time is not written like 2026-01-02T03:04:05.678Z")
