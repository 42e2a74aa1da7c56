"""Variables that look like settings but are none: a typo there changes nothing, in silence."""

import os
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

from aitbc.coordinator.config import Settings
from aitbc.coordinator.config.environment import ENV_FILE, environment_name

PREFIX = "AITBC_"
OTHER_NAMES = (
    "AITBC_URL",
    "AITBC_API_KEY",
    "AITBC_ENGINE_KEY",
    "AITBC_WALLET",
    "AITBC_WALLET_PASSPHRASE",
    "AITBC_WITNESS_HOME",
)
"""Variables with our prefix that are no settings of the coordinator: its clients read them."""


def strange_settings(
    environment: Mapping[str, str] | None = None, env_file: Path | None = None
) -> list[tuple[str, str]]:
    """Names that look like settings but are none, and what to say of each: those with our prefix, and those
    that are one typo (or another case) away from a setting. In the environment and in `.env`; never a value.
    """
    file = env_file or Path(ENV_FILE)
    names = dict.fromkeys(os.environ if environment is None else environment, "the environment")
    names |= {name: str(file) for name in dotenv_values(file)}
    known = {environment_name(field) for field in Settings.model_fields}
    found = []
    for name, where in sorted(names.items()):
        if name in known or name in OTHER_NAMES:
            continue
        upper = name.upper()
        meant = [one for one in (*sorted(known), *OTHER_NAMES) if _one_typo(upper, one)]
        if upper.startswith(PREFIX):
            meant += [one for one in sorted(known) if _one_typo(upper.removeprefix(PREFIX), one)]
        if meant or upper.startswith(PREFIX):
            hint = f"; did you mean {meant[0]}?" if meant else "; see .env.example"
            found.append((name, f"{name} in {where} is no setting and is not read{hint}"))
    return found


def _one_typo(text: str, wanted: str) -> bool:
    """Whether one letter added, left out, changed, or two swapped make one of the other (or they are the same)."""
    if text == wanted:
        return True
    if abs(len(text) - len(wanted)) > 1:
        return False
    at = next((i for i, (a, b) in enumerate(zip(text, wanted, strict=False)) if a != b), None)
    if at is None:
        return True  # one ends a letter sooner
    swapped = text[at + 1 : at + 2] + text[at] + text[at + 2 :]
    return (
        text[at + 1 :] == wanted[at + 1 :]
        or text[at + 1 :] == wanted[at:]
        or text[at:] == wanted[at + 1 :]
        or swapped == wanted[at:]
    )
