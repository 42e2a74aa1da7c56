"""Every command's help has an example that parses; the shell's completion knows roles, models and ids."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from aitbc.cli import complete
from aitbc.cli.examples import EXAMPLES
from aitbc.cli.main import app
from tests.cli.harness import User
from tests.sdk.network import MODEL, Network

AITBC = Path(sys.executable).parent / "aitbc"


def commands(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield words, command
        return
    for name, child in children.items():
        yield from commands(f"{words} {name}".strip(), child)


ALL = dict(commands("", get_command(app)))


@pytest.mark.parametrize("words", ALL)
def test_every_command_has_an_example_that_parses(words: str) -> None:
    example = EXAMPLES[words]
    assert ALL[words].epilog == f"Example: {example}"
    given = shlex.split(example)
    name = ["aitbc", *words.split()]
    assert given[: len(name)] == name
    # Resilient parsing skips required options and callbacks, but not options that do not exist.
    ALL[words].make_context(words, given[len(name) :])


def test_no_example_is_of_a_command_that_is_not_there() -> None:
    assert EXAMPLES.keys() == ALL.keys()


def groups(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    for name, child in getattr(command, "commands", {}).items():
        if hasattr(child, "commands"):
            yield f"{words} {name}".strip(), child
            yield from groups(f"{words} {name}", child)


def test_every_group_s_line_names_its_commands() -> None:
    found = dict(groups("", get_command(app)))
    assert "wallet key" in found
    for words, group in found.items():
        unnamed = set(group.commands) - set(re.findall(r"[a-z-]+", group.help))
        assert not unnamed, words


def completed(words: str, incomplete: str, **environment: str) -> list[str]:
    """What bash would be offered."""
    line = f"aitbc {words} {incomplete}"
    done = subprocess.run(
        [AITBC],
        env={
            **os.environ,
            "_AITBC_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(shlex.split(line)) - (1 if incomplete else 0)),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_the_shell_completes_words_and_names(alice: User) -> None:
    job_id = alice("submit", "hello", "-m", MODEL).out.strip()
    assert completed("keys create --role", "c") == ["client"]
    assert completed("miner run --engine", "o") == ["ollama", "openai"]
    assert completed("submit --model", MODEL[:4]) == [MODEL]
    assert job_id in completed("job show", job_id[:8])
    assert "submit" in completed("", "sub")


def test_completion_is_silent_where_nobody_answers(user: User) -> None:
    user.at("http://127.0.0.1:9", "key")
    assert complete.models("") == complete.job_ids("") == []
    assert completed("submit --model", "x") == []


def test_completion_offers_what_begins_so(alice: User, network: Network) -> None:
    assert complete.ROLES("") == ["client", "miner", "admin"]
    assert complete.ROLES("m") == ["miner"]
    assert complete.miner_ids("scr") == ["scripted-miner"]
    assert MODEL in complete.models("")
