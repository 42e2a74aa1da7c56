"""Which network `aitbc wallet send` signs for: the one that is known, or that the owner names."""

from __future__ import annotations

from typing import Annotated

import typer

from aitbc.cli.failures import CommandError, usage_error
from aitbc.cli.profile import home, resolve

NetworkOption = Annotated[
    str | None,
    typer.Option(
        "--network-id",
        metavar="HEX",
        help="The network that the transfer is for; else what the coordinator said when it was first paid.",
    ),
]


def network_for(url: str, told: str, wanted: str | None) -> str:
    """The id of the network to sign for. A coordinator that names another one than before is not paid."""
    from aitbc.sdk.networks import NetworkDoubt, settle

    _check_network_id(wanted)
    try:
        return settle(home(), url, told, wanted)
    except NetworkDoubt as error:
        hint = f"If that is right and you know why: --network-id {told}. Nothing was signed."
        raise CommandError("NETWORK", str(error), hint) from error


def known_network(url: str | None, wanted: str | None) -> str:
    """The id of the network to sign for without asking it."""
    from aitbc.sdk.networks import NetworkDoubt, known

    _check_network_id(wanted)
    if wanted is not None:
        return wanted
    try:
        found = known(home()).get(resolve(url, None).url.rstrip("/"))
    except NetworkDoubt as error:
        raise CommandError("NETWORK", str(error), "Name it: --network-id HEX.") from error
    if found is None:
        raise usage_error("--offline needs --network-id", "`aitbc wallet balance` shows it.")
    return found


def _check_network_id(wanted: str | None) -> None:
    from aitbc.sdk.networks import is_network_id

    if wanted is not None and not is_network_id(wanted):
        raise usage_error("--network-id is 64 lower-case hex digits", "`aitbc wallet balance` shows it.")
