"""`aitbc miner run`: turn this machine into a miner."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from aitbc.cli import complete
from aitbc.cli.failures import FAILURE, usage_error
from aitbc.cli.miner_status import status
from aitbc.cli.output import fail
from aitbc.cli.profile import home, resolve
from aitbc.core.jobspec import JOB_TYPES
from aitbc.core.money import parse_ait
from aitbc.keyfile import KeyFileError
from aitbc.miner.agent import EXIT_FORCED, MinerAgent
from aitbc.miner.engines.detect import ENGINES, EngineChoice, NoEngine, choose_engine
from aitbc.miner.lock import AlreadyRunning
from aitbc.miner.progress import Reporter, reporter_for
from aitbc.miner.settings import MinerSettings

miner_app = typer.Typer(help="Run models for others and be paid for it: run, status.", no_args_is_help=True)


miner_app.command("status")(status)


@miner_app.command()
def run(
    coordinator: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Coordinator; else AITBC_URL, the profile, this machine."),
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Miner key; else AITBC_API_KEY, the profile.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help=f"One of {', '.join(ENGINES)}.", autocompletion=complete.ENGINES)
    ] = "auto",
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="The engine's server (ollama, openai).")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A model to offer (may be repeated; default: all), or a GGUF: FILE or NAME=FILE."),
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(help="AIT per 1000 tokens, for all models or as MODEL=PRICE (may be repeated)."),
    ] = None,
    concurrency: Annotated[int, typer.Option(help="Jobs at once.")] = 1,
    region: Annotated[str | None, typer.Option(help="Where this machine is, for clients that ask.")] = None,
    miner_id: Annotated[
        str | None, typer.Option("--id", help="The miner's id; default: from this machine's miner key.")
    ] = None,
    home_folder: Annotated[
        Path | None,
        typer.Option("--home", metavar="DIR", help="Key and undelivered answers; else AITBC_HOME, ~/.aitbc."),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(min=1, max=2**31 - 1, help="Tokens of context for each job (ollama, llamacpp)."),
    ] = None,
    job_type: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Job types to offer, of {', '.join(JOB_TYPES)}; default: what the engine says.",
            autocompletion=complete.JOB_TYPE_NAMES,
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=4096, help="CPU threads (llamacpp).")] = None,
    engine_key: Annotated[
        str | None, typer.Option(help="Key for the engine's own server; else AITBC_ENGINE_KEY.")
    ] = None,
    job_timeout: Annotated[float, typer.Option(min=0, max=1e9, help="Seconds that a job may take.")] = 600.0,
    drain_grace: Annotated[
        float,
        typer.Option(min=0, max=1e9, help="Seconds that running jobs may take to finish once told to stop."),
    ] = 30.0,
    takeover: Annotated[
        bool, typer.Option("--takeover", help="Take the id over from a machine on which it is alive.")
    ] = False,
    network_id: Annotated[
        str | None,
        typer.Option(
            "--network-id",
            metavar="HEX",
            help="The network to sign results for; else the one met there first.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON, one a line.")] = False,
) -> None:
    """Take jobs from a coordinator, run them here, sign and deliver the results.

    Finds Ollama on this machine, or runs the starter model. Stop it with Ctrl-C or SIGTERM: it finishes
    what it is running; twice, and it leaves at once.
    """
    target = resolve(coordinator, key)
    try:
        price_units, prices_units = _prices(price or [])
        settings = MinerSettings(
            coordinator=target.url,
            key=target.key or "",
            home=(home_folder or home()).expanduser().absolute(),
            miner_id=miner_id,
            price_units=price_units,
            prices_units=prices_units,
            region=region,
            concurrency=concurrency,
            job_timeout_s=job_timeout,
            drain_grace_s=drain_grace,
            takeover=takeover,
            network_id=network_id,
        )
        choice = EngineChoice(
            engine=engine,
            url=url,
            models=tuple(model or ()),
            engine_key=engine_key or os.environ.get("AITBC_ENGINE_KEY") or None,
            concurrency=concurrency,
            context_length=context,
            threads=threads,
            job_types=_job_types(job_type or []),
        )
    except ValueError as error:
        raise usage_error(str(error)) from error
    os.umask(0o077)  # undelivered answers are as private as the database
    raise typer.Exit(asyncio.run(_run(settings, choice, as_json)))


async def _run(settings: MinerSettings, choice: EngineChoice, as_json: bool) -> int:
    reporter = reporter_for(as_json)
    try:
        agent = MinerAgent(settings, await choose_engine(choice), reporter)
    except (NoEngine, KeyFileError, AlreadyRunning) as error:
        return _refuse(reporter, str(error))
    except OSError as error:
        return _refuse(reporter, f"{settings.home} cannot be used: {error}")
    _on_signals(agent)
    return await agent.run()


def _on_signals(agent: MinerAgent) -> None:
    """The first signal drains, the second ends the process where it stands."""
    told = False

    def stop() -> None:
        nonlocal told
        agent.stop()
        if told:
            # Not by way of the interpreter's own end: it would wait for an engine's threads.
            agent.close_reporter()
            sys.stdout.flush()
            os._exit(EXIT_FORCED)
        told = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop)
        except NotImplementedError:  # Windows: no signal handlers on its loops
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))


def _refuse(reporter: Reporter, reason: str) -> int:
    reporter.close()
    fail(reason)
    return FAILURE


def _prices(texts: list[str]) -> tuple[int | None, dict[str, int]]:
    """The price for all models and those for single ones, base units per 1000 tokens. ValueError."""
    price_units: int | None = None
    prices_units: dict[str, int] = {}
    for text in texts:
        name, separator, amount = text.rpartition("=")
        try:
            units = parse_ait(amount)
        except ValueError as error:
            raise ValueError(f"--price {text}: {error}") from None
        if separator:
            prices_units[name] = units
        else:
            price_units = units
    return price_units, prices_units


def _job_types(names: list[str]) -> frozenset[str] | None:
    unknown = [name for name in names if name not in JOB_TYPES]
    if unknown:
        raise ValueError(f"--job-type {unknown[0]}: there are {', '.join(JOB_TYPES)}")
    return frozenset(names) or None
