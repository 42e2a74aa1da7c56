"""An Ed25519 key in a file that only its owner can read."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
from pathlib import Path

from aitbc.core.canonical import loads_strict
from aitbc.core.signing import ALGORITHM, PrivateKey, decode_b64, encode_b64

_MAX_BYTES = 4096


class KeyFileError(Exception):
    """A key file that cannot or must not be used; the message says what to do about it."""


def load_or_create_key(path: str | os.PathLike[str]) -> PrivateKey:
    """The key in `path`, created there (mode 0600, missing folders 0700) if there is none.

    Of several processes that create it at once, all get the same key. KeyFileError: others may read the file,
    or it holds something else. OSError: the disk says no.
    """
    target = Path(path)
    try:
        return load_key(target)
    except FileNotFoundError:
        # Where another process is first, its key is the key.
        seed = encode_b64(PrivateKey.generate().seed)
        write_private(target, json.dumps({"alg": ALGORITHM, "seed": seed}) + "\n")
    return load_key(target)


def load_key(path: str | os.PathLike[str]) -> PrivateKey:
    """The key in `path`. FileNotFoundError, KeyFileError, OSError."""
    target = Path(path)
    data = read_private(target)
    try:
        document = loads_strict(data)
        if not isinstance(document, dict) or document.get("alg") != ALGORITHM:
            raise ValueError(f'not {{"alg": "{ALGORITHM}", "seed": ...}}')
        seed = document.get("seed")
        if not isinstance(seed, str):
            raise ValueError("it has no seed")
        return PrivateKey.from_seed(decode_b64(seed))
    except ValueError as error:
        raise KeyFileError(f"{target} is not a key file: {error}") from None


def read_private(target: Path) -> bytes:
    """What is in a small file of secrets. FileNotFoundError, KeyFileError where others may read it, OSError."""
    with target.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if os.name == "posix" and mode & 0o077:
            raise KeyFileError(f"{target} may be read by others (mode {mode:04o}); run: chmod 600 {target}")
        return file.read(_MAX_BYTES + 1)


def _new_draft(target: Path) -> tuple[Path, int]:
    """A new file beside the target that only its owner can read, open for writing."""
    draft = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    return draft, os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def _write(descriptor: int, text: str) -> None:
    """Writes the text to the disk, and closes the file."""
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_private(target: Path, text: str) -> bool:
    """Writes a new file that only its owner can read (mode 0600, missing folders 0700), whole or not at all.

    False, with nothing changed, where the file exists. OSError: the disk says no.
    """
    _make_private_folder(target.parent)
    # Written whole beside the target, then linked: link() fails where the name exists, so nobody ever
    # sees half a file and the first of several creators wins.
    draft, descriptor = _new_draft(target)
    try:
        _write(descriptor, text)
        try:
            os.link(draft, target)
        except FileExistsError:
            return False
    finally:
        draft.unlink()
    _sync_folder(target.parent)
    return True


def replace_private(target: Path, text: str) -> None:
    """Writes a file that only its owner can read in place of the one there, durably: whole or not at all.

    OSError: the disk says no.
    """
    _make_private_folder(target.parent)
    draft, descriptor = _new_draft(target)
    try:
        _write(descriptor, text)
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _make_private_folder(folder: Path) -> None:
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for made in reversed(missing):
        made.mkdir(mode=0o700, exist_ok=True)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def derive_key(secret: str, purpose: str) -> PrivateKey:
    """The key that a shared secret stands for: the same on every machine, another for each purpose.

    scrypt makes guessing a weak secret from the public key slow; it is no substitute for a random one.
    """
    seed = hashlib.scrypt(secret.encode(), salt=purpose.encode(), n=1 << 14, r=8, p=1, dklen=32)
    return PrivateKey.from_seed(seed)
