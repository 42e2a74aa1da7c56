"""`aitbc login`, `balance`, `miners`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from aitbc.cli.failures import usage_error
from aitbc.cli.output import ait, moment, note, pairs, print_json, say, table
from aitbc.cli.profile import JsonOption, KeyOption, Profile, UrlOption, connect, resolve, save_profile
from aitbc.sdk import Miner
from aitbc.sdk.fields import plain


def login(
    url: UrlOption = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY", help="API key; left out, it is asked for.")
    ] = None,
    check: Annotated[bool, typer.Option(help="Ask the coordinator whether the key is good.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Save a coordinator and a key as this user's default (AITBC_HOME/profile.json, mode 0600)."""
    target = resolve(url, None) if url is None else Profile(url, None)
    if key is None or key == "-":
        key = _ask_key()
    if not key:
        raise usage_error("no key", "Give it with --key or on stdin.")
    account = None
    with connect(target.url, key) as client:
        address = client.url
        if check:
            account = client.balance()
    path = save_profile(Profile(address, key))
    if as_json:
        print_json({"url": address, "account": account.account if account else None, "profile": str(path)})
    else:
        say(f"{address} as {account.account if account else 'yet unchecked'}; saved in {path}")


def _ask_key() -> str:
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass("API key: ").strip()
    return sys.stdin.readline().strip()


def balance(as_json: JsonOption = False, url: UrlOption = None, key: KeyOption = None) -> None:
    """Show the key's account: its money, what jobs hold of it, and the key's own limit."""
    with connect(url, key) as client:
        money = client.balance()
    if as_json:
        print_json(plain(money.raw))
        return
    limit = f"{ait(money.spent) or 0} of {ait(money.limit)} AIT spent" if money.limit is not None else None
    pairs(
        [
            ("account", money.account),
            ("balance, AIT", ait(money.balance)),
            ("held by jobs", ait(money.held)),
            ("available", ait(money.available)),
            ("key", f"{money.key_id} ({money.role})" if money.key_id else None),
            ("key's limit", limit),
        ]
    )


def miners(as_json: JsonOption = False, url: UrlOption = None, key: KeyOption = None) -> None:
    """List the network's miners, their models and prices."""
    with connect(url, key) as client:
        found = client.miners()
    if as_json:
        print_json([plain(miner.raw) for miner in found])
        return
    if not found:
        say("no miners")
        note("Be the first: aitbc miner run")
        return
    rows = [
        (
            miner.miner_id,
            miner.status,
            f"{miner.running}/{miner.concurrency}",
            _models(miner),
            ", ".join(f"{gpu.name} {gpu.memory_gb:g} GB" for gpu in miner.gpus),
            miner.region,
            moment(miner.last_heartbeat),
        )
        for miner in found
    ]
    table(("MINER", "STATUS", "BUSY", "MODELS (AIT PER 1000 TOKENS)", "GPUS", "REGION", "SEEN"), rows)


def _models(miner: Miner) -> str:
    return ", ".join(
        model.name if model.price_per_1k is None else f"{model.name} ({ait(model.price_per_1k)})"
        for model in miner.models
    )
