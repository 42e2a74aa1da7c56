"""The `aitbc` command. Each command's module is imported when it is asked for, so that a client's start is
quick.

Modules of the server are imported inside the functions of operator commands only.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from aitbc import __version__
from aitbc.cli.examples import add_examples
from aitbc.cli.start import INTERRUPTED, quietly

# httpx brings a command line of its own, which imports rich, pygments and click; httpx works without it (that
# is its state where its extra "cli" is not installed), and this program starts a fifth sooner.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # None: "importing this fails"


class Entry(NamedTuple):
    """Where a command is defined, and under which heading the help lists it."""

    module: str
    attribute: str
    panel: str


_START, _CLIENT, _MINER, _OPERATOR = "Getting started", "Client", "Miner", "Operator"

ENTRIES = {
    "demo": Entry("demo", "demo", _START),
    "doctor": Entry("doctor", "doctor", _START),
    "login": Entry("account", "login", _START),
    "submit": Entry("submit", "submit", _CLIENT),
    "jobs": Entry("jobs", "jobs", _CLIENT),
    "job": Entry("jobs", "job_app", _CLIENT),
    "miners": Entry("account", "miners", _CLIENT),
    "balance": Entry("account", "balance", _CLIENT),
    "payment": Entry("payments", "payment_app", _CLIENT),
    "gpu": Entry("gpus", "gpu_app", _CLIENT),
    "topup": Entry("topup", "topup", _CLIENT),
    "statement": Entry("statement", "statement", _CLIENT),
    "receipt": Entry("receipts", "receipt_app", _CLIENT),
    "wallet": Entry("wallet_keys", "wallet_app", _CLIENT),
    "governance": Entry("governance", "governance_app", _CLIENT),
    "policy": Entry("policy", "policy_app", _CLIENT),
    "miner": Entry("miner", "miner_app", _MINER),
    "serve": Entry("serve", "serve", _OPERATOR),
    "init": Entry("serve", "init", _OPERATOR),
    "keys": Entry("keys", "keys_app", _OPERATOR),
    "providers": Entry("providers", "providers_app", _OPERATOR),
    "ledger": Entry("ledger", "ledger_app", _OPERATOR),
    "exchange": Entry("exchange", "exchange_app", _OPERATOR),
    "parameter": Entry("parameters", "parameter_app", _OPERATOR),
    "db": Entry("database", "db_app", _OPERATOR),
    "audit": Entry("audit", "audit", _OPERATOR),
    "log": Entry("log", "log_app", _OPERATOR),
    "witness": Entry("witness", "witness_app", _OPERATOR),
}


class Commands(MutableMapping[str, Any]):
    """The program's commands by name, each loaded when it is first looked at."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = _load(name, ENTRIES[name])
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(ENTRIES)

    def __len__(self) -> int:
        return len(ENTRIES)


def _load(name: str, entry: Entry) -> Any:
    found = getattr(import_module(f"aitbc.cli.{entry.module}"), entry.attribute)
    if isinstance(found, typer.Typer):
        command: Any = get_group(found)
    else:
        holder = typer.Typer(add_completion=False)
        holder.command(name)(found)
        command = get_command(holder)
    command.name = name
    command.rich_help_panel = entry.panel
    add_examples(name, command)
    return command


class Program(TyperGroup):
    """The command group; a command that fails ends with one line on stderr and the right exit code."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = Commands()

    def main(self, args: Sequence[str] | None = None, **options: Any) -> Any:  # type: ignore[override]
        """Run the program; with `standalone_mode=False` return the exit code instead of exiting."""
        standalone = options.pop("standalone_mode", True)
        words = list(sys.argv[1:] if args is None else args)
        if standalone:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            code = super().main(words, standalone_mode=False, **options)
            if code == INTERRUPTED:  # typer makes this of a Ctrl-C, without a word
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            # Nothing is imported for this: the Ctrl-C may have come while that very module was loaded.
            sys.stderr.write("aitbc: interrupted\n")
            code = INTERRUPTED
        except Exception as error:  # noqa: BLE001 - report() raises again what is a bug
            from aitbc.cli.failures import report

            code = report(error, as_json="--json" in words)
        code = code if isinstance(code, int) else 0
        if standalone:
            quietly()  # what a command leaves behind (threads, connections) is closed without a traceback
            sys.exit(code)
        return code


app = typer.Typer(
    cls=Program,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    help="AITBC: a marketplace for AI compute. Every answer comes with a receipt that anyone can check.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"aitbc {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass
