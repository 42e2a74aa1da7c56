"""`aitbc exchange …`: what the operator of an exchange has to know and decide, in the coordinator's own database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from aitbc.cli.database import DatabaseOption, HomeOption, confirm, open_database, settings_from
from aitbc.cli.findings import Finding, show_findings
from aitbc.cli.output import note, print_json, say, table
from aitbc.cli.profile import JsonOption

if TYPE_CHECKING:
    from aitbc.coordinator.config import Settings

exchange_app = typer.Typer(
    no_args_is_help=True, help="Top-ups with Bitcoin: status, unassigned, assign, owed, forgive."
)
GAP = 20
"""How many unused addresses in a row wallets look through, unless they are told otherwise."""

OutpointArgument = Annotated[
    str, typer.Argument(metavar="TXID:INDEX", help="The Bitcoin output.", show_default=False)
]


@exchange_app.command()
def status(as_json: JsonOption = False, database_url: DatabaseOption = None, home: HomeOption = None) -> None:
    """Show what is paid to, what watches the chain, and what waits for you."""
    from aitbc.cli.failures import FAILURE

    if not show_findings(list(check_exchange(settings_from(home, database_url))), as_json):
        raise typer.Exit(FAILURE)


@exchange_app.command()
def unassigned(
    as_json: JsonOption = False, database_url: DatabaseOption = None, home: HomeOption = None
) -> None:
    """List outputs that pay the common address and tell no payment by their amount."""
    from aitbc.coordinator.exchange import outputs
    from aitbc.core.bitcoin import format_btc
    from aitbc.core.clock import rfc3339

    with open_database(settings_from(home, database_url), looks_only=True) as database:
        rows = database.read_sync(outputs.nobodys)
    if as_json:
        print_json(
            [{"outpoint": row.id, "satoshi": row.sat, "seen": rfc3339(row.seen_at_ms)} for row in rows]
        )
        return
    table(["output", "BTC", "seen"], [[row.id, format_btc(row.sat), rfc3339(row.seen_at_ms)] for row in rows])


@exchange_app.command()
def assign(
    outpoint: OutpointArgument,
    payment: Annotated[str, typer.Argument(metavar="PAYMENT", help="Whose it is.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    database_url: DatabaseOption = None,
    home: HomeOption = None,
) -> None:
    """Say which payment such an output is for; it is credited at today's rate."""
    from aitbc.coordinator.flows.acts import exchange

    with open_database(settings_from(home, database_url)) as database:
        if not yes:
            confirm(f"Credit {outpoint} to payment {payment}?", "nothing was assigned")
        database.write_sync(exchange.assign, outpoint, payment)
    note("assigned; the next look at the chain credits it")


@exchange_app.command()
def owed(as_json: JsonOption = False, database_url: DatabaseOption = None, home: HomeOption = None) -> None:
    """List credits that a reorganisation undid after they were spent, with what is missing."""
    from aitbc.coordinator.exchange import outputs
    from aitbc.core.money import ait_number, format_ait

    with open_database(settings_from(home, database_url), looks_only=True) as database:
        rows = database.read_sync(outputs.owed)
    if as_json:
        found = [
            {"outpoint": row.id, "account": row.account_id, "owed": ait_number(row.credited_units)}
            for row in rows
        ]
        print_json(found)
        return
    table(
        ["output", "account", "AIT"],
        [[row.id, row.account_id, format_ait(row.credited_units)] for row in rows],
    )


@exchange_app.command()
def forgive(
    outpoint: OutpointArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    database_url: DatabaseOption = None,
    home: HomeOption = None,
) -> None:
    """Let what is missing of such a credit be; its account can make payments again."""
    from aitbc.coordinator.flows.acts import exchange

    with open_database(settings_from(home, database_url)) as database:
        if not yes:
            confirm(f"Let be what is owed for {outpoint}?", "nothing was changed")
        database.write_sync(exchange.forgive, outpoint)
    say(outpoint)


def check_exchange(settings: Settings) -> Iterator[Finding]:
    """As `aitbc doctor` shows it: addresses, source, watch, and what waits for the operator."""
    from aitbc.coordinator.exchange.terms import Terms
    from aitbc.coordinator.flows.views import exchange

    terms = Terms.of(settings)
    if not terms.pays_to:
        yield Finding("exchange", None, "none: BITCOIN_XPUB and BITCOIN_ADDRESS are not set")
        return
    where = "an address for each" if terms.receiving is not None else "one address for all"
    yield Finding(
        "exchange", True, f"top-ups on {terms.chain}, {where}, {settings.btc_to_aitbc_rate} AIT a bitcoin"
    )
    with open_database(settings, looks_only=True) as database:
        health = database.read_sync(exchange.health)
    for key, (following, paid) in health.indexes.items():
        gap = following - paid - 1
        detail = f"key {key}: next index {following}, the {gap} before it unpaid"
        advice = f"set your wallet's gap limit above {gap}, or it will not see what is paid to the next"
        yield Finding("bitcoin key", None if gap >= GAP else True, detail, advice if gap >= GAP else "")
    yield asyncio.run(_check_source(settings))
    levels = health.levels
    if levels.watch is None:
        yield Finding("bitcoin watch", None, "not begun; `aitbc serve` begins it")
    else:
        stale = levels.age_ms > terms.stale_ms
        detail = f"block {levels.watch.height}, looked at {levels.age_ms // 1000} s ago"
        advice = "start `aitbc serve`, or see what its log says of bitcoin_source_failed" if stale else ""
        yield Finding("bitcoin watch", None if stale else True, detail, advice)
    if levels.nobodys:
        detail = f"{levels.nobodys} outputs pay the address and tell no payment"
        yield Finding("bitcoin outputs", None, detail, "see: aitbc exchange unassigned")
    if levels.owed:
        detail = f"{levels.owed} credits were undone by a reorganisation and are not paid back"
        yield Finding("bitcoin owed", None, detail, "see: aitbc exchange owed")


async def _check_source(settings: Settings) -> Finding:
    from aitbc.coordinator.bitcoin.addresses import GENESIS
    from aitbc.coordinator.bitcoin.opening import open_source
    from aitbc.coordinator.bitcoin.source import SourceError

    name = "bitcoin source"
    source = open_source(settings)
    if source is None:
        advice = "set BITCOIN_RPC_URL or BITCOIN_ESPLORA_URL"
        return Finding(name, False, "none: nothing watches the chain, so no payment can be made", advice)
    try:
        tip = await source.tip()
        chain = GENESIS.get(await source.hash_at(0) or "", "another chain")
    except SourceError as error:
        return Finding(
            name, False, f"{source.name}: {error}", "nothing is lost; what was paid is credited later"
        )
    finally:
        await source.close()
    if chain != settings.bitcoin_network:
        return Finding(
            name, False, f"{source.name} is on {chain}", f"it has to be on {settings.bitcoin_network}"
        )
    return Finding(name, True, f"{source.name} at block {tip.height}")
