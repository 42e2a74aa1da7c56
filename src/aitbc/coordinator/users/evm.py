"""Which EVM address signed a text: EIP-191 (`personal_sign`), secp256k1.

A signature has one form here: s in the lower half of the group's order (EIP-2), recovery id 27 or 28 (or 0
or 1, as hardware wallets write it).
"""

from __future__ import annotations

import re

from coincurve import PublicKey

from aitbc.core.wallet.address import keccak256

GROUP_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_SIGNATURE = re.compile(r"0x[0-9a-fA-F]{130}", re.ASCII)


class EvmSignatureInvalid(ValueError):
    """Not a signature that names an address; the message says why."""


def signed_hash(text: str) -> bytes:
    """The 32 bytes that EIP-191 has a wallet sign for a text."""
    data = text.encode()
    return keccak256(b"\x19Ethereum Signed Message:\n" + str(len(data)).encode() + data)


def recover(text: str, signature: str) -> str:
    """The canonical (lower-case) address whose key signed `text`. `signature`: 0x and 65 bytes, r s v.

    EvmSignatureInvalid: another form or length, r or s out of range, high s, another recovery id.
    """
    if _SIGNATURE.fullmatch(signature) is None:
        raise EvmSignatureInvalid("a signature is 0x and 130 hex digits")
    data = bytes.fromhex(signature[2:])
    r, s, v = int.from_bytes(data[:32], "big"), int.from_bytes(data[32:64], "big"), data[64]
    if not 0 < r < GROUP_ORDER or not 0 < s < GROUP_ORDER:
        raise EvmSignatureInvalid("r or s is out of range")
    if s > GROUP_ORDER // 2:
        raise EvmSignatureInvalid("s is in the upper half: only the lower form is accepted")
    if v not in (0, 1, 27, 28):
        raise EvmSignatureInvalid("the recovery id is none of 0, 1, 27, 28")
    recovery_id = v - 27 if v >= 27 else v
    try:
        point = PublicKey.from_signature_and_message(
            data[:64] + bytes([recovery_id]), signed_hash(text), hasher=None
        )
    except ValueError as error:
        raise EvmSignatureInvalid("no key can have made this signature") from error
    return "0x" + keccak256(point.format(compressed=False)[1:])[-20:].hex()
