"""Which network stands behind which address: learned the first time that something is signed for it, held to from
then on.

A signed transfer is good on the network whose id it names. So a coordinator must not be able to name another one
tomorrow, nor that of a network which the wallet knows from elsewhere: what it is paid would be paid there as well.
A miner's result is good only where its job is, so that a miner may know one network by several addresses.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from aitbc.core.canonical import loads_strict

FILE_NAME = "networks.json"
VERSION = "aitbc/networks/v1"
MAX_BYTES = 1 << 20
_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)


class NetworkDoubt(Exception):
    """The network that a coordinator names is not the one to be signed for; the message says why."""


def is_network_id(text: str) -> bool:
    """Whether this is written as a network's id is: 64 lower-case hex digits."""
    return _ID.fullmatch(text) is not None


def known(folder: Path) -> dict[str, str]:
    """Network ids by the coordinator's URL. NetworkDoubt: a file that holds something else."""
    path = folder / FILE_NAME
    try:
        with path.open("rb") as file:
            document = loads_strict(file.read(MAX_BYTES))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise NetworkDoubt(f"{path} cannot be read: {error}") from None
    found = document.get("networks") if isinstance(document, dict) else None
    if not isinstance(found, dict) or document.get("version") != VERSION:
        raise NetworkDoubt(f"{path} is not a list of networks")
    if not all(isinstance(each, str) and is_network_id(each) for each in found.values()):
        raise NetworkDoubt(f"{path} is damaged: a network's id is 64 hex digits")
    return found


def settle(folder: Path, url: str, told: str, wanted: str | None = None, *, one_address: bool = True) -> str:
    """The network to sign for at `url`, whose coordinator calls itself `told`; it is remembered from then on.

    `wanted`: the id that the owner named, which overrides what was remembered. `one_address`: a network that is
    known by another address is doubted as well. Raises NetworkDoubt.
    """
    if not is_network_id(told):
        raise NetworkDoubt(f"{url} names no network id")
    if wanted is not None and told != wanted:
        raise NetworkDoubt(f"{url} is the network {told}, not {wanted}")
    pins = known(folder)
    if wanted is None:
        before = pins.get(url)
        if before not in (None, told):
            raise NetworkDoubt(f"{url} was the network {before} before, and calls itself {told} now")
        others = sorted(other for other, each in pins.items() if each == told and other != url)
        if one_address and before is None and others:
            raise NetworkDoubt(
                f"{url} calls itself the network {told}, which you know as {others[0]}:"
                " what you sign for the one is good at the other"
            )
    if pins.get(url) != told:
        _write(folder, {**pins, url: told})
    return told


def _write(folder: Path, pins: dict[str, str]) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = folder / f".{FILE_NAME}.{os.getpid()}"
    text = json.dumps({"version": VERSION, "networks": pins}, indent=2) + "\n"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(folder / FILE_NAME)
