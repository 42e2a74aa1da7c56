"""A wallet's key in a file, encrypted with a passphrase (argon2id, then XSalsa20-Poly1305).

Address and public key stand in it in clear, so that money can be received without the passphrase; unlocking
checks that they are the key's own.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from nacl import pwhash
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from aitbc.core.canonical import loads_strict
from aitbc.core.signing import PrivateKey, decode_b64, encode_b64, public_from_text
from aitbc.core.wallet.address import native_address
from aitbc.keyfile import read_private, write_private

VERSION = "aitbc/wallet/v1"
MIN_PASSPHRASE_CHARS = 8
SALT_BYTES = pwhash.argon2id.SALTBYTES

COST = (pwhash.argon2id.OPSLIMIT_MODERATE, pwhash.argon2id.MEMLIMIT_MODERATE)
"""(passes, bytes of memory) for a new file: about a second, 256 MiB."""

MAX_COST = (16, 1 << 30)
"""A file that asks for more is refused: opening it must not exhaust the machine."""


class WalletError(Exception):
    """A wallet file that cannot or must not be used; the message says why."""


class WrongPassphrase(WalletError):
    """The passphrase does not open the file, or its secret part was changed."""


@dataclass(frozen=True, slots=True)
class StoredWallet:
    """A wallet file as it lies there, locked."""

    path: Path
    address: str
    public_key: str
    salt: bytes
    cost: tuple[int, int]
    box: bytes

    def unlock(self, passphrase: str) -> PrivateKey:
        """The key. Raises WrongPassphrase, and WalletError where the address is not this key's."""
        try:
            seed = SecretBox(_derive(passphrase, self.salt, self.cost)).decrypt(self.box)
        except CryptoError:
            raise WrongPassphrase("the passphrase is wrong, or the file was changed") from None
        key = PrivateKey.from_seed(seed)
        if (
            encode_b64(key.public_bytes) != self.public_key
            or native_address(key.public_bytes) != self.address
        ):
            raise WalletError(f"{self.path} names an address that is not its key's: it was changed")
        return key


def create(path: Path, passphrase: str) -> StoredWallet:
    """A new wallet in a new file (mode 0600). Raises WalletError where the file exists or the passphrase is
    too short."""
    if len(passphrase) < MIN_PASSPHRASE_CHARS:
        raise WalletError(f"a passphrase has at least {MIN_PASSPHRASE_CHARS} characters")
    key = PrivateKey.generate()
    salt = os.urandom(SALT_BYTES)
    stored = StoredWallet(
        path=path,
        address=native_address(key.public_bytes),
        public_key=encode_b64(key.public_bytes),
        salt=salt,
        cost=COST,
        box=bytes(SecretBox(_derive(passphrase, salt, COST)).encrypt(key.seed)),
    )
    if not write_private(path, _to_text(stored)):
        raise WalletError(f"{path} exists: a wallet is never overwritten")
    return stored


def load(path: Path) -> StoredWallet:
    """The wallet in a file. Raises FileNotFoundError, WalletError, KeyFileError where others may read it."""
    data = read_private(path)
    try:
        document = loads_strict(data)
        if not isinstance(document, dict) or document.get("version") != VERSION:
            raise ValueError(f"its version is not {VERSION}")
        kdf = document["kdf"]
        if not isinstance(kdf, dict) or kdf.get("name") != "argon2id":
            raise ValueError("its key derivation is not argon2id")
        cost = (kdf["passes"], kdf["memory_bytes"])
        if not all(type(part) is int and 0 < part <= most for part, most in zip(cost, MAX_COST, strict=True)):
            raise ValueError("its key derivation costs too much")
        public_key, address = document["public_key"], document["address"]
        if native_address(public_from_text(public_key)) != address:
            raise ValueError("its address is not that of its public key")
        stored = StoredWallet(
            path, address, public_key, decode_b64(kdf["salt"]), cost, decode_b64(document["box"])
        )
        if len(stored.salt) != SALT_BYTES:
            raise ValueError("its salt has a wrong length")
        return stored
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise WalletError(f"{path} is not a wallet file: {reason}") from None


def _derive(passphrase: str, salt: bytes, cost: tuple[int, int]) -> bytes:
    try:
        return pwhash.argon2id.kdf(SecretBox.KEY_SIZE, passphrase.encode(), salt, *cost)
    except (CryptoError, ValueError) as error:
        raise WalletError(f"the key cannot be derived: {error}") from None


def _to_text(stored: StoredWallet) -> str:
    passes, memory_bytes = stored.cost
    document = {
        "version": VERSION,
        "address": stored.address,
        "public_key": stored.public_key,
        "kdf": {
            "name": "argon2id",
            "salt": encode_b64(stored.salt),
            "passes": passes,
            "memory_bytes": memory_bytes,
        },
        "box": encode_b64(stored.box),
    }
    return json.dumps(document, indent=2) + "\n"
