"""Subprocesses of `aitbc demo`: each in a process group of its own, none left behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from aitbc.cli.failures import CommandError

STOP_GRACE_S = 8.0
"""From SIGTERM to SIGKILL; a coordinator needs at most 5 s."""
GONE_S = 2.0
POLL_S = 0.05
LOG_LINES = 12


class Child:
    """A running `aitbc` command, printing to a log file. It ends with this process, even by `kill -9`."""

    def __init__(
        self, name: str, arguments: Sequence[str], *, log: Path, folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log = log
        guard = [sys.executable, "-m", "aitbc.cli.guard", str(STOP_GRACE_S)]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*guard, sys.executable, "-m", "aitbc.cli", *arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=dict(environment),
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """It has not ended."""
        return self._process.poll() is None

    def log_text(self) -> str:
        """All that it printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_for_line(self, pattern: str, timeout_s: float) -> re.Match[str]:
        """The first match of `pattern` in its log."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            match = re.search(pattern, self.log_text(), re.MULTILINE)
            if match:
                found.append(match)
            return match is not None

        self.wait_until(look, timeout_s, "become ready")
        return found[0]

    def wait_until(
        self, done: Callable[[], bool], timeout_s: float, aim: str, every_s: float = POLL_S
    ) -> None:
        """Wait until `done()`; CommandError where this child ends first or the time is over."""
        deadline_s = time.monotonic() + timeout_s
        while not done():
            if not self.running:
                raise self.failure(f"the {self.name} ended with exit code {self._process.returncode}")
            if time.monotonic() > deadline_s:
                raise self.failure(f"the {self.name} did not {aim} within {timeout_s:.0f} s")
            time.sleep(every_s)

    def failure(self, reason: str) -> CommandError:
        """An error that shows the end of the log."""
        tail = self.log_text().strip().splitlines()[-LOG_LINES:]
        words = " | ".join(line.strip() for line in tail) or "it printed nothing"
        return CommandError("DEMO_FAILED", f"{reason}; its last words: {words}")

    def ask_to_stop(self) -> None:
        """SIGTERM to the whole group."""
        self._signal(signal.SIGTERM)

    def stop(self) -> None:
        """Return when nothing of it runs any more."""
        self.ask_to_stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_GRACE_S)
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._wait_for_group()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _wait_for_group(self) -> None:
        """Killed processes need a moment to be gone; where nobody reaps orphans, they stay as zombies."""
        deadline_s = time.monotonic() + GONE_S
        while time.monotonic() < deadline_s:
            try:
                os.killpg(self._process.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(POLL_S)

    def _signal(self, number: signal.Signals) -> None:
        # The group lives as long as any process of it; when all are gone there is nobody to tell.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
