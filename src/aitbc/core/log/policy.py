"""What a verifier trusts: a policy file that pins the log's keys, the witnesses and how many must agree.

docs/formats/policy.md describes the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from aitbc.core import signing
from aitbc.core.canonical import loads_strict
from aitbc.core.log.block import origin_fits
from aitbc.core.log.keyset import USE_LOG, KeySet, PublishedKey
from aitbc.core.log.note import COSIGNATURE_V1, ED25519, Verifier

VERSION = "aitbc/policy/v1"
MAX_KEYS = 64
_REQUIRED = frozenset({"version", "chain_id", "log", "witnesses", "quorum"})
_OPTIONAL = frozenset({"network_id", "receipt_keys", "require_proof"})
_NETWORK_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_T = TypeVar("_T")


class PolicyInvalid(ValueError):
    """A document is not a policy of this version, or one that contradicts itself; the message says where."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The keys that a verifier accepts for one chain.

    log            keys that sign the log's checkpoints; any one of them is enough
    witnesses      keys whose cosignatures count
    quorum         how many of them must have cosigned a checkpoint (0: none need to)
    receipt_keys   keys that sign receipts; empty where the verifier takes them from a key set
    require_proof  whether a receipt must carry a proof
    network_id     the network's id, hex; "" where the policy names the chain alone
    """

    chain_id: str
    log: tuple[Verifier, ...]
    witnesses: tuple[Verifier, ...] = ()
    quorum: int = 0
    receipt_keys: tuple[bytes, ...] = ()
    require_proof: bool = True
    network_id: str = ""

    def __post_init__(self) -> None:
        """PolicyInvalid: what `from_json` would refuse."""
        if not self.chain_id:
            raise PolicyInvalid("chain_id is empty")
        if self.network_id and _NETWORK_ID.fullmatch(self.network_id) is None:
            raise PolicyInvalid("network_id is not 64 lower-case hex digits")
        if not self.log:
            raise PolicyInvalid("log has no key")
        if any(key.kind != ED25519 for key in self.log):
            raise PolicyInvalid("a log key is not an Ed25519 verifier key (type 0x01)")
        if any(key.name != self.origin for key in self.log):
            raise PolicyInvalid("the log keys have different names: a policy is for one log")
        if not origin_fits(self.origin, self.chain_id):
            raise PolicyInvalid(f"the log {self.origin} is not one of {self.chain_id}")
        if any(key.kind != COSIGNATURE_V1 for key in self.witnesses):
            raise PolicyInvalid("a witness key is not a cosignature/v1 verifier key (type 0x04)")
        # A key counts once, whatever its names, and so does a witness, whatever its keys.
        _distinct((key.public_bytes for key in (*self.log, *self.witnesses)), "a log or witness key")
        _distinct((key.name for key in self.witnesses), "a witness's name")
        _distinct(self.receipt_keys, "a receipt key")
        if max(len(self.log), len(self.witnesses), len(self.receipt_keys)) > MAX_KEYS:
            raise PolicyInvalid(f"more than {MAX_KEYS} keys of one sort")
        if not 0 <= self.quorum <= len(self.witnesses):
            raise PolicyInvalid(f"quorum is not a number from 0 to {len(self.witnesses)}, the witnesses")

    @property
    def origin(self) -> str:
        """The log's origin line: the name of its keys."""
        return self.log[0].name

    def key_set(self) -> KeySet:
        """The pinned keys as a key set, without limits of validity."""
        receipts = [PublishedKey(public_bytes) for public_bytes in self.receipt_keys]
        log = [PublishedKey(key.public_bytes, use=USE_LOG) for key in self.log]
        return KeySet(self.chain_id, [*receipts, *log], self.origin, self.network_id)

    def to_json(self) -> dict[str, Any]:
        """The policy file's document."""
        document: dict[str, Any] = {
            "version": VERSION,
            "chain_id": self.chain_id,
            "log": [key.vkey for key in self.log],
            "witnesses": [key.vkey for key in self.witnesses],
            "quorum": self.quorum,
            "require_proof": self.require_proof,
        }
        if self.network_id:
            document["network_id"] = self.network_id
        if self.receipt_keys:
            document["receipt_keys"] = [
                {"key_id": signing.key_id(key), "public_key": signing.public_to_text(key)}
                for key in self.receipt_keys
            ]
        return document

    @classmethod
    def from_bytes(cls, data: bytes) -> Policy:
        """Reads a policy file (JSON, UTF-8). PolicyInvalid."""
        try:
            document = loads_strict(data)
        except ValueError as error:
            raise PolicyInvalid(str(error)) from None
        return cls.from_json(document)

    @classmethod
    def from_json(cls, document: object) -> Policy:
        """Reads a policy's document. PolicyInvalid: unknown or missing members, wrong types, wrong keys."""
        if not isinstance(document, dict):
            raise PolicyInvalid("a policy is a JSON object")
        if missing := _REQUIRED - document.keys():
            raise PolicyInvalid(f"missing member {min(missing)}")
        if unknown := document.keys() - _REQUIRED - _OPTIONAL:
            raise PolicyInvalid(f"unknown member {str(min(unknown, key=str))[:64]!r}")
        if document["version"] != VERSION:
            raise PolicyInvalid(f"version is not {VERSION}")
        chain_id, quorum = document["chain_id"], document["quorum"]
        require_proof = document.get("require_proof", True)
        if not isinstance(chain_id, str):
            raise PolicyInvalid("chain_id is not a string")
        if type(quorum) is not int:
            raise PolicyInvalid("quorum is not an integer")
        network_id = document.get("network_id", "")
        if not isinstance(network_id, str) or ("network_id" in document and not network_id):
            raise PolicyInvalid("network_id is not 64 lower-case hex digits")
        if type(require_proof) is not bool:
            raise PolicyInvalid("require_proof is neither true nor false")
        return cls(
            chain_id=chain_id,
            log=_verifiers(document["log"], "log"),
            witnesses=_verifiers(document["witnesses"], "witnesses"),
            quorum=quorum,
            receipt_keys=tuple(
                _receipt_key(entry) for entry in _list(document.get("receipt_keys", []), "receipt_keys")
            ),
            require_proof=require_proof,
            network_id=network_id,
        )


def _distinct(values: Iterable[_T], what: str) -> None:
    listed = list(values)
    if len(set(listed)) != len(listed):
        raise PolicyInvalid(f"{what} occurs twice")


def _list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise PolicyInvalid(f"{name} is not a list")
    return value


def _verifiers(value: object, name: str) -> tuple[Verifier, ...]:
    listed = _list(value, name)
    try:
        return tuple(Verifier.parse(_text(text)) for text in listed)
    except ValueError as error:
        raise PolicyInvalid(f"{name}: {error}") from None


def _receipt_key(entry: object) -> bytes:
    if not isinstance(entry, dict) or entry.keys() != {"key_id", "public_key"}:
        raise PolicyInvalid("a receipt key is an object with key_id and public_key")
    try:
        public_bytes = signing.public_from_text(_text(entry["public_key"]))
    except ValueError as error:
        raise PolicyInvalid(f"receipt_keys: {error}") from None
    if entry["key_id"] != signing.key_id(public_bytes):
        raise PolicyInvalid("a receipt key's key_id is not that of its public_key")
    return public_bytes


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise PolicyInvalid("a key is not a string")
    return value
