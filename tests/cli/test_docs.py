"""docs/cli.md and docs/sdk.md against the program: their reference is current, their examples run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from aitbc.cli.main import app
from aitbc.cli.reference import operations_reference, reference, rewrite
from tests.cli.harness import User

DOCS = Path(__file__).parents[2] / "docs"
CLI, SDK = DOCS / "cli.md", DOCS / "sdk.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", SDK.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("page", [CLI, SDK], ids=lambda page: page.name)
def test_the_reference_is_current(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    said = operations_reference() if page == SDK else reference()
    assert rewrite(text, said) == text, f"write it anew: python -m aitbc.cli.reference docs/{page.name}"


def test_every_command_in_an_example_exists() -> None:
    """Each `aitbc …` of a shell example parses: its command and every option that it uses."""
    lines = re.findall(r"^(?:\w+=\$\()?(aitbc .*)$", CLI.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(lines) > 15
    for line in lines:
        words = shlex.split(re.split(r"\s+[|<]\s|\)\s+#", line)[0], comments=True)[1:]
        command = get_command(app)
        while getattr(command, "commands", None):
            command = command.commands[words.pop(0)]
        names = {
            name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)
        }
        used = {word for word in words if word.startswith("-") and word != "-"}
        assert used <= names, line


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_every_python_example_runs(number: int, alice: User) -> None:
    import os

    code = EXAMPLES[number].replace('Client("http://127.0.0.1:8000", "aitbc_client_…")', "Client()")
    assert os.environ["AITBC_URL"]
    exec(compile(code, f"docs/sdk.md, example {number + 1}", "exec"), {})


def test_every_exception_is_in_the_table() -> None:
    from aitbc import sdk
    from aitbc.sdk.errors import AitbcClientError

    text = SDK.read_text(encoding="utf-8")
    for name in sdk.__all__:
        kind = getattr(sdk, name)
        if isinstance(kind, type) and issubclass(kind, AitbcClientError):
            assert name in text, name
