"""Ed25519 keys and signatures, their ids and their text forms.

Ed25519 is libsodium's (PyNaCl): it refuses non-canonical signatures and keys of small order, so that a
signature has one form. Base64 is the standard alphabet with padding, and only its one canonical spelling
is read.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import os

from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

ALGORITHM = "Ed25519"
SEED_BYTES = 32
PUBLIC_BYTES = 32
SIGNATURE_BYTES = 64
KEYS_KEPT = 1024  # the same miners' keys are read and named again and again
_NOTE_ED25519 = b"\x01"
_NOTE_OTHER = b"\xff"  # C2SP signed-note: a type without a byte of its own; a longer name follows
_RECEIPT_TYPE = b"aitbc/receipt"


class PrivateKey:
    """An Ed25519 key pair. Its text form never shows the seed."""

    __slots__ = ("_secret", "key_id", "public_bytes", "seed")

    seed: bytes
    public_bytes: bytes
    key_id: str

    def __init__(self, seed: bytes) -> None:
        """`seed`: the 32 secret bytes of RFC 8032. ValueError: another length."""
        if len(seed) != SEED_BYTES:
            raise ValueError(f"an Ed25519 seed has {SEED_BYTES} bytes")
        self.seed = bytes(seed)
        self.public_bytes, self._secret = crypto_sign_seed_keypair(self.seed)
        self.key_id = key_id(self.public_bytes)

    @classmethod
    def generate(cls) -> PrivateKey:
        """A new random key."""
        return cls(os.urandom(SEED_BYTES))

    @classmethod
    def from_seed(cls, seed: bytes) -> PrivateKey:
        """The key of a 32-byte seed. ValueError: another length."""
        return cls(seed)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of a message."""
        return bytes(crypto_sign(message, self._secret)[:SIGNATURE_BYTES])

    def __repr__(self) -> str:
        return f"PrivateKey(key_id={self.key_id!r})"


def verify(public_bytes: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is this key's over `message`. Keys and signatures of a wrong length are False."""
    if len(public_bytes) != PUBLIC_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        crypto_sign_open(signature + message, public_bytes)
    except BadSignatureError:
        return False
    return True


@functools.lru_cache(KEYS_KEPT)
def key_id(public_bytes: bytes) -> str:
    """16 hex digits that name a public key: the first 8 bytes of its SHA-256."""
    return hashlib.sha256(public_bytes).hexdigest()[:16]


def encode_b64(data: bytes) -> str:
    """Standard base64 with padding."""
    return base64.b64encode(data).decode("ascii")


def decode_b64(text: str) -> bytes:
    """The bytes of standard base64. ValueError: any spelling that `encode_b64` would not have written."""
    try:
        raw = text.encode("ascii")
        data = binascii.a2b_base64(raw, strict_mode=True)
    except ValueError:
        raise ValueError("not standard base64") from None
    if base64.b64encode(data) != raw:
        raise ValueError("not canonical base64")
    return data


def public_to_text(public_bytes: bytes) -> str:
    """A public key as base64 (44 characters)."""
    return encode_b64(public_bytes)


@functools.lru_cache(KEYS_KEPT)
def public_from_text(text: str) -> bytes:
    """The 32 bytes of a public key in base64. ValueError: not canonical base64, or another length."""
    data = decode_b64(text)
    if len(data) != PUBLIC_BYTES:
        raise ValueError(f"an Ed25519 public key has {PUBLIC_BYTES} bytes")
    return data


def vkey(name: str, public_bytes: bytes) -> str:
    """The C2SP signed-note verifier key "<name>+<hash>+<base64>" of a public key.

    ValueError: an empty name, or one with white space or a plus sign.
    """
    if not name or "+" in name or any(char.isspace() for char in name):
        raise ValueError("a verifier key's name is not empty and has no white space and no plus sign")
    typed = _NOTE_ED25519 + public_bytes
    note_hash = hashlib.sha256(name.encode("utf-8") + b"\n" + typed).digest()[:4]
    return f"{name}+{note_hash.hex()}+{encode_b64(typed)}"


def receipt_vkey(name: str, public_bytes: bytes) -> str:
    """The verifier key of a key that signs receipts, which are no notes: of a type of our own (0xff and its name).

    A verifier of notes that is given it finds a type that it does not know, where `vkey` would let it look for
    notes signed by this name. ValueError: as for `vkey`.
    """
    vkey(name, public_bytes)
    typed = _NOTE_OTHER + _RECEIPT_TYPE + public_bytes
    note_hash = hashlib.sha256(name.encode("utf-8") + b"\n" + typed).digest()[:4]
    return f"{name}+{note_hash.hex()}+{encode_b64(typed)}"


def parse_vkey(text: str) -> tuple[str, bytes]:
    """(name, public bytes) of a verifier key. ValueError: another algorithm, a wrong hash, another form."""
    name, _, rest = text.partition("+")
    _, separator, encoded = rest.partition("+")
    if not separator:
        raise ValueError("a verifier key is <name>+<hash>+<base64>")
    typed = decode_b64(encoded)
    if typed[:1] != _NOTE_ED25519 or len(typed) != 1 + PUBLIC_BYTES:
        raise ValueError("not an Ed25519 verifier key")
    if vkey(name, typed[1:]) != text:
        raise ValueError("the verifier key's hash does not fit its name and key")
    return name, typed[1:]
