"""The demo's subprocesses end, also those that do not listen."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from aitbc.cli import children
from aitbc.cli.children import Child
from aitbc.cli.failures import CommandError


def start(folder: Path, *words: str) -> Child:
    environment = {"PATH": os.environ["PATH"], "AITBC_HOME": str(folder)}
    return Child("coordinator", words, log=folder / "log", folder=folder, environment=environment)


def alive_in_group(group: int) -> list[str]:
    """Its processes, but for zombies that this machine's init does not reap."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True)
    pairs = [line.split() for line in listed.stdout.splitlines()]
    return [stat for pgid, stat in pairs if int(pgid) == group and not stat.startswith("Z")]


def test_a_child_that_does_not_answer_is_killed_with_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "STOP_GRACE_S", 0.3)
    child = start(tmp_path, "serve", "--port", "0")
    child.wait_for_line("ready on (http://.*)", 60)
    group = child._process.pid
    os.killpg(group, signal.SIGSTOP)  # as deaf as a process can be
    begun = time.monotonic()
    child.stop()
    assert time.monotonic() - begun < 5
    assert alive_in_group(group) == []


def test_a_child_that_fails_says_why(tmp_path: Path) -> None:
    child = start(tmp_path, "serve", "--port", "no")
    try:
        with pytest.raises(CommandError, match=r"exit code 2; its last words: .*--port"):
            child.wait_for_line("ready", 60)
    finally:
        child.stop()
    assert not child.running
