"""Tables of the documentation that are made from the program. `scripts/update-docs` writes them.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase
from pydantic_core import PydanticUndefined

from aitbc.audit.sight import ADDED, OUTSIDE, REMOVED
from aitbc.coordinator import metrics
from aitbc.coordinator.api.app import ROUTERS
from aitbc.coordinator.api.plumbing.auth import SESSION_SCOPES
from aitbc.coordinator.api.plumbing.routing import Endpoint
from aitbc.coordinator.config import Settings
from aitbc.coordinator.config.environment import environment_name
from aitbc.coordinator.errors import error_table
from aitbc.coordinator.jobs.lifecycle import FIRST, MOVES, TERMINAL
from aitbc.coordinator.process.background import LOOPS

DOCS = Path(__file__).parents[2] / "docs"
MARKED = re.compile(r"(<!-- table: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def settings() -> dict[str, str]:
    """Environment variables by name, with the default as one would write it ("" for none)."""
    found = {}
    for field, info in Settings.model_fields.items():
        default = info.default
        found[environment_name(field)] = "" if default in (PydanticUndefined, None) else str(default)
    return found


def settings_table() -> str:
    meanings = {
        environment_name(name): info.description or "" for name, info in Settings.model_fields.items()
    }
    return table(
        ("Variable", "Default", "Meaning"),
        (
            (f"`{name}`", f"`{default}`" if default else "", meanings[name])
            for name, default in settings().items()
        ),
    )


def errors_table() -> str:
    rows = ((str(status), f"`{code}`", message) for status, code, message in error_table())
    return table(("Status", "Code", "Message"), rows)


def metrics_table() -> str:
    """Every metric of aitbc.coordinator.metrics, under the name it has on /metrics."""
    found = {}
    for value in vars(metrics).values():
        if isinstance(value, MetricWrapperBase):
            described = next(iter(value.describe()))
            name = described.name + ("_total" if described.type == "counter" else "")
            labels = ", ".join(f"`{label}`" for label in value._labelnames)
            found[name] = (f"`{name}`", described.type, labels, described.documentation)
    return table(("Name", "Kind", "Labels", "Meaning"), found.values())


def who(endpoint: Endpoint) -> str:
    """Who may make the call: everybody, or the holders of which keys, or of a wallet's session."""
    if endpoint.binding.auth is None:
        return "everybody"
    auth = endpoint.binding.auth[1]
    if not auth.scopes:
        return "any key or session"
    roles = [scope for scope in auth.scopes if scope != "user"] + (["admin"] if auth.admin else [])
    keys = [" or ".join(roles) + " key"] if roles else []
    return " or ".join([*keys, *(["session"] if SESSION_SCOPES & {*auth.scopes} else [])])


def endpoints_table() -> str:
    rows = []
    for router in ROUTERS:
        for route in router.routes if router.include_in_schema else ():
            for method in sorted(route.methods):
                rows.append((f"`{method} {route.path}`", route.summary or "", who(route)))
    return table(("Call", "What it does", "Who"), rows)


def loops_table() -> str:
    """The background loops, by name; how often where nothing is set."""
    defaults = Settings.model_construct()
    rows = (
        (
            f"`{loop.name}`",
            f"{loop.every_s(defaults):g} s",
            loop.does,
            "waits" if loop.needs_steady_clock else "goes on",
            "goes on" if loop.while_log_refused else "stops",
        )
        for loop in sorted(LOOPS, key=lambda loop: loop.name)
    )
    return table(
        ("Loop", "Every", "What it does", "While the clock is in doubt", "Where the log is refused"), rows
    )


def outside_table() -> str:
    """What the operator's audit cannot see, table by table."""
    rows = []
    for name, columns in OUTSIDE.items():
        for reason in dict.fromkeys(columns.values()):
            whats = [what for what, why in columns.items() if why == reason]
            shown = ", ".join(what if what in (ADDED, REMOVED) else f"`{what}`" for what in whats)
            rows.append((f"`{name}`", shown, reason))
    return table(("Table", "What", "Why"), rows)


def moves_diagram() -> str:
    """A job's states, and the events that move it."""
    lines = [f"[*] --> {FIRST}: created"]
    lines += [
        f"{before} --> {move.after}: {event}" for event, move in MOVES.items() for before in move.before
    ]
    lines += [f"{status} --> [*]" for status in TERMINAL]
    drawn = "".join(f"    {line}\n" for line in lines)
    return f"```mermaid\nstateDiagram-v2\n{drawn}```\n"


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "errors": errors_table,
    "metrics": metrics_table,
    "endpoints": endpoints_table,
    "loops": loops_table,
    "moves": moves_diagram,
    "outside": outside_table,
}


def tables_of(text: str) -> dict[str, str]:
    """The marked tables of a document, by name."""
    return {name: body for _, name, body, _ in MARKED.findall(text)}


def updated(text: str) -> str:
    return MARKED.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}{found[4]}", text)


def main() -> None:
    for file in sorted(DOCS.rglob("*.md")):
        before = file.read_text()
        after = updated(before)
        if after != before:
            file.write_text(after)
            print(f"updated {file.relative_to(DOCS.parent)}")


if __name__ == "__main__":
    main()
