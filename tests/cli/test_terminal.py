"""The program on a real (pseudo) terminal, and under Ctrl-C: colours, narrow tables, the live line, no traceback."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.harness import User
from tests.sdk.network import MODEL, Network
from tests.support.server import free_port

AITBC = Path(sys.executable).parent / "aitbc"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """`aitbc …` on a terminal of its own; `text` is what it has shown so far."""

    def __init__(self, *words: str, columns: int = 100, **environment: str) -> None:
        self.main, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
        self.process = subprocess.Popen(
            [AITBC, *words],
            stdin=other,
            stdout=other,
            stderr=other,
            env={**kept, "TERM": "xterm-256color", **environment},
            start_new_session=True,
        )
        os.close(other)
        self.text = ""

    def read(self, until: Callable[[str], bool], seconds: float = 30) -> str:
        """Reads until it shows what is wanted. AssertionError where it does not."""
        deadline = time.monotonic() + seconds
        while not until(self.text):
            assert time.monotonic() < deadline, self.text
            if select.select([self.main], [], [], 0.1)[0]:
                try:
                    self.text += os.read(self.main, 65536).decode(errors="replace")
                except OSError:  # the other end was closed
                    break
        return self.text

    def end(self, seconds: float = 30) -> int:
        """Reads to its end; its exit code."""
        self.read(lambda _text: self.process.poll() is not None, seconds)
        self.read(lambda _text: not select.select([self.main], [], [], 0.2)[0], seconds)
        os.close(self.main)
        return self.process.wait(10)


def plain(text: str) -> str:
    return ESCAPE.sub("", text).replace("\r\n", "\n")


def test_colours_are_for_terminals(alice: User) -> None:
    job_id = alice("submit", "hello", "-m", MODEL, "-w", "--json").json["job_id"]
    shown = Terminal("job", "show", job_id)
    assert shown.end() == 0
    assert "\x1b[32mdone by scripted-miner\x1b[0m" in shown.text
    for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        bare = Terminal("job", "show", job_id, **environment)
        assert bare.end() == 0
        assert "\x1b[3" not in bare.text
    piped = alice("job", "show", job_id)
    assert "\x1b" not in piped.out + piped.err
    assert plain(shown.text) == piped.out, "the same words"


def test_a_narrow_terminal_gets_blocks_and_a_pipe_the_table(alice: User) -> None:
    alice("submit", "hello", "-m", MODEL, "-w")
    narrow = Terminal("jobs", "--limit", "2", columns=60)
    assert narrow.end() == 0
    lines = plain(narrow.text).splitlines()
    assert max(map(len, lines)) <= 60, narrow.text
    assert [line.split()[0] for line in lines[:5]] == ["JOB", "STATE", "MODEL", "AIT", "CREATED"]
    wide = Terminal("jobs", "--limit", "2", columns=200)
    assert wide.end() == 0
    assert plain(wide.text).splitlines()[0].split() == ["JOB", "STATE", "MODEL", "AIT", "CREATED"]
    assert alice("jobs", "--limit", "2").out.splitlines()[0].split() == [
        "JOB",
        "STATE",
        "MODEL",
        "AIT",
        "CREATED",
    ]


def test_ctrl_c_while_waiting_keeps_the_job(alice: User) -> None:
    waiting = Terminal("submit", "hello", "-m", "nobody-has-this", "--wait")
    waiting.read(lambda text: "on offer" in text)
    os.killpg(waiting.process.pid, signal.SIGINT)
    assert waiting.end() == 130
    said = plain(waiting.text)
    assert "Traceback" not in said
    (job_id,) = set(re.findall(r"aitbc job cancel ([0-9a-f-]{36})", said))
    assert alice("job", "cancel", job_id).out == f"{job_id} cancelled\n"


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2])
def test_ctrl_c_at_any_moment_is_no_traceback(alice: User, after_s: float) -> None:
    """From the first lines of the program to its last; Python's own start, before them, is not ours."""
    child = subprocess.Popen(
        [sys.executable, "-c", "from aitbc.cli.start import main; print('up', flush=True); main()",
         "submit", "hello", "-m", MODEL, "--wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "up\n"
    time.sleep(0.02 + after_s)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert "Traceback" not in err, err
    assert "KeyboardInterrupt" not in err
    assert child.returncode in (0, 130, -signal.SIGINT), "the last: Python itself was ending already"
    if child.returncode == 130 and "queued" in err:
        assert "aitbc job show" in err or "--idempotency-key" in err or "interrupted" in err
    assert out in ("", "You said: hello\n")


def test_ctrl_c_in_a_command_is_said(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by a command that knows nothing of it, and where programs read."""
    from aitbc.cli import database

    def interrupted(*_words: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(database, "settings_from", interrupted)
    for words in (["db", "version"], ["db", "version", "--json"]):
        stopped = user(*words)
        assert (stopped.code, stopped.out, stopped.err) == (130, "", "aitbc: interrupted\n")


def test_ctrl_c_needs_no_module_that_is_not_loaded_yet(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have come while one was loaded, which is half there then."""
    from aitbc.cli import database

    def interrupted(*_words: object, **_options: object) -> None:
        monkeypatch.setitem(sys.modules, "aitbc.cli.failures", None)
        raise KeyboardInterrupt

    monkeypatch.setattr(database, "settings_from", interrupted)
    stopped = user("db", "version")
    assert (stopped.code, stopped.err) == (130, "aitbc: interrupted\n")


def test_ctrl_c_while_submitting_says_how_to_find_the_job(
    alice: User, monkeypatch: pytest.MonkeyPatch, network: Network
) -> None:
    """The request has gone out and its answer has not come: run again with the key, it is the same job."""
    from aitbc.cli import submit
    from aitbc.sdk import Client

    real = Client.submit_job

    def interrupted(client: Client, body: dict[str, object], **options: str) -> None:
        real(client, body, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "submit_job", interrupted)
    stopped = alice("submit", "hello", "-m", MODEL)
    assert stopped.code == 130
    (key,) = re.findall(r"--idempotency-key (\S+)", stopped.err)
    monkeypatch.setattr(Client, "submit_job", real)
    before = alice("jobs", "--limit", "1", "--json").json[0]["job_id"]
    assert alice("submit", "hello", "-m", MODEL, "--idempotency-key", key).out.strip() == before
    assert submit.CUT


def test_a_coordinator_that_is_down_is_said_in_the_live_line(tmp_path: Path) -> None:
    """A wait goes on through an outage, and says so; here the coordinator goes away for good."""
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    port = free_port()
    job = {
        "job_id": "019b7c1e-5a46-7000-8000-000000000002",
        "status": "pending",
        "model": MODEL,
        "created_at": "2026-01-01T00:00:00Z",
        "warnings": [],
    }

    class Once(BaseHTTPRequestHandler):
        def log_message(self, *_words: object) -> None:
            return

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps(job).encode()
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = HTTPServer(("127.0.0.1", port), Once)
    Thread(target=server.handle_request, daemon=True).start()
    waiting = Terminal(
        "submit", "hello", "--wait", "--timeout", "60", "--url", f"http://127.0.0.1:{port}", "--key", "k",
        columns=300, AITBC_HOME=str(tmp_path),
    )  # fmt: skip
    waiting.read(lambda text: "queued" in text)
    server.server_close()
    waiting.read(lambda text: "trying again" in text, 60)
    assert f"no answer from http://127.0.0.1:{port}" in plain(waiting.text)
    os.killpg(waiting.process.pid, signal.SIGINT)
    assert waiting.end() == 130
    assert "aitbc job show 019b7c1e" in plain(waiting.text)
