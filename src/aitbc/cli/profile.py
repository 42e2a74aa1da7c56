"""Which coordinator and key: options first, then the environment, then the profile that `login` wrote."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from aitbc.cli.failures import CommandError, usage_error
from aitbc.sdk import Client
from aitbc.sdk.http import DEFAULT_URL

PROFILE_NAME = "profile.json"

UrlOption = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Coordinator; else AITBC_URL, the profile, this machine."),
]
KeyOption = Annotated[
    str | None,
    typer.Option("--key", metavar="KEY", help="API key; else AITBC_API_KEY, the profile."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True)
class Profile:
    """What `aitbc login` saved."""

    url: str
    key: str | None


def home() -> Path:
    """Where the program keeps its own files: AITBC_HOME, or ~/.aitbc."""
    return Path(os.environ.get("AITBC_HOME") or "~/.aitbc").expanduser().absolute()


def load_profile() -> Profile | None:
    """The saved profile, or None. A file that others can read is refused: it holds a key."""
    path = home() / PROFILE_NAME
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CommandError("PROFILE", f"{path} cannot be read: {error.strerror}") from error
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise CommandError("PROFILE", f"{path} can be read by others", f"Run: chmod 600 {path}")
    try:
        data = json.loads(text)
        return Profile(url=str(data["url"]), key=data.get("key") or None)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CommandError(
            "PROFILE", f"{path} is damaged", "Write it anew with `aitbc login --url URL`."
        ) from error


def save_profile(profile: Profile, folder: Path | None = None) -> Path:
    """Write the profile into the home folder so that only its owner can read it, whole or not at all."""
    folder = folder or home()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / PROFILE_NAME
    fresh = folder / f".{PROFILE_NAME}.{os.getpid()}"
    text = json.dumps({"url": profile.url, "key": profile.key}) + "\n"
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise CommandError("PROFILE", f"{path} cannot be written: {error.strerror}") from error
    return path


def resolve(url: str | None, key: str | None) -> Profile:
    """The coordinator and key to use. A profile's key goes only to the profile's own coordinator."""
    url = url or os.environ.get("AITBC_URL") or None
    key = key or os.environ.get("AITBC_API_KEY") or None
    if url is None or key is None:
        saved = load_profile()
        if saved is not None:
            if key is None and (url is None or url.rstrip("/") == saved.url.rstrip("/")):
                key = saved.key
            url = url or saved.url
    return Profile(url or DEFAULT_URL, key)


@contextmanager
def connect(url: str | None, key: str | None) -> Iterator[Client]:
    """A client for the coordinator that the options, the environment or the profile name."""
    target = resolve(url, key)
    try:
        client = Client(target.url, target.key or "")
    except ValueError as error:
        raise usage_error(str(error)) from error
    with client:
        yield client
