"""`aitbc db …`, and how the operator's commands come to the coordinator's settings and database.

Modules of the server are imported inside the functions: a client's command must not pay for them.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aitbc.cli.failures import FAILURE, CommandError, usage_error
from aitbc.cli.findings import Finding, show_findings
from aitbc.cli.output import note, pairs, print_json, say
from aitbc.cli.profile import JsonOption

if TYPE_CHECKING:
    from aitbc.coordinator.config import Settings
    from aitbc.coordinator.database import Database

DatabaseOption = Annotated[
    str | None,
    typer.Option("--database-url", metavar="URL", help="Else DATABASE_URL, or a file in the home folder."),
]
HomeOption = Annotated[
    Path | None, typer.Option("--home", metavar="DIR", help="Home folder; else AITBC_HOME, ~/.aitbc.")
]

db_app = typer.Typer(
    no_args_is_help=True, help="The coordinator's database: upgrade, version, check, backup."
)


def settings_from(home: Path | None = None, database_url: str | None = None, **options: Any) -> Settings:
    """The coordinator's settings: the environment, with what was given as options on top."""
    from aitbc.coordinator.config import load_settings

    given = {"home": home, "database_url": database_url, **options}
    return load_settings(**{name: value for name, value in given.items() if value is not None})


@contextmanager
def open_database(
    settings: Settings, *, create: bool = False, looks_only: bool = False
) -> Iterator[Database]:
    """The coordinator's database, brought to this program's schema (SQLite) and of CHAIN_ID's network.

    It must exist: a second one, made by the way at a wrong place, would take what is meant for the first. With
    `create` it is made and founded where there is none, in AITBC_HOME, if that was named and no DATABASE_URL.
    With `looks_only` nothing is made or changed, in the database's folder either: one of an older schema is refused.
    CommandError NO_DATABASE, WrongNetwork, MigrationError.
    """
    from aitbc.coordinator.schema.migrate import ensure_current

    made = not has_database(settings.database_url)
    if made and not (create and {"home", "database_url"} & settings.model_fields_set == {"home"}):
        raise no_database(settings)
    check_network(settings)
    if not looks_only:
        prepare_home(settings)
    on_sqlite = settings.database_url.startswith("sqlite")
    if on_sqlite and not looks_only:
        not_under_a_coordinator(settings)
    ensure_current(settings.database_url, auto=on_sqlite and not looks_only)
    with open_ledger(settings.database_url, looks_only=looks_only) as database:
        if made:
            note(f"there was no database yet: made a new one, {shown(settings)}")
        yield database


def confirm(question: str, otherwise: str) -> None:
    """Asks the operator. Raises CommandError: nobody is there to ask, or a no, with what `otherwise` says."""
    if not sys.stdin.isatty():
        raise usage_error("nobody is there to ask", "Say --yes where a program runs this.")
    if not typer.confirm(question, err=True):
        raise CommandError("CANCELLED", otherwise)


def not_under_a_coordinator(settings: Settings) -> None:
    """Refuses to upgrade a database on which a coordinator of an older version runs. CommandError."""
    from aitbc.coordinator.database import sqlite_path
    from aitbc.coordinator.process.presence import holder, running
    from aitbc.coordinator.schema.migrate import current_revision, head_revision

    url = settings.database_url
    if current_revision(url) in (None, head_revision()):
        return
    count = (1 if holder(sqlite_path(url)) else 0) if url.startswith("sqlite") else sum(running(url).values())
    if count:
        what = (
            f"{count} {'coordinator runs' if count == 1 else 'coordinators run'} on this database with an older"
            " version, which does not know the schema that this program would make of it"
        )
        raise CommandError("DATABASE_IN_USE", what, "Nothing was changed. Stop every coordinator first.")


def has_database(url: str) -> bool:
    """Whether there is a coordinator's database. Looks only."""
    from aitbc.coordinator.schema.migrate import current_revision

    return current_revision(url) is not None


def no_database(settings: Settings) -> CommandError:
    """What is said where a command needs a database that is not there: where was looked, and what to do."""
    hint = (
        "Name the right one with DATABASE_URL, --database-url, AITBC_HOME or --home;"
        " `aitbc serve`, `aitbc init` and `aitbc db upgrade` make a new one."
    )
    return CommandError("NO_DATABASE", f"there is no coordinator's database: {shown(settings)}.", hint)


def shown(settings: Settings) -> str:
    """The database as a line for people: its URL without a password, and which setting named it."""
    from sqlalchemy.engine import make_url

    names = settings.model_fields_set
    by = "DATABASE_URL" if "database_url" in names else "AITBC_HOME" if "home" in names else "the default"
    return f"{make_url(settings.database_url).render_as_string(hide_password=True)} (by {by})"


def check_network(settings: Settings) -> None:
    """Raises WrongNetwork where the database is of another network than CHAIN_ID. Looks only."""
    from aitbc.coordinator.process.runtime import check_network as check
    from aitbc.coordinator.schema.migrate import current_revision

    if current_revision(settings.database_url) is not None:
        with open_ledger(settings.database_url, looks_only=True) as database:
            database.read_sync(check, settings.chain_id)


@contextmanager
def open_ledger(database_url: str, *, looks_only: bool = False) -> Iterator[Database]:
    """A migrated database, for use beside a running coordinator or without one."""
    from aitbc.coordinator.database import Database

    database = Database.open(database_url, looks_only=looks_only)
    try:
        yield database
    finally:
        database.close()


def prepare_home(settings: Settings) -> None:
    """Make the home folder and keep it, the database and all that this process makes for their owner only."""
    from aitbc.coordinator.database import sqlite_path
    from aitbc.coordinator.database.files import close_to_others, parts

    os.umask(0o077)
    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        hint = "Name another with --home or AITBC_HOME."
        raise CommandError("HOME", f"{settings.home} cannot be made: {error.strerror}", hint) from error
    changed = [] if settings.home in _shared() else [close_to_others(settings.home, 0o700)]
    if settings.database_url.startswith("sqlite"):
        changed += [close_to_others(part) for part in parts(sqlite_path(settings.database_url))]
    for line in filter(None, changed):
        note(line)


def _shared() -> set[Path]:
    """Folders that are not the coordinator's alone, even if somebody made one its home."""
    own = Path.home()
    return {own, *own.parents, Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")}  # noqa: S108 - not used


@db_app.command()
def upgrade(
    as_json: JsonOption = False, database_url: DatabaseOption = None, home: HomeOption = None
) -> None:
    """Bring the database to this program's schema. On SQLite, `serve` does so by itself."""
    from aitbc.coordinator.schema.migrate import current_revision
    from aitbc.coordinator.schema.migrate import upgrade as apply_migrations

    settings = settings_from(home, database_url)
    url = settings.database_url
    before = current_revision(url)
    check_network(settings)
    prepare_home(settings)
    not_under_a_coordinator(settings)
    after = apply_migrations(url)
    if as_json:
        print_json({"before": before, "after": after})
    else:
        say(f"at {after}: nothing to do" if before == after else f"from {before or 'empty'} to {after}")


@db_app.command()
def version(
    as_json: JsonOption = False, database_url: DatabaseOption = None, home: HomeOption = None
) -> None:
    """Show the database's revision, and the one that this program needs."""
    from aitbc.coordinator.schema.migrate import current_revision, head_revision

    settings = settings_from(home, database_url)
    found, needed = current_revision(settings.database_url), head_revision()
    if as_json:
        print_json({"database": found, "program": needed, "current": found == needed})
    else:
        pairs([("database", found or f"empty: {shown(settings)}"), ("program", needed)])


@db_app.command()
def check(as_json: JsonOption = False, database_url: DatabaseOption = None, home: HomeOption = None) -> None:
    """Check that the database answers, is up to date and is sound. Changes nothing; exit code 1 if not."""
    settings = settings_from(home, database_url)
    url = settings.database_url
    findings = [check_revision(settings)]
    if findings[0].ok:
        findings += [check_chain(settings), _check_soundness(url)]
    if not show_findings(findings, as_json) or not findings[0].ok:
        raise typer.Exit(FAILURE)


@db_app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to; it must not exist.")],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE where it exists.")] = False,
    as_json: JsonOption = False,
    database_url: DatabaseOption = None,
    home: HomeOption = None,
) -> None:
    """Write a backup of the database as of this moment, beside a running coordinator, and read it again.

    SQLite: a database file. PostgreSQL: a script for psql. docs/operating.md says how to put one back. The signing
    key is not in it.
    """
    settings = settings_from(home, database_url)
    if not has_database(settings.database_url):
        raise no_database(settings)
    check_network(settings)
    from aitbc.coordinator.schema.backup import BackupFailed, make
    from aitbc.coordinator.schema.migrate import DatabaseBehind, ensure_current

    with suppress(DatabaseBehind):  # the backup before an upgrade
        ensure_current(settings.database_url, auto=False)
    try:
        made = make(settings.database_url, file.expanduser().absolute(), overwrite=force)
    except BackupFailed as error:
        raise CommandError("BACKUP_FAILED", str(error), "No backup was made.") from error
    held = made.summary
    if as_json:
        print_json({"file": str(made.path), "bytes": made.size_bytes, **held._asdict()})
    else:
        rows = sum(held.rows.values())
        say(
            f"{made.path}: {made.size_bytes} bytes, {rows} rows, newest block {held.height}, revision {held.revision};"
            " written and read again"
        )


def check_revision(settings: Settings) -> Finding:
    """Whether the database can be reached and is at this program's revision; None: it does not exist yet."""
    from sqlalchemy.exc import SQLAlchemyError

    from aitbc.coordinator.schema.migrate import MigrationError, current_revision, head_revision

    name, url = "database", settings.database_url
    try:
        found, needed = current_revision(url), head_revision()
        if found == needed:
            return Finding(name, True, f"{_kind(url)} at revision {found}")
        if found is None:
            advice = "`aitbc serve` makes it" if url.startswith("sqlite") else "run: aitbc db upgrade"
            return Finding(name, None, f"nothing in it yet: {shown(settings)}", advice)
        from aitbc.coordinator.schema.migrate import ensure_current

        ensure_current(url, auto=False)
    except MigrationError as error:
        return Finding(name, False, f"{_kind(url)}: {error}", "see docs/operating.md")
    except (SQLAlchemyError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        return Finding(name, False, f"{_kind(url)} cannot be reached: {reason}", "check DATABASE_URL")
    return Finding(name, False, f"{_kind(url)} at revision {found}, not {needed}", "run: aitbc db upgrade")


def check_chain(settings: Settings) -> Finding:
    """Whether the database is of the network that the settings name."""
    from aitbc.coordinator.errors import WrongNetwork

    try:
        check_network(settings)
    except WrongNetwork as error:
        return Finding("network", False, error.message, "set CHAIN_ID, or name that network's database")
    return Finding("network", True, settings.chain_id)


def _check_soundness(url: str) -> Finding:
    from sqlalchemy import text

    from aitbc.coordinator.schema.migrate import open_connection

    name = "soundness"
    with open_connection(url, write=False) as connection:
        if connection.dialect.name != "sqlite":
            connection.execute(text("SELECT 1"))
            return Finding(name, True, "answers; PostgreSQL keeps its own checksums")
        problems = [row[0] for row in connection.execute(text("PRAGMA quick_check(3)"))]
        orphans = list(connection.execute(text("PRAGMA foreign_key_check")))
    if problems != ["ok"]:
        return Finding(name, False, str(problems[0]), "restore a backup: docs/operating.md")
    if orphans:
        return Finding(name, False, f"{len(orphans)} rows refer to rows that are not there")
    return Finding(name, True, "every page and every reference was checked")


def _kind(url: str) -> str:
    return "SQLite" if url.startswith("sqlite") else "PostgreSQL"
