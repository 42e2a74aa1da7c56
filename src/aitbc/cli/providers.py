"""`aitbc providers …`: whose miners get work, and how many leases each account has earned."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aitbc.cli.database import DatabaseOption, HomeOption, open_database, settings_from
from aitbc.cli.output import print_json, say, table
from aitbc.cli.profile import JsonOption

providers_app = typer.Typer(
    no_args_is_help=True, help="Accounts with miners: approve, revoke, list (operator)."
)

MAX_LISTED = 10_000
_NAMES = ("account", "approval", "lease_limit", "delivered", "strikes")

AccountArgument = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Whose miners.", show_default=False)]


@providers_app.command()
def approve(
    account: AccountArgument,
    as_json: JsonOption = False,
    database_url: DatabaseOption = None,
    home: HomeOption = None,
) -> None:
    """Trust an account's miners without limit, and admit them under MINER_ADMISSION=approved."""
    _set(account, "approved", as_json, database_url, home)


@providers_app.command()
def revoke(
    account: AccountArgument,
    as_json: JsonOption = False,
    database_url: DatabaseOption = None,
    home: HomeOption = None,
) -> None:
    """Give an account's miners no work any more; what they run they may finish."""
    _set(account, "revoked", as_json, database_url, home)


@providers_app.command("list")
def list_providers(
    as_json: JsonOption = False, database_url: DatabaseOption = None, home: HomeOption = None
) -> None:
    """List the accounts with miners: approval, leases they may hold, answers, failures in a row."""
    from aitbc.coordinator.miners import standing

    with open_database(settings_from(home, database_url), looks_only=True) as database:
        rows = database.read_sync(standing.providers, "", MAX_LISTED)
    found: list[dict[str, Any]] = [
        {
            "account": row.account_id,
            "approval": row.approval,
            "lease_limit": standing.MAX_LEASES if row.approval == "approved" else row.allowance,
            "delivered": row.delivered,
            "strikes": row.strikes,
        }
        for row in rows
    ]
    if as_json:
        print_json(found)
    elif not found:
        say("no account has miners")
    else:
        table([name.upper() for name in _NAMES], [[one[name] for name in _NAMES] for one in found])


def _set(account: str, approval: str, as_json: bool, database_url: Any, home: Any) -> None:
    from aitbc.coordinator.database import Tx
    from aitbc.coordinator.ledger import service as ledger
    from aitbc.coordinator.miners import standing

    def change(tx: Tx) -> None:
        ledger.balance(tx, account)  # AccountNotFound for a name that is none
        standing.set_approval(tx, account, approval)

    with open_database(settings_from(home, database_url)) as database:
        database.write_sync(change)
    if as_json:
        print_json({"account": account, "approval": approval})
    else:
        say(f"{account}: {approval}")
