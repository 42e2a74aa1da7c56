"""What a verifier trusts, read from files: the coordinator's keys, a policy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aitbc.cli.failures import CommandError

if TYPE_CHECKING:
    from aitbc.core.receipt import KeySet, Policy

MAX_FILE_BYTES = 64 * 1024 * 1024


def read_file(file: str) -> bytes:
    """A file's bytes; - is stdin. Raises CommandError."""
    try:
        if file == "-":
            data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with Path(file).open("rb") as stream:
                data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise CommandError("FILE", f"{file} cannot be read: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise CommandError("FILE", f"{file} is larger than any receipt")
    return data


def load_keys(path: Path) -> KeySet:
    """A coordinator's keys, as `aitbc receipt keys --save` wrote them. Raises CommandError."""
    from aitbc.core.canonical import loads_strict
    from aitbc.core.receipt import KeySet

    try:
        return KeySet.from_json(loads_strict(read_file(str(path))))
    except ValueError as error:
        hint = "Get them with: aitbc receipt keys --save FILE"
        raise CommandError("KEYS", f"{path} does not hold a coordinator's keys: {error}", hint) from error


def load_policy(path: Path) -> Policy:
    """A policy file. Raises CommandError."""
    from aitbc.core.receipt import Policy, PolicyInvalid

    try:
        return Policy.from_bytes(read_file(str(path)))
    except PolicyInvalid as error:
        raise CommandError(
            "POLICY", f"{path} is not a policy: {error}", "See docs/formats/policy.md"
        ) from error
