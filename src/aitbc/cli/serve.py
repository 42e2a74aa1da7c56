"""`aitbc serve`."""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from aitbc.cli.database import (
    DatabaseOption,
    HomeOption,
    check_network,
    has_database,
    not_under_a_coordinator,
    open_ledger,
    prepare_home,
    settings_from,
    shown,
)
from aitbc.cli.failures import CommandError
from aitbc.cli.output import note, say


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; else API_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; else API_PORT. 0: a free one.")
    ] = None,
    database_url: DatabaseOption = None,
    home: HomeOption = None,
) -> None:
    """Run the coordinator. Every setting is an environment variable; .env.example lists them."""
    settings = settings_from(home, database_url, api_host=host, api_port=port)
    warn_of_strange_settings()
    check_network(settings)
    prepare_home(settings)
    gc.disable()  # what is loaded stays: looking for garbage in it takes an eighth of the start
    try:
        from aitbc.coordinator.process.presence import NotAlone, held
        from aitbc.coordinator.process.runtime import signing_key
        from aitbc.coordinator.schema.migrate import ensure_current
        from aitbc.coordinator.server import run
    finally:
        gc.enable()

    try:
        with held(settings, signing_key(settings).key_id):
            # A SQLite file is this coordinator's own; PostgreSQL may be shared, and is upgraded when its
            # operator says.
            ensure_current(settings.database_url, auto=settings.database_url.startswith("sqlite"))
            run(settings)
    except NotAlone as error:
        raise CommandError("NOT_ALONE", str(error), "See docs/operating.md.") from error


def init(database_url: DatabaseOption = None, home: HomeOption = None) -> None:
    """Make the coordinator's database and its signing key, without starting it. `serve` does so by itself.

    The database is of the network that CHAIN_ID names from then on. What is there already stays as it is.
    """
    settings = settings_from(home, database_url)
    warn_of_strange_settings()
    check_network(settings)
    prepare_home(settings)
    from aitbc.coordinator.process.runtime import found_network, signing_key
    from aitbc.coordinator.schema.migrate import upgrade
    from aitbc.core.log.note import Verifier

    made = not has_database(settings.database_url)
    not_under_a_coordinator(settings)
    upgrade(settings.database_url)
    key = signing_key(settings)
    with open_ledger(settings.database_url) as database:
        founded = database.write_sync(found_network, settings, key)
    say(f"database     {'made' if made else 'was there already'}: {shown(settings)}")
    say(f"network      {settings.chain_id}, {founded.network_id}")
    say(f"log          {Verifier(founded.origin, key.public_bytes).vkey}")
    say(f"signing key  {key.key_id}, {'of SECRET_KEY' if settings.secret_key else f'in {settings.home}'}")


def warn_of_strange_settings() -> None:
    """Says which variables look like settings but are none: a typo there changes nothing, in silence."""
    from aitbc.coordinator.misspelt import strange_settings

    for _name, sentence in strange_settings():
        note(f"warning: {sentence}")
