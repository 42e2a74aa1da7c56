"""Running the command line inside the test process, as a user with a home folder of its own would."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from aitbc.cli.main import app


@dataclass(frozen=True)
class Outcome:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class User:
    """`user("submit", "hi", stdin=None)` runs `aitbc submit hi`."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = home
        self._monkeypatch = monkeypatch
        for name in ("AITBC_URL", "AITBC_API_KEY", "DATABASE_URL", "API_KEYS", "CHAIN_ID", "OLLAMA_HOST"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AITBC_HOME", str(home))
        monkeypatch.chdir(home.parent)  # no .env of the developer's

    def at(self, url: str, key: str | None) -> User:
        """Use this coordinator and key from now on."""
        self._monkeypatch.setenv("AITBC_URL", url)
        if key is not None:
            self._monkeypatch.setenv("AITBC_API_KEY", key)
        return self

    def __call__(self, *words: str, stdin: str | bytes | None = None) -> Outcome:
        result = CliRunner().invoke(app, list(words), input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)
