"""Starting the `aitbc` program, as the console script or from a process that has loaded it already."""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tests.support.forkserver import LENGTH

AITBC = Path(sys.executable).parent / "aitbc"
ROOT = Path(__file__).parents[2]


class Aitbc:
    """A running `aitbc` command, forked from this test process's fork server; used like a `subprocess.Popen`.

    `stdout` is text where it was PIPE, else None.
    """

    def __init__(
        self,
        words: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdout: IO[Any] | int | None = None,
        stderr: IO[Any] | int | None = None,
    ) -> None:
        self.args = ["aitbc", *map(str, words)]
        self.returncode: int | None = None
        self.stdout: IO[str] | None = None
        self._lock = threading.Lock()
        mask = os.umask(0o077)
        os.umask(mask)
        request = {
            "umask": mask,
            "words": self.args[1:],
            "env": dict(os.environ if env is None else env),
            "cwd": str(cwd or Path.cwd()),
        }
        reading = None
        if stdout == subprocess.PIPE:
            reading, stdout = os.pipe()
        out = _number(stdout, 1)
        try:
            with Path(os.devnull).open("rb") as nothing:
                error = out if stderr == subprocess.STDOUT else _number(stderr, 2)
                self._told = _fork_server().start(request, [nothing.fileno(), out, error])
        finally:
            if reading is not None:
                os.close(out)
        if reading is not None:
            self.stdout = os.fdopen(reading, encoding="utf-8")
        self.pid = int(self._line())

    def poll(self) -> int | None:
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, negative for a signal. subprocess.TimeoutExpired."""
        status = self._look(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return status

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """All that it prints until it ends, and nothing, as it has no pipe for errors."""
        assert self.stdout is not None
        deadline = None if timeout is None else time.monotonic() + timeout
        printed: list[bytes] = []
        while True:
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            if not select.select([self.stdout], [], [], left)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            chunk = os.read(self.stdout.fileno(), 65_536)
            if not chunk:
                break
            printed.append(chunk)
        self.wait(None if deadline is None else max(deadline - time.monotonic(), 0))
        self.stdout.close()
        return b"".join(printed).decode(), None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout_s: float | None) -> int | None:
        with self._lock:
            if self.returncode is None and select.select([self._told], [], [], timeout_s)[0]:
                self.returncode = int(self._line())
                os.close(self._told)
            return self.returncode

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self._told, 1)
            if not byte:
                raise RuntimeError("the fork server is gone")
            line += byte
        return line


def run_aitbc(words: Sequence[str | Path], **options: Any) -> tuple[int, str]:
    """(exit status, what it printed on both streams) of one command. `options` are those of Aitbc."""
    process = Aitbc(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    printed, _ = process.communicate(60)
    assert process.returncode is not None
    return process.returncode, printed


def _number(stream: IO[Any] | int | None, default: int) -> int:
    if stream is None:
        return default
    return stream if isinstance(stream, int) else stream.fileno()


class _ForkServer:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests, theirs = socket.socketpair()
        # As little of the developer's settings as a test's server gets: what is loaded may look at them.
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.forkserver", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                cwd=ROOT,
                env=kept,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        atexit.register(self.close)

    def start(self, request: dict[str, Any], streams: list[int]) -> int:
        """Fork; gives the pipe on which it is told of the child."""
        told, tell = os.pipe()
        content = json.dumps(request).encode()
        try:
            with self._lock:
                socket.send_fds(self._requests, [LENGTH.pack(len(content))], [*streams, tell])
                self._requests.sendall(content)
        finally:
            os.close(tell)
        return told

    def close(self) -> None:
        self._requests.close()
        self._process.wait(10)


_running: list[_ForkServer] = []
_starting = threading.Lock()


def _fork_server() -> _ForkServer:
    """This test process's own, started when the first test needs it."""
    with _starting:
        if not _running:
            _running.append(_ForkServer())
        return _running[0]
