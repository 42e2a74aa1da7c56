"""`aitbc ledger …`: the operator's view of the money in the coordinator's own database, and more of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aitbc.cli.database import DatabaseOption, HomeOption, confirm, open_database, settings_from
from aitbc.cli.failures import CommandError, usage_error
from aitbc.cli.output import note, pairs, print_json, say, table
from aitbc.cli.profile import JsonOption

if TYPE_CHECKING:
    from aitbc.coordinator.ledger.service import Balance

ledger_app = typer.Typer(no_args_is_help=True, help="The coordinator's accounts: mint, balance, accounts.")

MAX_ACCOUNTS = 10_000


@ledger_app.command()
def mint(
    to: Annotated[str, typer.Option(metavar="ACCOUNT", help="Whose money it is.", show_default=False)],
    amount: Annotated[str, typer.Option(metavar="AIT", help="How much.", show_default=False)],
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="What for. Public: the explorer shows it.", show_default=False)
    ],
    reference: Annotated[
        str | None,
        typer.Option(
            "--id", metavar="TEXT", help="Your own number for it: the same one never mints twice. Public."
        ),
    ] = None,
    create: Annotated[bool, typer.Option("--create", help="Open the account if there is none.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
    database_url: DatabaseOption = None,
    home: HomeOption = None,
) -> None:
    """Make money for an account, out of the mint. It is in the log for good, with its reason, for all to see.

    Works beside a running coordinator. Only a transfer back takes it away again.
    """
    from aitbc.coordinator.database import Tx
    from aitbc.coordinator.errors import AccountNotFound
    from aitbc.coordinator.flows.acts import minting
    from aitbc.coordinator.process.runtime import found_network, signing_key
    from aitbc.core.money import ait_number, format_ait, parse_ait

    try:
        units = parse_ait(amount)
    except ValueError as error:
        raise usage_error(f"--amount {amount}: {error}") from error
    if units == 0:
        raise usage_error("an amount of zero")
    account, why = minting.account_of(to), minting.reason_of(reason)
    settings = settings_from(home, database_url)
    with open_database(settings) as database:
        key = signing_key(settings)
        if not yes:
            confirm(
                f"Mint {format_ait(units)} AIT for {account} on {settings.chain_id}, for all to see: {why!r}?",
                "nothing was minted",
            )

        def make(tx: Tx) -> minting.Minted:
            found_network(tx, settings, key)
            return minting.mint(tx, account, units, why, reference=reference, create=create)

        try:
            done = database.write_sync(make)
        except AccountNotFound as error:
            hint = "Look at `aitbc ledger accounts`; --create opens a new one."
            raise CommandError("ACCOUNT_NOT_FOUND", f"there is no account {account}", hint) from error
    if as_json:
        print_json(
            {
                "id": done.transfer_id,
                "account": account,
                "amount": ait_number(units),
                "reason": why,
                "minted": done.made,
                "created": done.created,
                "balance": ait_number(done.balance_units),
            }
        )
        return
    say(done.transfer_id)
    if not done.made:
        note("this very mint was done before; nothing was made now")
    elif done.created:
        note(f"opened the account {account}")
    note(f"{account} has {format_ait(done.balance_units)} AIT")


@ledger_app.command()
def balance(
    account: Annotated[
        str, typer.Argument(metavar="ACCOUNT", help="Its name or address.", show_default=False)
    ],
    as_json: JsonOption = False,
    database_url: DatabaseOption = None,
    home: HomeOption = None,
) -> None:
    """Show what an account has, and what of it is held for open jobs. system:mint is below zero by what was made."""
    from aitbc.coordinator.errors import AccountNotFound
    from aitbc.coordinator.flows.views.explorer import account_named
    from aitbc.coordinator.ledger import service as accounts_service
    from aitbc.core.money import format_ait

    with open_database(settings_from(home, database_url), looks_only=True) as database:
        try:
            found = database.read_sync(accounts_service.balance, account_named(account))
        except AccountNotFound as error:
            hint = "See `aitbc ledger accounts`."
            raise CommandError("ACCOUNT_NOT_FOUND", f"there is no account {account}", hint) from error
    if as_json:
        print_json(_as_json(found))
        return
    pairs(
        [
            ("account", found.account_id),
            ("balance, AIT", format_ait(found.balance_units)),
            ("held, AIT", format_ait(found.held_units)),
            ("available, AIT", format_ait(found.available_units)),
        ]
    )


@ledger_app.command()
def accounts(
    limit: Annotated[int, typer.Option(min=1, max=MAX_ACCOUNTS, help="The most to list.")] = 100,
    after: Annotated[str, typer.Option(metavar="ACCOUNT", help="Only names behind this one.")] = "",
    as_json: JsonOption = False,
    database_url: DatabaseOption = None,
    home: HomeOption = None,
) -> None:
    """List the accounts by name: what each has, and what of it is held."""
    from aitbc.coordinator.ledger import service as accounts_service
    from aitbc.core.money import format_ait

    with open_database(settings_from(home, database_url), looks_only=True) as database:
        found = database.read_sync(accounts_service.accounts, after, limit + 1)
    shown = found[:limit]
    if as_json:
        print_json([_as_json(one) for one in shown])
    else:
        rows = [[one.account_id, format_ait(one.balance_units), format_ait(one.held_units)] for one in shown]
        table(["ACCOUNT", "BALANCE, AIT", "HELD, AIT"], rows)
    if len(found) > limit:
        note(f"more: --after {shown[-1].account_id}")


def _as_json(found: Balance) -> dict[str, Any]:
    from aitbc.core.money import ait_number

    return {
        "account": found.account_id,
        "balance": ait_number(found.balance_units),
        "held": ait_number(found.held_units),
        "available": ait_number(found.available_units),
    }
