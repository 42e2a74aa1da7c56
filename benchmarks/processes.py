"""The processes of a measurement: the coordinator, and the load client that is told what to do."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.databases import Prepared
from benchmarks.proc import cpu_s, rss_mb

ROOT = Path(__file__).parents[1]
CHAIN_ID = "ait-devnet"
START_S = 60.0
STOP_S = 15.0
SETTLE_S = 20.0

SETTINGS = {
    "API_HOST": "127.0.0.1",
    "RATE_LIMIT_CLIENT": "0",
    "RATE_LIMIT_MINER": "0",
    "RATE_LIMIT_USER": "0",
    "MAX_PENDING_JOBS": "10000000",
    "LOG_LEVEL": "warning",
    "LEASE_S": "300",
    "CHAIN_ID": CHAIN_ID,
}


class MeasurementFailed(RuntimeError):
    """A figure could not be measured; the text says why."""


def environment(extra: dict[str, str]) -> dict[str, str]:
    """A process's whole environment: this checkout, and nothing of the developer's own settings."""
    names = ("PATH", "HOME", "LANG", "TMPDIR")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return {**kept, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}", **extra}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Coordinator:
    """One `aitbc serve` over a prepared database."""

    def __init__(self, prepared: Prepared, home: Path, extra: dict[str, str] | None = None) -> None:
        self.prepared = prepared
        self._extra = extra or {}
        self.port = free_port()
        self.home = home
        self._log = home / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        settings = {
            **SETTINGS,
            "AITBC_HOME": str(self.home),
            "DATABASE_URL": self.prepared.url,
            "API_PORT": str(self.port),
            **self._extra,
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.serve"],
                env=environment(settings),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + START_S
        while not self._healthy():
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise MeasurementFailed(f"the coordinator did not start:\n{self.log_tail()}")
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_S)
        self._process = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "it is not running"
        return self._process.pid

    def _healthy(self) -> bool:
        try:
            return bool(self._get("/health").status == 200)
        except OSError:
            return False

    def _get(self, path: str) -> Any:
        return urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10)

    def json(self, path: str) -> Any:
        with self._get(path) as reply:
            return json.load(reply)

    def metric(self, name: str) -> float:
        """The value of an unlabelled metric."""
        with self._get("/metrics") as reply:
            found = re.search(rf"^{name} (\S+)$", reply.read().decode(), re.MULTILINE)
        if found is None:
            raise MeasurementFailed(f"/metrics has no {name}")
        return float(found[1])

    def settle(self, within_s: float = SETTLE_S) -> None:
        """Waits until it has nothing left to do: what a measurement leaves behind is not the next one's."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            before = cpu_s(self.pid)
            time.sleep(0.5)
            if cpu_s(self.pid) - before < 0.02:
                return

    def rss_mb(self) -> float:
        """Resident memory now, MB (10^6 bytes)."""
        found = rss_mb(self.pid)
        if found is None:
            raise MeasurementFailed("this system does not say how much memory a process has")
        return found

    def log_tail(self, lines: int = 30) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])


class LoadClient:
    """The load client's process. `do` runs one command and returns its answer."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        prepared = coordinator.prepared
        self._setup = {
            "host": "127.0.0.1",
            "port": coordinator.port,
            "client_key": prepared.client_key,
            "miner_keys": prepared.miner_keys,
            "chain_id": CHAIN_ID,
            "server_pid": coordinator.pid,
        }
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.client"],
            env=environment({}),
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._write(self._setup)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_S)

    def _write(self, value: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(value) + "\n")
        self._process.stdin.flush()

    def do(self, command: str, **options: Any) -> dict[str, Any]:
        """Runs a command; its answer. Raises MeasurementFailed."""
        assert self._process is not None
        assert self._process.stdout is not None
        self._write({"do": command, **options})
        line = self._process.stdout.readline()
        if not line:
            raise MeasurementFailed("the load client ended")
        answer = json.loads(line)
        if "error" in answer:
            raise MeasurementFailed(f"{command}: {answer['error']}\n{self._coordinator.log_tail(10)}")
        result: dict[str, Any] = answer["ok"]
        return result
