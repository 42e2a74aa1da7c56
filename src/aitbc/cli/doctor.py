"""`aitbc doctor`: is this machine fit to be a client, a miner, a coordinator? What to do where it is not."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import socket
import stat
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aitbc.cli.failures import FAILURE, CommandError
from aitbc.cli.findings import Finding, show_findings
from aitbc.cli.output import ait
from aitbc.cli.profile import (
    PROFILE_NAME,
    JsonOption,
    KeyOption,
    Profile,
    UrlOption,
    home,
    load_profile,
    resolve,
)
from aitbc.sdk import AitbcClientError, ApiError, Client

if TYPE_CHECKING:
    from aitbc.coordinator.config import Settings

LOW_DISK_BYTES = 200 * 1024 * 1024
SOME_DISK_BYTES = 2 * 1024 * 1024 * 1024
MAX_SKEW_S = 30
MINIMUM_PYTHON = (3, 11)
EARLIEST_S = 1_767_225_600
"""2026-01-01: a clock before the program's own making is wrong."""


def doctor(
    engine: Annotated[bool, typer.Option(help="Look for an engine that could run models.")] = True,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Check this machine, its settings and its coordinator; say what to do about what is wrong."""
    findings = [check_python(), *check_home(home()), *_check_server(), check_gpu()]
    if engine:
        findings.append(check_engine())
    findings += check_coordinator(url, key)
    if not show_findings(findings, as_json):
        raise typer.Exit(FAILURE)


def check_python() -> Finding:
    """The interpreter is new enough, and the libraries that every part needs can be loaded."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < MINIMUM_PYTHON:
        return Finding("python", False, f"{found} at {sys.executable}", "install Python 3.11 or newer")
    try:
        import nacl.bindings  # noqa: F401 - is it there?
        import rfc8785  # noqa: F401
    except ImportError as error:
        return Finding("python", False, f"{found}, but {error}", "install the package anew: make setup")
    return Finding("python", True, f"{found} at {sys.executable}")


def check_home(folder: Path) -> Iterator[Finding]:
    """The home folder is private and can be written; so are the files in it that hold keys."""
    if not folder.exists():
        parent = next(path for path in folder.parents if path.exists())
        writable = os.access(parent, os.W_OK)
        advice = "" if writable else f"make {parent} writable, or set AITBC_HOME"
        detail = f"{folder} is not there yet; it is made when first needed"
        yield Finding("home", None if writable else False, detail, advice)
        return
    mode = stat.S_IMODE(folder.stat().st_mode)
    if not folder.is_dir() or not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("home", False, f"{folder} cannot be written", "give it to your user, or set AITBC_HOME")
        return
    if os.name == "posix" and mode & 0o077:
        yield Finding(
            "home", False, f"{folder} is open to others (mode {mode:04o})", f"run: chmod 700 {folder}"
        )
    else:
        yield Finding("home", True, f"{folder} (mode {mode:04o})")
    yield _check_private_files(folder)


def _check_private_files(folder: Path) -> Finding:
    files = [path for path in (*folder.glob("*.key"), folder / PROFILE_NAME) if path.is_file()]
    if os.name != "posix" or not files:
        return Finding("private files", None, "none yet")
    # The rest of the folder is as private as the folder itself; what holds a key must be so even if copied.
    loose = [path for path in files if path.stat().st_mode & 0o077]
    if loose:
        names = " ".join(str(path) for path in loose)
        return Finding("private files", False, f"open to others: {names}", f"run: chmod 600 {names}")
    return Finding("private files", True, ", ".join(sorted(path.name for path in files)))


def _check_server() -> Iterator[Finding]:
    """Settings, database and keys of a coordinator on this machine."""
    from aitbc.coordinator.config import SettingsError, load_settings
    from aitbc.coordinator.misspelt import strange_settings

    try:
        settings = load_settings()
    except SettingsError as error:
        lines = str(error).replace("\n", "; ")
        yield Finding("settings", False, lines, "correct the environment or .env; see .env.example")
        yield check_disk(home())
        return
    strange = [sentence for _name, sentence in strange_settings()]
    yield Finding("settings", None if strange else True, "; ".join([f"chain {settings.chain_id}", *strange]))
    if settings.home != home():  # a .env names another than the environment
        yield from check_home(settings.home)
    yield check_disk(settings.home)
    yield _check_port(settings)
    yield _check_signing_key(settings)
    from aitbc.cli.database import check_chain, check_revision

    database = check_revision(settings)
    yield database
    if database.ok:
        chain = check_chain(settings)
        yield chain
        yield from _check_database_files(settings)
        yield _check_others(settings)
        if chain.ok:
            yield _check_head(settings)
            yield _check_keys(settings)
            from aitbc.cli.exchange import check_exchange

            yield from check_exchange(settings)


def _check_port(settings: Settings) -> Finding:
    where = f"{settings.api_host} port {settings.api_port}"
    family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.api_host, settings.api_port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return Finding("port", None, f"{where} is in use: by `aitbc serve`, if one is running")
            advice = "choose another with API_HOST and API_PORT"
            return Finding("port", False, f"{where} cannot be used: {error.strerror}", advice)
    return Finding("port", True, f"{where} is free for `aitbc serve`")


def _check_signing_key(settings: Settings) -> Finding:
    name = "signing key"
    if settings.secret_key:
        return Finding(name, True, "made from SECRET_KEY")
    from aitbc.keyfile import KeyFileError, load_key

    path = settings.home / "coordinator.key"
    try:
        return Finding(name, True, f"{load_key(path).key_id} in {path}")
    except FileNotFoundError:
        return Finding(name, None, "none yet; `aitbc serve` makes it")
    except KeyFileError as error:
        return Finding(name, False, str(error), "restore it from a backup")
    except OSError as error:
        return Finding(name, False, f"{path} cannot be read: {error.strerror}", "give it to your user")


def _check_others(settings: Settings) -> Finding:
    """Coordinators that run on the database now; all have to sign with this machine's key."""
    from aitbc.coordinator.database import sqlite_path
    from aitbc.coordinator.process.presence import holder, running
    from aitbc.coordinator.process.runtime import has_signing_key, signing_key
    from aitbc.keyfile import KeyFileError

    name = "coordinators"
    if settings.database_url.startswith("sqlite"):
        process = holder(sqlite_path(settings.database_url))
        return Finding(name, None, f"{process} runs on this database" if process else "none runs now")
    there = running(settings.database_url)
    if not there:
        return Finding(name, None, "none runs now")
    detail = ", ".join(f"{count} signing with {key}…" for key, count in there.items())
    if len(there) > 1:
        return Finding(name, False, detail, "give all the same SECRET_KEY")
    if not has_signing_key(settings):
        return Finding(name, None, detail)
    try:
        own = signing_key(settings).key_id
    except (KeyFileError, OSError) as error:
        return Finding(name, None, f"{detail}; {error}")
    if not own.startswith(tuple(there)):
        return Finding(name, False, f"{detail}; here it would be {own}", "set the same SECRET_KEY here")
    return Finding(name, True, detail)


def _check_head(settings: Settings) -> Finding:
    """Whether the database continues the log whose head is kept here: a restored backup does not."""
    from aitbc.cli.log import look
    from aitbc.coordinator.process.runtime import has_signing_key
    from aitbc.keyfile import KeyFileError

    name = "log"
    if not has_signing_key(settings):
        return Finding(name, None, "no signing key here, and so no kept head")
    try:
        found, _file, _checkpoint = look(settings)
    except (CommandError, KeyFileError, OSError) as error:
        return Finding(name, False, str(error), "see docs/operating.md, Restoring")
    if found["fault"]:
        return Finding(name, False, found["fault"], "see `aitbc log head`, and docs/operating.md, Restoring")
    return Finding(name, True, f"{found['database_size']} leaves, continuing the head that is kept")


def _check_database_files(settings: Settings) -> Iterator[Finding]:
    """Prompts are in the database: nobody else on this machine reads it."""
    from aitbc.coordinator.database import sqlite_path
    from aitbc.coordinator.database.files import parts

    if os.name != "posix" or not settings.database_url.startswith("sqlite"):
        return
    files = [path for path in parts(sqlite_path(settings.database_url)) if path.exists()]
    loose = " ".join(str(path) for path in files if path.stat().st_mode & 0o077)
    if loose:
        yield Finding("database files", False, f"open to others: {loose}", f"run: chmod 600 {loose}")
    else:
        yield Finding("database files", True, ", ".join(path.name for path in files))


def _check_keys(settings: Settings) -> Finding:
    from aitbc.cli.database import open_database
    from aitbc.coordinator.api_keys.service import list_keys
    from aitbc.coordinator.errors import AitbcError

    try:
        with open_database(settings, looks_only=True) as database:
            rows = database.read_sync(list_keys)
    except AitbcError as error:
        return Finding("keys", False, str(error), "see docs/operating.md")
    now_ms = time.time() * 1000
    active = [
        row
        for row in rows
        if row.revoked_at_ms is None and (row.expires_at_ms is None or row.expires_at_ms > now_ms)
    ]
    if not active and not settings.api_keys:
        return Finding("keys", None, "no API key can be used", "run: aitbc keys create --role client")
    roles = ", ".join(
        f"{sum(row.role == role for row in active)} {role}" for role in ("client", "miner", "admin")
    )
    return Finding("keys", True, roles + (" and those of API_KEYS" if settings.api_keys else ""))


def check_disk(folder: Path) -> Finding:
    """Room on the disk that the home folder is on."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    detail = f"{free / 1024**3:.1f} GB free at {existing}"
    if free < LOW_DISK_BYTES:
        return Finding(
            "disk", False, detail, "make room, or move AITBC_HOME: a full disk stops the coordinator"
        )
    if free < SOME_DISK_BYTES:
        return Finding(
            "disk", None, detail, "not much: a busy coordinator writes about 3 GB per million jobs"
        )
    return Finding("disk", True, detail)


def check_gpu() -> Finding:
    """GPUs as a miner would advertise them."""
    from aitbc.miner.gpu import detect_gpus

    gpus = detect_gpus()
    if not gpus:
        return Finding(
            "gpu", None, "no NVIDIA GPU; a miner here runs on the CPU, or on what its engine finds"
        )
    return Finding("gpu", True, ", ".join(f"{gpu.name}, {gpu.memory_gb:g} GB" for gpu in gpus))


def check_engine() -> Finding:
    """The engine that `aitbc miner run` would choose here."""
    from aitbc.miner.engines.detect import EngineChoice, NoEngine, choose_engine

    async def choose() -> str:
        chosen = await choose_engine(EngineChoice())
        name = f"{chosen.name}"
        await chosen.close()
        return name

    try:
        return Finding("engine", True, f"`aitbc miner run` would use {asyncio.run(choose())}")
    except NoEngine as error:
        return Finding(
            "engine", False, str(error), "start Ollama, or name a server with --engine openai --url"
        )


def check_coordinator(url: str | None, key: str | None) -> Iterator[Finding]:
    """The coordinator answers, its clock and ours agree, and it takes the key."""
    try:
        configured = url or os.environ.get("AITBC_URL") or load_profile()
        target = resolve(url, key)
    except CommandError as error:
        yield Finding("profile", False, error.message, error.hint)
        return
    try:
        with Client(target.url, target.key or "", timeout_s=5.0, tries=1) as client:
            before_s = time.time()
            state = client.health()
            detail = f"{client.url}: version {state.version}, chain {state.chain_id}"
            yield Finding("coordinator", state.status == "ok", detail)
            if state.sealing_stopped:
                advice = "put the newest database back: docs/operating.md, Restoring"
                yield Finding("blocks", False, f"none is sealed: {state.sealing_stopped}", advice)
            yield check_clock(before_s, state.time)
            yield _check_key(client, target)
    except AitbcClientError as error:
        advice = "check --url" if configured else "start one: aitbc demo, or aitbc serve"
        yield Finding("coordinator", False if configured else None, error.message, advice)
    except ValueError as error:
        yield Finding("coordinator", False, str(error), "correct it with: aitbc login --url URL")


def check_clock(before_s: float, theirs: datetime | None) -> Finding:
    """This machine's clock against the coordinator's, which says the time to the second."""
    if before_s < EARLIEST_S:
        return Finding("clock", False, "this machine's clock is years behind", "set it (NTP)")
    if theirs is None:
        return Finding("clock", None, "the coordinator did not say the time")
    skew_s = before_s - theirs.timestamp()
    if abs(skew_s) > MAX_SKEW_S:
        ahead = "ahead of" if skew_s > 0 else "behind"
        detail = f"{abs(skew_s):.0f} s {ahead} the coordinator's"
        return Finding("clock", False, detail, "set this machine's clock, or the coordinator's (NTP)")
    return Finding("clock", True, "agrees with the coordinator's")


def _check_key(client: Client, target: Profile) -> Finding:
    if target.key is None:
        return Finding("your key", None, "none is set", "save one with: aitbc login --key KEY")
    try:
        money = client.balance()
    except ApiError as error:
        advice = "get a key from the operator, then: aitbc login --key KEY"
        return Finding("your key", False, f"{error.code}: {error.message}", advice)
    return Finding("your key", True, f"account {money.account}, {ait(money.available)} AIT available")
