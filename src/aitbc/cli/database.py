"""`aitbc db …`, and how the operator's commands come to the coordinator's settings and database.

Modules of the server are imported inside the functions: a client's command must not pay for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aitbc.cli.failures import FAILURE, CommandError
from aitbc.cli.findings import Finding, show_findings
from aitbc.cli.output import pairs, print_json, say
from aitbc.cli.profile import JsonOption

if TYPE_CHECKING:
    from aitbc.config import Settings
    from aitbc.database import Database

DatabaseOption = Annotated[
    str | None,
    typer.Option("--database-url", metavar="URL", help="Else DATABASE_URL, or a file in the home folder."),
]
HomeOption = Annotated[
    Path | None, typer.Option("--home", metavar="DIR", help="Home folder; else AITBC_HOME, ~/.aitbc.")
]

db_app = typer.Typer(no_args_is_help=True, help="The coordinator's database: upgrade, version, check.")


def settings_from(home: Path | None = None, database_url: str | None = None, **options: Any) -> Settings:
    """The coordinator's settings: the environment, with what was given as options on top."""
    from aitbc.config import load_settings

    given = {"home": home, "database_url": database_url, **options}
    return load_settings(**{name: value for name, value in given.items() if value is not None})


@contextmanager
def open_database(settings: Settings, *, create: bool = True) -> Iterator[Database]:
    """The coordinator's database, migrated (SQLite: by itself). `create` false: it must exist already."""
    from aitbc.migrate import current_revision, ensure_current

    if not create and current_revision(settings.database_url) is None:
        hint = "Name it with --database-url or --home."
        raise CommandError("NO_DATABASE", "there is no coordinator's database here", hint)
    prepare_home(settings)
    ensure_current(settings.database_url, auto=settings.database_url.startswith("sqlite"))
    with open_ledger(settings.database_url) as database:
        yield database


@contextmanager
def open_ledger(database_url: str) -> Iterator[Database]:
    """A migrated database, for use beside a running coordinator or without one."""
    from aitbc.database import Database

    database = Database.open(database_url)
    try:
        yield database
    finally:
        database.close()


def prepare_home(settings: Settings) -> None:
    """Make the home folder, for its owner only; what is in it is secret."""
    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        hint = "Name another with --home or AITBC_HOME."
        raise CommandError("HOME", f"{settings.home} cannot be made: {error.strerror}", hint) from error


@db_app.command()
def upgrade(
    as_json: JsonOption = False, database_url: DatabaseOption = None, home: HomeOption = None
) -> None:
    """Bring the database to this program's schema. On SQLite, `serve` does so by itself."""
    from aitbc.migrate import current_revision
    from aitbc.migrate import upgrade as apply_migrations

    url = settings_from(home, database_url).database_url
    before = current_revision(url)
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
    from aitbc.migrate import current_revision, head_revision

    found, needed = current_revision(settings_from(home, database_url).database_url), head_revision()
    if as_json:
        print_json({"database": found, "program": needed, "current": found == needed})
    else:
        pairs([("database", found or "empty"), ("program", needed)])


@db_app.command()
def check(as_json: JsonOption = False, database_url: DatabaseOption = None, home: HomeOption = None) -> None:
    """Check that the database answers, is up to date and is sound. Changes nothing; exit code 1 if not."""
    url = settings_from(home, database_url).database_url
    findings = [check_revision(url)]
    if findings[0].ok:
        findings.append(_check_soundness(url))
    if not show_findings(findings, as_json) or not findings[0].ok:
        raise typer.Exit(FAILURE)


def check_revision(url: str) -> Finding:
    """Whether the database can be reached and is at this program's revision; None: it does not exist yet."""
    from sqlalchemy.exc import SQLAlchemyError

    from aitbc.migrate import MigrationError, current_revision, head_revision

    name = "database"
    try:
        found, needed = current_revision(url), head_revision()
        if found == needed:
            return Finding(name, True, f"{_kind(url)} at revision {found}")
        if found is None:
            advice = "`aitbc serve` makes it" if url.startswith("sqlite") else "run: aitbc db upgrade"
            return Finding(name, None, f"{_kind(url)}, nothing in it yet", advice)
        from aitbc.migrate import ensure_current

        ensure_current(url, auto=False)
    except MigrationError as error:
        return Finding(name, False, f"{_kind(url)}: {error}", "see docs/operating.md")
    except (SQLAlchemyError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        return Finding(name, False, f"{_kind(url)} cannot be reached: {reason}", "check DATABASE_URL")
    return Finding(name, False, f"{_kind(url)} at revision {found}, not {needed}", "run: aitbc db upgrade")


def _check_soundness(url: str) -> Finding:
    from sqlalchemy import text

    from aitbc.migrate import open_connection

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
