"""The server as a process: its ready line, its limits on the wire, its end."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aitbc.coordinator.config import Settings
from aitbc.coordinator.schema.migrate import upgrade
from aitbc.coordinator.server import StartupFailed, listen
from tests.coordinator.api.conftest import sqlite_only
from tests.support.server import ServerProcess

KEY = {"X-Api-Key": "first-static-key"}
STOP_WITHIN_S = 5.0


@pytest.fixture
def with_key(start_server: Callable[..., ServerProcess]) -> ServerProcess:
    return start_server({"API_KEYS": "first-static-key"})


def request(server: ServerProcess, method: str, path: str, body: object = None) -> tuple[int, object]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, None if body is None else json.dumps(body), KEY)
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    return answer.status, content


def open_poll(server: ServerProcess, path: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Api-Key: first-static-key\r\n\r\n".encode())
    return connection


def read_all(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    connection.close()
    return b"".join(parts)


def test_sigterm_answers_open_polls_and_exits_soon(with_key: ServerProcess) -> None:
    server = with_key
    registration = {"miner_id": "m1", "capabilities": ["llama3.2"], "concurrency": 1000}
    assert request(server, "POST", "/v1/miners/register", registration)[0] == 201
    status, job = request(server, "POST", "/v1/jobs", {"prompt": "x", "constraints": {"max_price": 0}})
    assert status == 201
    assert isinstance(job, dict)
    polls = [open_poll(server, "/v1/miner/jobs?miner_id=m1&wait=60") for _ in range(50)]
    polls += [open_poll(server, f"/v1/jobs/{job['job_id']}/result?wait=60") for _ in range(10)]
    time.sleep(1)
    started = time.monotonic()
    assert server.terminate(timeout_s=STOP_WITHIN_S) == 0
    assert time.monotonic() - started < STOP_WITHIN_S
    answers = [read_all(poll) for poll in polls]
    assert all(answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 202")) for answer in answers)
    server.start()
    status, again = request(server, "GET", f"/v1/jobs/{job['job_id']}")
    assert isinstance(again, dict)
    assert (status, again["status"]) == (200, "pending")


@sqlite_only
def test_what_goes_over_the_wire_and_into_the_log(start_server: Callable[..., ServerProcess]) -> None:
    server = start_server({"API_KEYS": "first-static-key", "LOG_LEVEL": "debug"})
    marked = {"prompt": "marked-prompt", "params": {"stop": ["marked-stop"]}}
    assert request(server, "POST", "/v1/jobs?marked-query=1", marked)[0] == 201
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nX-Api-Key: first-static-key\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        for _ in range(20):
            connection.sendall(chunk)
        head = connection.recv(4096)
    assert head.startswith(b"HTTP/1.1 413")
    assert b"server:" not in head.lower()
    assert request(server, "GET", "/v1/jobs")[0] == 200
    server.terminate()
    log = server.log.read_text()
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert any(line.get("path") == "/v1/jobs" and line.get("status") == 201 for line in lines)
    assert "marked" not in log
    assert "first-static-key" not in log


@sqlite_only
def test_port_zero_prints_the_chosen_port_which_nobody_else_gets(database_url: str, tmp_path: Path) -> None:
    program = (
        "from aitbc.coordinator.config import load_settings\n"
        "from aitbc.coordinator.server import run\n"
        "run(load_settings())"
    )
    upgrade(database_url)
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={"AITBC_HOME": str(tmp_path / "h"), "DATABASE_URL": database_url, "API_PORT": "0"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "ready on http://127.0.0.1:" in line
        port = int(line.rsplit(":", 1)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        with pytest.raises(StartupFailed, match=f"cannot listen on 127.0.0.1 port {port}"):
            listen(Settings(_env_file=None, api_port=port, home=tmp_path, database_url=database_url))
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_WITHIN_S) == 0
    finally:
        process.kill()
        process.wait()
