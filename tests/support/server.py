"""A real `aitbc serve` process to talk to, to kill and to start again."""

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from tests.support.aitbc import AITBC, Aitbc

START_S = 30.0
STOP_S = 10.0


def free_port() -> int:
    """A TCP port on the loopback interface that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ServerProcess:
    """One coordinator over `database_url`, on the same port through every restart.

    `.url` is its address, `.log` the file with everything it printed, `.home` its AITBC_HOME.
    `settings` are environment variables on top (`{"LEASE_S": "1"}`). Rate limits are off unless set.
    It is forked from a process that has loaded the program; `by_script`: the console script starts it, a second later.
    """

    def __init__(
        self,
        database_url: str,
        home: Path,
        settings: Mapping[str, str] | None = None,
        *,
        by_script: bool = False,
    ) -> None:
        self.database_url = database_url
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home / "server.log"
        self.settings = dict(settings or {})
        self.by_script = by_script
        self.process: Aitbc | subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The process's whole environment: nothing of the developer's own settings leaks in."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        return {
            **kept,
            "AITBC_HOME": str(self.home),
            "DATABASE_URL": self.database_url,
            "API_HOST": "127.0.0.1",
            "API_PORT": str(self.port),
            "RATE_LIMIT_CLIENT": "0",
            "RATE_LIMIT_MINER": "0",
            "RATE_LIMIT_USER": "0",
            **self.settings,
        }

    def start(self) -> "ServerProcess":
        """Start it and wait until /health answers. AssertionError with its log where it does not."""
        assert self.process is None, "it is running already"
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.log.open("ab") as log:
            given = {"env": self.environment, "stdout": log, "stderr": log, "cwd": self.home}
            if self.by_script:
                self.process = subprocess.Popen([AITBC, "serve"], stdin=subprocess.DEVNULL, **given)
            else:
                self.process = Aitbc(["serve"], **given)
        deadline = time.monotonic() + START_S
        while not self.healthy():
            ended = self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"the server {'ended' if ended else 'did not start'}:\n{self.tail()}")
            time.sleep(0.02)
        return self

    def healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def kill9(self) -> None:
        """End it as a power cut would: no clean-up of its own."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(STOP_S)
        self.process = None

    def terminate(self, timeout_s: float = STOP_S) -> int:
        """SIGTERM, and its exit status. subprocess.TimeoutExpired where it takes longer."""
        assert self.process is not None
        self.process.terminate()
        status = self.process.wait(timeout_s)
        self.process = None
        return status

    def restart(self) -> None:
        """Start it again after `kill9` or `terminate` (which this does where it still runs)."""
        if self.process is not None:
            self.terminate()
        self.start()

    def stop(self) -> None:
        """Make sure that nothing is left running, whatever state it is in."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_S)
        self.process = None
