"""`aitbc log …`: the log's last signed head, as it is kept outside the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aitbc.cli.database import DatabaseOption, HomeOption, open_database, settings_from
from aitbc.cli.failures import FAILURE, CommandError
from aitbc.cli.output import pairs, print_json, say
from aitbc.cli.profile import JsonOption

if TYPE_CHECKING:
    from aitbc.coordinator.config import Settings
    from aitbc.coordinator.signing.headfile import HeadFile

log_app = typer.Typer(
    no_args_is_help=True,
    help="The log's last signed head, kept outside the database: head shows it, accept gives it up.",
)


@log_app.command()
def head(as_json: JsonOption = False, database_url: DatabaseOption = None, home: HomeOption = None) -> None:
    """Show the head that is kept beside the signing key, and whether the database continues it. Exit code 1 if not.

    The file is a signed checkpoint: give it to aitbc audit --since, and keep copies of it elsewhere.
    """
    found, _head_file, _checkpoint = look(settings_from(home, database_url))
    fault = found["fault"]
    if as_json:
        print_json(found)
    else:
        kept = (
            "none yet"
            if found["kept_size"] is None
            else f"{found['kept_size']} leaves, root {found['kept_root']}"
        )
        pairs(
            [
                ("file", found["file"]),
                ("kept", kept),
                ("database", f"{found['database_size']} leaves, root {found['database_root']}"),
            ]
        )
        say(f"NOT CONTINUED: {fault}" if fault else "the database continues the kept head")
    if fault:
        raise typer.Exit(FAILURE)


@log_app.command()
def accept(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
    database_url: DatabaseOption = None,
    home: HomeOption = None,
) -> None:
    """Go on with a database that does not continue the kept head, such as a restored backup.

    What was signed beyond it is given up: its receipts, transfers and blocks are in nobody's log any more, and the
    log's key will have signed two histories, which everybody who kept a checkpoint can prove. Witnesses will not
    cosign any more (docs/witness.md): with witnesses, begin a new network instead. Stop the coordinators first.
    """
    found, head_file, checkpoint = look(settings_from(home, database_url))
    if found["fault"] and not yes:
        say(f"{found['fault']}")
        typer.confirm(
            f"Go on with {found['database_size']} leaves, and give up what was signed beyond them?",
            abort=True,
            err=True,
        )
    head_file.accept(checkpoint or None)
    if as_json:
        print_json({"file": found["file"], "size": found["database_size"], "given_up": bool(found["fault"])})
    else:
        say(f"the kept head is that of this database now: {found['database_size']} leaves")


def look(settings: Settings) -> tuple[dict[str, Any], HeadFile, str]:
    """What is kept against what is stored; the file; the database's newest checkpoint, or ''. CommandError."""
    from aitbc.coordinator.chain import continuity, sealer
    from aitbc.coordinator.process.runtime import has_signing_key, signing_key
    from aitbc.coordinator.signing.headfile import HeadFile, HeadFileError, Kept
    from aitbc.core.log.merkle import EMPTY_ROOT

    if not has_signing_key(settings):  # asking for it would make one
        what = f"there is no coordinator's signing key in {settings.home}, beside which the head is kept"
        raise CommandError("HEAD", what, "Name the coordinator's home with --home or AITBC_HOME.")
    head_file, kept, fault = HeadFile(settings.home, settings.chain_id), Kept(), ""
    try:
        kept = head_file.read()
    except HeadFileError as error:
        fault = str(error)
    except OSError as error:
        raise CommandError("HEAD", f"{head_file.path} cannot be read: {error.strerror}") from error
    with open_database(settings, looks_only=True) as database:
        last = database.read_sync(sealer.head)
        looked = database.read_sync(continuity.look, kept, settings.chain_id, signing_key(settings))
    signed = None if kept.head is None else kept.head.head
    found = {
        "file": str(head_file.path),
        "kept_size": None if signed is None else signed.size,
        "kept_root": None if signed is None else signed.root.hex(),
        "database_size": 0 if last is None else last.tree_size,
        "database_root": EMPTY_ROOT.hex() if last is None else last.root,
        "fault": fault or looked.fault or None,
    }
    return found, head_file, "" if last is None else last.checkpoint
