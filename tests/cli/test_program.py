"""The program as a process: how it starts, what it loads, how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from aitbc import __version__
from aitbc.cli.failures import CommandError
from aitbc.cli.keys import moment_ms
from aitbc.cli.main import app
from aitbc.cli.output import clean, table, to_json

AITBC = Path(sys.executable).parent / "aitbc"


def test_version() -> None:
    for command in ([str(AITBC)], [sys.executable, "-m", "aitbc.cli"]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert done.stdout == f"aitbc {__version__}\n"


def test_a_clients_command_loads_no_server(tmp_path: Path) -> None:
    """What makes `aitbc submit` start quickly; a time itself would be a test of the machine."""
    code = """
import sys
from aitbc.cli.main import app
code = app(["submit", "hi", "--url", "http://127.0.0.1:9"], standalone_mode=False)
heavy = {
    "aitbc.cli.demo", "aitbc.cli.miner", "alembic", "asyncio", "fastapi", "nacl", "prometheus_client",
    "pygments", "rich", "sqlalchemy", "starlette", "structlog", "uvicorn", "xllamacpp",
}
print(code, sorted(heavy & sys.modules.keys()))
"""
    environment = {**os.environ, "AITBC_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == "3 []\n", done.stderr


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    environment = {**os.environ, "AITBC_HOME": str(tmp_path)}
    command = f"{AITBC} --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    assert "Traceback" not in done.stderr


def test_clean_removes_escapes_whole() -> None:
    assert clean("a\x1b[1;31mb\x1b[0mc") == "abc"
    assert clean("a\x1b]8;;http://x\x1b\\link\x1b]8;;\x07b") == "alinkb"
    assert clean("a\x1bP1$tx\x1b\\b\x1b(Bc\x1bMd") == "abcd"
    assert clean("unfinished \x1b]0;title") == "unfinished "
    assert clean("keep\ttabs\nand lines\r\n") == "keep\ttabs\nand lines\n"
    assert clean("over\rwrite") == "overwrite"
    assert clean("one\nline", one_line=True) == "one line"
    assert clean("éß漢🙂") == "éß漢🙂"


def test_json_is_safe_and_exact() -> None:
    text = to_json({"x": "\x9b\x7f\x1b\u202e", "y": 0.1})
    assert not set(text) & set("\x9b\x7f\x1b\u202e")
    assert json.loads(text) == {"x": "\x9b\x7f\x1b\u202e", "y": 0.1}


def test_tables_align_and_cut_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    table(("NAME", "N"), [("a", 1), ("long name", 100), (None, None)])
    out = capsys.readouterr().out
    assert out.splitlines() == ["NAME         N", "a            1", "long name  100", "-            -"]


def options(command: Any, name: str = "aitbc") -> Iterator[tuple[str, Any]]:
    """Every option and argument of a command and of those below it."""
    for parameter in command.params:
        yield f"{name} {parameter.opts[0]}", parameter
    for word, inner in getattr(command, "commands", {}).items():
        yield from options(inner, f"{name} {word}")


def test_every_fraction_has_bounds() -> None:
    """Without them nan and inf get in, which no JSON has and no clock can wait for."""
    found = list(options(get_command(app)))
    fractions = [(name, one) for name, one in found if one.type_descriptor.annotation is float]
    assert len(fractions) >= 6
    for name, one in fractions:
        assert one.min is not None and one.max is not None, name


@pytest.mark.parametrize("text", ["nan", "inf", "1e999999", "-1", "9" * 5000])
def test_a_number_that_is_none_is_said_to_be(tmp_path: Path, text: str) -> None:
    user = [str(AITBC), "submit", "hi", "--url", "http://127.0.0.1:9"]
    environment = {**os.environ, "AITBC_HOME": str(tmp_path)}
    command = [*user, f"--temperature={text}"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert done.stderr.startswith("aitbc: USAGE: Invalid value for '--temperature'"), done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "when", ["9999-12-31T23:59:59-23:59", "999999999w", "1e99", "0001-01-01T00:00:00+23:59"]
)
def test_a_time_beyond_all_calendars_is_refused(when: str) -> None:
    with pytest.raises(CommandError):
        moment_ms(when)
