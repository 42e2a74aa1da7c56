"""`aitbc parameter …`: the network's parameters in the coordinator's database, and their changes by the operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aitbc.cli.database import DatabaseOption, HomeOption, confirm, open_database, settings_from
from aitbc.cli.failures import CommandError
from aitbc.cli.output import note, print_json, say, table
from aitbc.cli.profile import JsonOption

if TYPE_CHECKING:
    from aitbc.coordinator.parameters.service import Change, Standing

parameter_app = typer.Typer(no_args_is_help=True, help="The network's parameters: list, set.")

BY = "operator"


@parameter_app.command(name="list")
def list_(as_json: JsonOption = False, database_url: DatabaseOption = None, home: HomeOption = None) -> None:
    """List the parameters: what each is now, its bounds, its default, and who changed it last."""
    from aitbc.coordinator.parameters import service as parameters

    with open_database(settings_from(home, database_url), looks_only=True) as database:
        found = database.read_sync(parameters.standing)
    if as_json:
        print_json([_as_json(one) for one in found])
        return
    rows = [
        [
            one.definition.name,
            one.value,
            one.definition.unit,
            f"{one.definition.low}..{one.definition.high}",
            one.definition.default,
            _by(one.changed),
            one.definition.meaning,
        ]
        for one in found
    ]
    table(["PARAMETER", "VALUE", "UNIT", "BOUNDS", "DEFAULT", "CHANGED", "MEANING"], rows)


@parameter_app.command(name="set")
def set_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which one.", show_default=False)],
    value: Annotated[int, typer.Argument(metavar="VALUE", help="In its unit.", show_default=False)],
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why. Public: it is in the log.", show_default=False)
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
    database_url: DatabaseOption = None,
    home: HomeOption = None,
) -> None:
    """Change a parameter. It is in the log for good, with its reason, for all to see.

    Works beside running coordinators: it holds from the next job on, and for none that runs.
    """
    from aitbc.coordinator.database import Tx
    from aitbc.coordinator.parameters import service as parameters
    from aitbc.coordinator.process.runtime import found_network, signing_key

    definition, why = parameters.DEFINITIONS.get(name), parameters.reason_of(reason)
    if definition is None:
        hint = "See `aitbc parameter list`."
        raise CommandError("PARAMETER_UNKNOWN", f"there is no parameter {name}", hint)
    settings = settings_from(home, database_url)
    with open_database(settings) as database:
        key = signing_key(settings)
        if not yes:
            confirm(
                f"Set {name} to {value} ({definition.unit}) on {settings.chain_id}, for all to see: {why!r}?",
                "nothing was changed",
            )

        def change(tx: Tx) -> Change | None:
            found_network(tx, settings, key)
            return parameters.set_value(tx, name, value, BY, why)

        done = database.write_sync(change)
    if as_json:
        print_json({"name": name, "value": value, "changed": None if done is None else _change(done)})
        return
    if done is None:
        say(f"{name}: {value}")
        note("it had this value already; nothing was changed")
        return
    say(f"{name}: {done.value_before} -> {done.value_after}")
    note(f"change {done.number} of the network's parameters; it holds from the next job on")


def _by(changed: Change | None) -> str:
    from aitbc.core.clock import rfc3339

    return "" if changed is None else f"{rfc3339(changed.effective_at_ms)} {changed.by}: {changed.reason}"


def _as_json(one: Standing) -> dict[str, Any]:
    definition = one.definition
    return {
        "name": definition.name,
        "value": one.value,
        "type": definition.type,
        "unit": definition.unit,
        "low": definition.low,
        "high": definition.high,
        "default": definition.default,
        "meaning": definition.meaning,
        "changed": None if one.changed is None else _change(one.changed),
    }


def _change(change: Change) -> dict[str, Any]:
    from aitbc.core.clock import rfc3339

    return {
        "number": change.number,
        "before": change.value_before,
        "after": change.value_after,
        "at": rfc3339(change.effective_at_ms),
        "by": change.by,
        "reason": change.reason,
    }
