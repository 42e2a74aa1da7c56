"""Strangers against a real `aitbc witness run`: heads, bodies, connections and answers that never end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aitbc.core.log.note import Verifier
from aitbc.core.signing import PrivateKey
from tests.support.aitbc import AITBC
from tests.support.server import free_port

# A minute of waiting is not for a test: the program is the same, with shorter times.
QUICK = """
import sys
from dataclasses import replace
from aitbc.cli.start import main
from aitbc.witness import server
server.WitnessTerms.bounds = replace(
    server.BOUNDS, connections=40, connections_of_peer=30, head_s=1, body_s=1, answer_s=1, idle_s=1, rate=10**8
)
sys.argv = ["aitbc", *sys.argv[1:]]
main()
"""
GET = b"GET /key HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
SOON_S = 8.0


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    home: Path = tmp_path_factory.mktemp("witness")
    log = Verifier("example.com/log", PrivateKey.from_seed(b"l" * 32).public_bytes)
    port = free_port()
    command = [AITBC.parent / "python", "-c", QUICK, "witness", "run", "--log", log.vkey]
    with (home / "log").open("wb") as output:
        process = subprocess.Popen(
            [*command, "--name", "example.com/w", "--home", home, "--listen", f"127.0.0.1:{port}"],
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        deadline = time.monotonic() + 30
        while not answers(port):
            assert process.poll() is None and time.monotonic() < deadline, (home / "log").read_text()
            time.sleep(0.05)
        yield port
        assert "Traceback" not in (home / "log").read_text()
    finally:
        process.terminate()
        assert process.wait(10) in (0, -signal.SIGTERM)


def dial(port: int, peer: str = "127.0.0.9", receive_bytes: int = 0) -> socket.socket:
    connection = socket.socket()
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(SOON_S)
    connection.bind((peer, 0))
    connection.connect(("127.0.0.1", port))
    return connection


def read_end(connection: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            parts.append(part)
    connection.close()
    return b"".join(parts)


def answers(port: int, peer: str = "127.0.0.2") -> bool:
    with contextlib.suppress(OSError):
        connection = dial(port, peer)
        connection.sendall(GET[:-2] + b"Connection: close\r\n\r\n")
        return b"example.com/w" in read_end(connection)
    return False


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /ke", b"408"),
        (GET[:-2] + b"X: y\r\n", b"408"),
        (POST, b"408"),
        (POST + b"x", b"408"),
        (b"", b""),
        (GET[:-2] + b"X: " + b"x" * 20_000, b"431"),
        (GET[:-2] + b"X: y\r\n" * 200 + b"\r\n", b"431"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", b"400"),
    ],
)
def test_what_never_ends_is_ended(port: int, sent: bytes, status: bytes) -> None:
    connection = dial(port)
    connection.sendall(sent)
    assert read_end(connection)[9:12] == status


def test_a_body_that_trickles_is_ended(port: int) -> None:
    connection = dial(port)
    connection.sendall(POST)
    began = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() < began + SOON_S:
            connection.sendall(b"x")
            time.sleep(0.1)
    assert time.monotonic() - began < SOON_S
    connection.close()


def test_half_open_connections_lock_nobody_out(port: int) -> None:
    opened = []
    for number in range(80):
        with contextlib.suppress(OSError):
            connection = dial(port, f"127.0.0.{10 + number % 4}")
            opened.append(connection)
            connection.sendall(b"POST /add")
    assert answers(port), "though there are more than it takes"
    for connection in opened:
        connection.close()


def test_answers_that_nobody_reads_are_given_up(port: int) -> None:
    connection = dial(port, receive_bytes=4096)
    stopped = threading.Event()

    def flood() -> None:
        with contextlib.suppress(OSError):
            while not stopped.is_set():
                connection.sendall(GET * 100)

    thread = threading.Thread(target=flood)
    thread.start()
    thread.join(SOON_S + 4)
    stopped.set()
    assert not thread.is_alive(), "the witness ends the connection"
    connection.close()
    assert answers(port)
