"""What makes one network another than every other of the same name: its founding, and the id that follows.

docs/formats/block.md gives the exact bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from aitbc.core import canonical
from aitbc.core.log.block import genesis, origin_of
from aitbc.core.log.note import Verifier
from aitbc.core.signing import public_to_text

VERSION = "aitbc/network/v1"
OLD_VERSION = "aitbc/old-network/v1"
SALT_BYTES = 32
MAX_ORIGIN_CHARS = 255
_SALT = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MEMBERS = frozenset({"version", "chain_id", "origin", "log_key", "salt"})


class FoundingInvalid(ValueError):
    """A document is not a network's founding; the message says where."""


@dataclass(frozen=True, slots=True)
class Founding:
    """What a network begins with: its name, its log's origin, the log's first key (a vkey of that name), and
    32 random bytes in hex. Its hash is the genesis block's `previous_hash`."""

    chain_id: str
    origin: str
    log_key: str
    salt: str

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "chain_id": self.chain_id,
            "origin": self.origin,
            "log_key": self.log_key,
            "salt": self.salt,
        }

    @classmethod
    def from_json(cls, document: object) -> Founding:
        """Reads it back. FoundingInvalid."""
        if not isinstance(document, dict) or document.keys() != _MEMBERS:
            raise FoundingInvalid(f"a founding has exactly the members {', '.join(sorted(_MEMBERS))}")
        if document["version"] != VERSION:
            raise FoundingInvalid(f"version is not {VERSION}")
        if any(not isinstance(value, str) for value in document.values()):
            raise FoundingInvalid("a member is not a string")
        if _SALT.fullmatch(document["salt"]) is None:
            raise FoundingInvalid("salt is not 64 lower-case hex digits")
        try:
            name = Verifier.parse(document["log_key"]).name
        except ValueError as error:
            raise FoundingInvalid(f"log_key: {error}") from None
        if name != document["origin"]:
            raise FoundingInvalid("log_key is not named by the origin")
        return cls(**{member: value for member, value in document.items() if member != "version"})

    def encode(self) -> bytes:
        """RFC 8785: what is hashed."""
        return canonical.encode(self.to_json())

    @property
    def hash(self) -> str:
        """SHA-256 of the encoded founding, hex."""
        return canonical.sha256_hex(self.encode())

    @property
    def network_id(self) -> str:
        """The network's id: the hash of its genesis block, hex."""
        return genesis(self.chain_id, self.hash).hash


def old_network_id(chain_id: str, first_log_key: bytes) -> str:
    """The id of a network from before foundings, whose genesis says nothing but its name. Hex.

    `first_log_key`: the 32 bytes of the first key that it published.
    """
    stated = {
        "version": OLD_VERSION,
        "genesis_hash": genesis(chain_id).hash,
        "log_key": public_to_text(first_log_key),
    }
    return canonical.sha256_hex(canonical.encode(stated))


def new_origin(chain_id: str, salt: str, log_url: str) -> str:
    """The origin of a new log: the URL prefix that it is served under, without the scheme (C2SP tlog-tiles).

    `log_url` is '' where only this machine can reach it: such a prefix belongs to every machine's log, so the
    log is named after the network and the salt.
    """
    host, slash, path = log_url.partition("://")[2].rstrip("/").partition("/")
    origin = f"{host.lower()}{slash}{path}".replace("+", "%2B")
    if not host or len(origin) > MAX_ORIGIN_CHARS:
        return f"{origin_of(chain_id)}/{salt[:16]}"
    return origin
