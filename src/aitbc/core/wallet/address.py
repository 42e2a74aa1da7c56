"""Addresses of wallets: native `ait1…` (bech32 of an Ed25519 key's hash) and EVM `0x…` (EIP-55).

An address in its one canonical spelling is the id of the wallet's account.
"""

from __future__ import annotations

import hashlib
import re
from typing import Literal

from bech32 import bech32_decode, bech32_encode, convertbits
from Crypto.Hash import keccak

HRP = "ait"
HASH_BYTES = 20
EVM: Literal["evm"] = "evm"
NATIVE: Literal["native"] = "native"
Kind = Literal["evm", "native"]

_NATIVE = re.compile(r"ait1[02-9ac-hj-np-z]{38}", re.ASCII)
_EVM = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)


class AddressInvalid(ValueError):
    """The text is no address; the message says why."""


def keccak256(data: bytes) -> bytes:
    """Keccak-256 as Ethereum uses it (not SHA3-256): 32 bytes."""
    return keccak.new(digest_bits=256, data=data).digest()


def native_address(public_bytes: bytes) -> str:
    """The address of an Ed25519 public key: bech32 of the first 20 bytes of its SHA-256, prefix "ait"."""
    words = convertbits(hashlib.sha256(public_bytes).digest()[:HASH_BYTES], 8, 5)
    if words is None:
        raise ValueError("bytes always convert")
    return bech32_encode(HRP, words)


def checksummed(address: str) -> str:
    """The EIP-55 spelling of a canonical (lower-case) EVM address."""
    digits = address[2:]
    hashed = keccak256(digits.encode()).hex()
    return "0x" + "".join(
        digit.upper() if int(nibble, 16) >= 8 else digit
        for digit, nibble in zip(digits, hashed[:40], strict=True)
    )


def canonical_address(text: str) -> str:
    """The account id of an address: native ones as they are, EVM ones in lower case.

    AddressInvalid: neither form, a wrong bech32 checksum, a native address with capitals, or an EVM address
    in mixed case whose EIP-55 checksum is wrong (all capitals is mixed case too).
    """
    if text[:2] == "0x":
        if _EVM.fullmatch(text) is None:
            raise AddressInvalid("an EVM address is 0x and 40 hex digits")
        lower = text.lower()
        if text not in (lower, checksummed(lower)):
            raise AddressInvalid("the capitals of this EVM address do not fit: its EIP-55 checksum is wrong")
        return lower
    if text[:4] != HRP + "1":
        raise AddressInvalid("an address begins with ait1 or 0x")
    if _NATIVE.fullmatch(text) is None:
        raise AddressInvalid("a native address is ait1 and 38 lower-case letters and digits")
    _hrp, words = bech32_decode(text)
    data = None if words is None else convertbits(words, 5, 8, False)
    if data is None or len(data) != HASH_BYTES:
        raise AddressInvalid("the checksum of this native address is wrong")
    return text


def kind_of(address: str) -> Kind:
    """Which kind a canonical address is of."""
    return EVM if address.startswith("0x") else NATIVE


def looks_like_address(text: str) -> bool:
    """Whether the text means to be an address; accounts of API keys have other names."""
    return text[:2].lower() == "0x" or text[:4].lower() == HRP + "1"
