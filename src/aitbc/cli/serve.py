"""`aitbc serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from aitbc.cli.database import DatabaseOption, HomeOption, prepare_home, settings_from


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
    prepare_home(settings)
    from aitbc.migrate import ensure_current
    from aitbc.server import run

    # A SQLite file is this coordinator's own; PostgreSQL may be shared, and is upgraded when its operator
    # says.
    ensure_current(settings.database_url, auto=settings.database_url.startswith("sqlite"))
    run(settings)
