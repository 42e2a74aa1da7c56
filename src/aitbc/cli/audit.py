"""`aitbc audit`."""

from __future__ import annotations

import typer

from aitbc.cli.database import DatabaseOption, HomeOption, open_database, settings_from
from aitbc.cli.failures import FAILURE
from aitbc.cli.output import print_json, say
from aitbc.cli.profile import JsonOption


def audit(as_json: JsonOption = False, database_url: DatabaseOption = None, home: HomeOption = None) -> None:
    """Recompute every balance from the transfers, and compare. Exit code 1 if anything differs."""
    from aitbc.ledger.audit import audit as audit_ledger

    with open_database(settings_from(home, database_url), create=False) as database:
        report = database.read_sync(audit_ledger)
    counts = {"accounts": report.accounts, "transfers": report.transfers}
    if as_json:
        print_json({"ok": report.ok, **counts, "problems": report.problems})
    else:
        say(f"{report.accounts} accounts recomputed from {report.transfers} transfers")
        for problem in report.problems:
            say(f"WRONG    {problem}")
        say(
            "the books are right: every balance and hold is what its transfers add up to"
            if report.ok
            else f"the books are WRONG: {len(report.problems)} problem(s)"
        )
    if not report.ok:
        raise typer.Exit(FAILURE)
