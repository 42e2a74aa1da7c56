"""The program as a process: how it starts, what it loads, how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aitbc import __version__
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
