"""`aitbc wallet key …`: API keys of a wallet's account, made without the coordinator's operator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aitbc.cli import wallet as wallets
from aitbc.cli.complete import USER_ROLES
from aitbc.cli.failures import usage_error
from aitbc.cli.output import note, print_json, say, table
from aitbc.cli.profile import JsonOption, UrlOption
from aitbc.cli.wallet import DomainOption, WalletOption, wallet_app

if TYPE_CHECKING:
    from aitbc.wallet.client import Login, WalletClient

key_app = typer.Typer(
    no_args_is_help=True,
    help="API keys of the wallet's account, for clients and for miners: new, list, revoke.",
)
wallet_app.add_typer(key_app, name="key")


@key_app.command()
def new(
    role: Annotated[
        str,
        typer.Option(metavar="client|miner", help="What the key may do.", autocompletion=USER_ROLES),
    ] = "client",
    label: Annotated[str, typer.Option(help="A remark for the list.")] = "aitbc wallet key new",
    limit: Annotated[
        str | None, typer.Option(metavar="AIT", help="Most that it may spend in a period.")
    ] = None,
    limit_period: Annotated[
        str | None, typer.Option(metavar="day|month", help="The period of --limit.")
    ] = None,
    domain: DomainOption = None,
    wallet: WalletOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Make a key that spends the wallet's money (client), or that earns for it (miner). Its text is shown once."""
    if role not in {"client", "miner"}:
        raise usage_error(f"no role {role!r}", "A wallet makes client and miner keys.")
    if (limit is None) != (limit_period is None):
        raise usage_error("--limit and --limit-period go together")
    with _logged_in(url, wallet, domain) as (client, session, address):
        key = client.make_key(session.token, label, role=role, limit=limit, limit_period=limit_period)
        where = client.url
    if as_json:
        print_json({"key": key, "role": role, "account": address, "url": where})
        return
    say(key)
    use = "aitbc miner run" if role == "miner" else "aitbc login"
    note(f"a {role} key of {address}, shown this once: {use} --key …")


@key_app.command("list")
def list_keys(
    domain: DomainOption = None,
    wallet: WalletOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """List the account's keys, also those that have ended; never their text."""
    with _logged_in(url, wallet, domain) as (client, session, _address):
        keys = client.list_keys(session.token)
    if as_json:
        print_json(keys)
    elif not keys:
        say("no keys")
    else:
        rows = [
            (
                key.get("key_id"),
                key.get("role"),
                "revoked" if key.get("revoked_at") else "active",
                key.get("label"),
                key.get("created_at"),
            )
            for key in keys
        ]
        table(("KEY", "ROLE", "STATE", "LABEL", "CREATED"), rows)


@key_app.command()
def revoke(
    key_id: Annotated[
        str, typer.Argument(metavar="KEY_ID", help="The key's id, as `list` shows it.", show_default=False)
    ],
    domain: DomainOption = None,
    wallet: WalletOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """End a key at once, for good."""
    with _logged_in(url, wallet, domain) as (client, session, _address):
        client.revoke_key(session.token, key_id)
    if as_json:
        print_json({"key_id": key_id, "revoked": True})
    else:
        say(f"{key_id} revoked")


@contextmanager
def _logged_in(
    url: str | None, wallet: Path | None, domain: str | None
) -> Iterator[tuple[WalletClient, Login, str]]:
    """A session of the wallet, and its address; the session ends with the block."""
    stored = wallets.load_wallet(wallet)
    with wallets.connect_wallet(url) as client:
        session = wallets.log_in(client, stored, domain)
        try:
            yield client, session, stored.address
        finally:
            client.log_out(session.token)
