"""`aitbc witness run`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from aitbc.cli.failures import usage_error
from aitbc.core.numbers import read_count

witness_app = typer.Typer(help="Vouch for a log, cosign what only ever grows: run.", no_args_is_help=True)

MAX_PORT = 65535
DEFAULT_HOME = Path("~/.aitbc/witness")


@witness_app.callback()
def witness() -> None:
    """Vouch for a log: cosign what only ever grows."""


@witness_app.command()
def run(
    log: Annotated[
        list[str],
        typer.Option(help='A log\'s verifier key: the vkey of use "log" in its /v1/keys. Repeatable.'),
    ],
    name: Annotated[str, typer.Option(help="This witness's name, such as example.com/witness.")],
    listen: Annotated[str, typer.Option(help="Address and port.")] = "127.0.0.1:8100",
    home: Annotated[
        Path, typer.Option(help="Folder of the key and of what was seen.", envvar="AITBC_WITNESS_HOME")
    ] = DEFAULT_HOME,
) -> None:
    """Run a witness. It prints the key that coordinators (WITNESSES) and verifiers' policies name it by."""
    from aitbc.core.log.note import ED25519, Verifier, name_is_valid
    from aitbc.keyfile import load_or_create_key
    from aitbc.witness import server
    from aitbc.witness.service import Witness
    from aitbc.witness.state import WitnessState

    host, _, port = listen.rpartition(":")
    if not host or not read_count(port, MAX_PORT):
        raise usage_error("--listen is HOST:PORT")
    if not name_is_valid(name):
        raise usage_error("--name has no white space and no plus sign")
    logs: list[Verifier] = []
    for text in log:
        try:
            verifier = Verifier.parse(text)
        except ValueError as error:
            raise usage_error(f"--log {text}: {error}") from None
        if verifier.kind != ED25519:
            raise usage_error(f"--log {text}: a witness's key, not a log's")
        logs.append(verifier)
    os.umask(0o077)
    folder = home.expanduser()
    key = load_or_create_key(folder / "witness.key")
    vouching = Witness(name, key, logs, WitnessState(folder / "witness.db"))
    typer.echo(f"witness  {vouching.verifier.vkey}")
    typer.echo(f"setting  WITNESSES={vouching.verifier.vkey}@http://{host}:{port}")
    server.run(server.create_app(vouching), host, int(port))
