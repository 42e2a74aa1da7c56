"""`aitbc audit`: on the operator's database, or as an outsider over HTTP."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aitbc.cli.database import DatabaseOption, HomeOption, open_database, settings_from
from aitbc.cli.failures import FAILURE, UNREACHABLE, CommandError, checked_url, usage_error
from aitbc.cli.output import note, print_json, say
from aitbc.cli.profile import JsonOption
from aitbc.cli.trust import load_keys, load_policy, read_file

if TYPE_CHECKING:
    from aitbc.audit.findings import Progress, Report
    from aitbc.audit.trust import Kept, Trust

LINE_EVERY_S = 5.0


def audit(
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="Audit this coordinator from outside, over HTTP."),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option("--policy", metavar="FILE", help="The keys and witnesses that you trust."),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            "--keys", metavar="FILE", help="The coordinator's keys as you saved them: these and no others."
        ),
    ] = None,
    since: Annotated[
        list[Path] | None,
        typer.Option(
            "--since",
            metavar="FILE",
            help="A checkpoint that you kept: the log must continue it. May be repeated.",
        ),
    ] = None,
    as_json: JsonOption = False,
    database_url: DatabaseOption = None,
    home: HomeOption = None,
) -> None:
    """Recompute balances, leaves, tree, blocks, signatures, receipts, and compare; name the first thing wrong.

    On the coordinator's database, or with --url as an outsider. Exit code 1 if anything is wrong.
    """
    if url is not None and (database_url is not None or home is not None):
        raise usage_error("--url is another audit than --database-url or --home")
    began = time.monotonic()
    trust = _trust(keys, policy, since or [])
    with _watched(quiet=as_json) as progress:
        report = (
            _of_url(url, trust, progress)
            if url is not None
            else _of_database(database_url, home, trust, progress)
        )
    seconds = time.monotonic() - began
    if as_json:
        print_json({**report.to_json(), "seconds": round(seconds, 3)})
    else:
        _show(report, seconds)
    if not report.ok:
        raise typer.Exit(FAILURE)


def _trust(keys: Path | None, policy: Path | None, since: list[Path]) -> Trust:
    from aitbc.audit.trust import Trust

    return Trust(
        keys=None if keys is None else load_keys(keys),
        policy=None if policy is None else load_policy(policy),
        kept=tuple(_load_kept(path) for path in since),
    )


def _load_kept(path: Path) -> Kept:
    """A kept checkpoint. Raises CommandError."""
    from aitbc.audit.trust import read_kept
    from aitbc.core.log.note import NoteInvalid

    try:
        return read_kept(str(path), read_file(str(path)).decode("utf-8", "replace"))
    except NoteInvalid as error:
        hint = "Keep one with: curl -o FILE URL/log/checkpoint"
        raise CommandError("CHECKPOINT", f"{path} is not a checkpoint: {error}", hint) from error


def _of_database(database_url: str | None, home: Path | None, trust: Trust, progress: Progress) -> Report:
    from aitbc.audit.database import audit as audit_database
    from aitbc.coordinator.config.lists import split_witnesses
    from aitbc.coordinator.signing.headfile import HeadFile

    settings = settings_from(home, database_url)
    own = HeadFile(settings.home, settings.chain_id).path
    # A database that is named by itself, such as a backup, need not be the one that this home's key signs for.
    if not trust.kept and own.is_file() and (database_url is None or home is not None):
        trust = replace(trust, kept=(_load_kept(own),))
    witnesses = [witness for witness, _url in split_witnesses(settings.witnesses)]
    with open_database(settings, looks_only=True) as database:
        return database.read_sync(audit_database, settings.chain_id, witnesses, progress, trust)


def _of_url(url: str, trust: Trust, progress: Progress) -> Report:
    from aitbc.audit.http import Unreachable
    from aitbc.audit.outside import audit_url

    try:
        return audit_url(
            checked_url(url), keys=trust.keys, policy=trust.policy, kept=trust.kept, progress=progress
        )
    except Unreachable as error:
        raise CommandError("UNREACHABLE", str(error), "Check --url.", exit_code=UNREACHABLE) from error


def _show(report: Report, seconds: float) -> None:
    for line in report.checked:
        say(f"ok       {line}")
    for line in report.not_checked:
        say(f"not checked  {line}")
    counts = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in report.counts.items())
    say(f"{counts or 'nothing'} in {seconds:.1f} s")
    if report.wrong is None:
        say("the books are right: all that was checked is what its parts say")
    else:
        say(f"WRONG    {report.wrong}")
        say("the books are WRONG; this is the first thing found, and what follows was not looked at")


@contextmanager
def _watched(*, quiet: bool) -> Iterator[Progress]:
    """A live bar on a terminal, else a line now and then; on stderr."""
    from aitbc.audit.findings import Unwatched

    if quiet:
        yield Unwatched()
    elif not sys.stderr.isatty():
        yield Lines()
    else:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns: list[Any] = [TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn()]
        console = Console(stderr=True)
        with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as shown:
            yield Bar(shown)


class Bar:
    """Progress as rich shows it: one bar, the stage's."""

    def __init__(self, shown: Any) -> None:
        self._shown = shown
        self._task: Any = None

    def stage(self, name: str, total: int) -> None:
        if self._task is not None:
            self._shown.remove_task(self._task)
        self._task = self._shown.add_task(name, total=total or None)

    def step(self, count: int) -> None:
        self._shown.advance(self._task, count)


class Lines:
    """Progress as plain lines, none for what is quick."""

    def __init__(self) -> None:
        self._name = ""
        self._total = self._done = 0
        self._said_at = time.monotonic()

    def stage(self, name: str, total: int) -> None:
        self._name, self._total, self._done = name, total, 0

    def step(self, count: int) -> None:
        self._done += count
        if time.monotonic() - self._said_at >= LINE_EVERY_S:
            self._said_at = time.monotonic()
            note(f"{self._name}: {self._done} of {self._total}")
