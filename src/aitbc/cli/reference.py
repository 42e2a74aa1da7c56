"""What docs/cli.md and docs/sdk.md say of every command and operation, from the program itself.

`python -m aitbc.cli.reference docs/cli.md docs/sdk.md` writes it anew; a test holds the pages against it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from aitbc.cli.failures import EXIT_CODES

BEGIN, END = "<!-- reference: begin -->", "<!-- reference: end -->"


def reference() -> str:
    """Every command with its arguments, options and exit codes, as Markdown."""
    from aitbc.cli.main import app

    lines = ["| Exit code | Meaning |", "| --- | --- |"]
    lines += [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    for path, command in _commands("aitbc", get_command(app)):
        lines += ["", *_section(path, command)]
    return "\n".join(lines)


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """(its full name, command), groups left out."""
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        yield from _commands(f"{path} {name}", child)


def _section(path: str, command: Any) -> list[str]:
    shown = [parameter for parameter in command.params if not parameter.hidden and parameter.name != "help"]
    arguments = [parameter for parameter in shown if parameter.param_type_name == "argument"]
    words = [_argument(argument) for argument in arguments]
    lines = [f"### `{' '.join([path, *words])}`", "", " ".join((command.help or "").split())]
    rows = [f"| `{_argument(argument)}` | {_text(argument)} |" for argument in arguments]
    rows += [f"| {_option(option)} | {_text(option)} |" for option in shown if option not in arguments]
    return [*lines, "", "| Argument or option | Meaning |", "| --- | --- |", *rows] if rows else lines


def _argument(argument: Any) -> str:
    name = argument.metavar or str(argument.name).upper()
    return name if argument.required else f"[{name}]"


def _option(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if option.is_flag:
        return names
    return f"{names} {_escape(option.metavar or str(option.name).upper())}"


def _text(parameter: Any) -> str:
    text = _escape(" ".join((getattr(parameter, "help", None) or "").split()))
    default = parameter.default
    if parameter.required:
        text += " Required." if parameter.param_type_name == "option" else ""
    elif isinstance(default, int | float | str) and not isinstance(default, bool) and default != "":
        text += f" Default: {default}."
    elif parameter.secondary_opts and default is True:
        text += f" Default: `{parameter.opts[0]}`."
    return text.strip()


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def operations_reference() -> str:
    """Every operation of the Python client with its signature, as Markdown."""
    from aitbc.sdk import Client

    lines = ["| Operation | Gives | |", "| --- | --- | --- |"]
    for name, method in vars(Client).items():
        if name.startswith("_") or name == "close" or not inspect.isfunction(method):
            continue
        signature = inspect.signature(method)
        words = [_parameter(parameter) for parameter in list(signature.parameters.values())[1:]]
        call = f"{name}({', '.join(words)})".replace("(, ", "(")
        text = (method.__doc__ or "").strip().split("\n\n")[0]
        result = _escape(str(signature.return_annotation))
        lines.append(f"| `{_escape(call)}` | `{result}` | {_escape(' '.join(text.split()))} |")
    return "\n".join(lines)


def _parameter(parameter: inspect.Parameter) -> str:
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return f"**{parameter.name}"
    if parameter.default is inspect.Parameter.empty:
        return parameter.name
    return f"{parameter.name}={parameter.default!r}"


def rewrite(page: str, text: str) -> str:
    """The page with `text` between its two marks. ValueError where a mark is missing."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks {BEGIN} or {END}")
    return f"{head}{BEGIN}\n{text}\n{END}{tail}"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        target = Path(name)
        said = operations_reference() if target.stem == "sdk" else reference()
        target.write_text(rewrite(target.read_text(encoding="utf-8"), said), encoding="utf-8")
