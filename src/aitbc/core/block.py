"""Blocks: what each of them commits to, its hash, and its proposer's signature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aitbc.core import canonical
from aitbc.core.clock import rfc3339
from aitbc.core.merkle import EMPTY_ROOT
from aitbc.core.signing import PrivateKey, decode_b64, encode_b64, verify

VERSION = "aitbc/block/v1"
NO_HASH = "0" * 64
GENESIS_TIME_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """What a block's hash covers. Leaves first_leaf .. tree_size - 1 are new in it; root in hex."""

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

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "chain_id": self.chain_id,
            "height": self.height,
            "previous_hash": self.previous_hash,
            "time": rfc3339(self.time_ms),
            "first_leaf": self.first_leaf,
            "tree_size": self.tree_size,
            "root": self.root,
            "transactions": self.transactions,
            "receipts": self.receipts,
            "proposer": self.proposer,
        }

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


def genesis(chain_id: str) -> BlockHeader:
    """Block 0: no leaves, no proposer, the same for everyone on this chain."""
    return BlockHeader(chain_id, 0, NO_HASH, GENESIS_TIME_MS, 0, 0, EMPTY_ROOT.hex(), 0, 0, "")


def origin_of(chain_id: str) -> str:
    """The log's origin line, and the name of its key."""
    return f"aitbc/{chain_id}"
