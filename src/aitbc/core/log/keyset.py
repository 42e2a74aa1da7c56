"""The public keys a verifier trusts: the document served at /v1/keys, or a pinned copy of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aitbc.core import signing
from aitbc.core.clock import parse_rfc3339, rfc3339
from aitbc.core.log.block import origin_fits, origin_of
from aitbc.core.log.note import name_is_valid

USE_RECEIPTS = "receipts"
USE_LOG = "log"
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """One Ed25519 key of a coordinator and when it may sign, [valid_from_ms, valid_to_ms); None is open.

    `use` is USE_RECEIPTS or, for the key that signs the log's checkpoints, USE_LOG. The two may be one key,
    which is then published twice.
    """

    public_bytes: bytes
    valid_from_ms: int | None = None
    valid_to_ms: int | None = None
    use: str = USE_RECEIPTS

    @property
    def key_id(self) -> str:
        return signing.key_id(self.public_bytes)

    def may_sign_at(self, at_ms: int, tolerance_ms: int = 0) -> bool:
        """Whether this time lies in its validity, give or take the tolerance."""
        early = self.valid_from_ms is not None and at_ms < self.valid_from_ms - tolerance_ms
        return not early and (self.valid_to_ms is None or at_ms < self.valid_to_ms + tolerance_ms)

    def to_json(self, chain_id: str, origin: str | None = None) -> dict[str, Any]:
        """The key's entry in the /v1/keys document; a log's verifier key has the name of the log's origin."""
        name = _vkey_name(chain_id, origin, self.use)
        make = signing.vkey if self.use == USE_LOG else signing.receipt_vkey
        return {
            "key_id": self.key_id,
            "alg": signing.ALGORITHM,
            "public_key": signing.public_to_text(self.public_bytes),
            "vkey": make(name, self.public_bytes),
            "valid_from": None if self.valid_from_ms is None else rfc3339(self.valid_from_ms),
            "valid_to": None if self.valid_to_ms is None else rfc3339(self.valid_to_ms),
            "use": self.use,
        }


class KeySet:
    """The keys of one network: by key id, and those of its log.

    origin      the log's origin line and its keys' name; left out: that of networks from before foundings
    network_id  the network's id (hex); '' in a document from before there were any
    """

    __slots__ = ("_keys", "_log_keys", "chain_id", "network_id", "origin")

    def __init__(
        self, chain_id: str, keys: Iterable[PublishedKey], origin: str | None = None, network_id: str = ""
    ) -> None:
        self.chain_id = chain_id
        self.origin = origin_of(chain_id) if origin is None else origin
        self.network_id = network_id
        self._keys: dict[str, PublishedKey] = {}
        self._log_keys: dict[str, PublishedKey] = {}
        for key in keys:
            (self._log_keys if key.use == USE_LOG else self._keys)[key.key_id] = key

    def get(self, key_id: str) -> PublishedKey | None:
        """The key of this id, or None. Not one of the log's."""
        return self._keys.get(key_id)

    @property
    def log_keys(self) -> tuple[PublishedKey, ...]:
        """The keys that sign the checkpoints of the chain's log."""
        return tuple(self._log_keys.values())

    def __iter__(self) -> Iterator[PublishedKey]:
        return iter((*self._keys.values(), *self._log_keys.values()))

    def __len__(self) -> int:
        return len(self._keys) + len(self._log_keys)

    def to_json(self) -> dict[str, Any]:
        """The /v1/keys document."""
        keys = (*self._keys.values(), *self.log_keys)
        document: dict[str, Any] = {"chain_id": self.chain_id}
        if self.network_id:
            document["network_id"] = self.network_id
        if self.network_id or self.origin != origin_of(self.chain_id):
            document["origin"] = self.origin
        document["keys"] = [key.to_json(self.chain_id, self.origin) for key in keys]
        return document

    @classmethod
    def from_json(cls, document: object) -> KeySet:
        """Read a /v1/keys document; fields it does not know are ignored, and so are keys of other algorithms.

        ValueError: another form, or a key whose id or verifier key is not its own, or a log's key whose
        verifier key has another name than the log's origin.
        """
        if not isinstance(document, Mapping):
            raise ValueError("a key set is an object with chain_id and keys")
        chain_id, entries = document.get("chain_id"), document.get("keys")
        if not isinstance(chain_id, str) or not chain_id or not isinstance(entries, list):
            raise ValueError("a key set is an object with chain_id and keys")
        origin, network_id = document.get("origin", origin_of(chain_id)), document.get("network_id", "")
        if not isinstance(origin, str) or not name_is_valid(origin) or not origin_fits(origin, chain_id):
            raise ValueError(f"origin is not the name of a log of {chain_id}")
        if not isinstance(network_id, str) or (network_id and _HASH.fullmatch(network_id) is None):
            raise ValueError("network_id is not 64 lower-case hex digits")
        keys = []
        for entry in entries:
            if not isinstance(entry, Mapping):
                raise ValueError("a key is an object")
            if entry.get("alg") == signing.ALGORITHM:
                keys.append(_read_key(entry, origin))
        return cls(chain_id, keys, origin, network_id)


def _vkey_name(chain_id: str, origin: str | None, use: str) -> str:
    return (origin or origin_of(chain_id)) if use == USE_LOG else chain_id


def _read_key(entry: Mapping[str, Any], origin: str) -> PublishedKey:
    public_key, use = entry.get("public_key"), entry.get("use", USE_RECEIPTS)
    if not isinstance(public_key, str) or not isinstance(use, str):
        raise ValueError("a key has a public_key and a use")
    key = PublishedKey(
        signing.public_from_text(public_key),
        _read_time(entry.get("valid_from")),
        _read_time(entry.get("valid_to")),
        use,
    )
    if entry.get("key_id", key.key_id) != key.key_id:
        raise ValueError(f"key id {entry['key_id']!r} is not that of its public key ({key.key_id})")
    verifier_key = entry.get("vkey")
    if verifier_key is None:
        return key
    if not isinstance(verifier_key, str):
        raise ValueError(f"the verifier key of {key.key_id} is not a text")
    if use != USE_LOG and _is_receipt_vkey(verifier_key, key.public_bytes):
        return key
    # Of before, when keys for receipts were listed as if they signed notes.
    name, public_bytes = signing.parse_vkey(verifier_key)
    if public_bytes != key.public_bytes:
        raise ValueError(f"the verifier key of {key.key_id} is another key")
    if use == USE_LOG and name != origin:
        raise ValueError(f"the verifier key of {key.key_id} is not named {origin}")
    return key


def _is_receipt_vkey(text: str, public_bytes: bytes) -> bool:
    name = text.partition("+")[0]
    return name_is_valid(name) and signing.receipt_vkey(name, public_bytes) == text


def _read_time(value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("a key's validity is an RFC 3339 time or null")
    return parse_rfc3339(value)
