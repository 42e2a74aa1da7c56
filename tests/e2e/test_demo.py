"""`aitbc demo` as a user runs it: it shows the main job, verified, and leaves nothing running."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

AITBC = Path(sys.executable).parent / "aitbc"
READY_S = 60.0
GONE_S = 15.0


def processes_of(folder: Path) -> list[str]:
    """Command lines of all processes that name this folder: a demo's children name its home."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid,args"], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if str(folder) in line and " demo " not in line]


def wait_until_gone(folder: Path) -> None:
    deadline = time.monotonic() + GONE_S
    while processes_of(folder):
        assert time.monotonic() < deadline, processes_of(folder)
        time.sleep(0.1)


class Demo:
    """A running `aitbc demo`, its output read as it comes."""

    def __init__(self, folder: Path, *words: str) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.folder = folder
        # Settings of the user's own coordinator, which the demo's must not take over.
        foreign = {
            "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
            "API_KEYS": "x",
            "AITBC_API_KEY": "x",
        }
        self.process = subprocess.Popen(
            [AITBC, "demo", *words],
            env=kept | foreign | {"TMPDIR": str(folder), "AITBC_HOME": str(folder / "aitbc")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.text = ""

    def read_until(self, mark: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.text += line
            if mark in line:
                return self.text
        raise AssertionError(f"it ended without saying {mark!r}:\n{self.text}")

    def finish(self) -> int:
        rest, _ = self.process.communicate(timeout=READY_S)
        self.text += rest
        return self.process.returncode


@pytest.fixture
def demos() -> Iterator[list[Demo]]:
    """Whatever a test started is ended."""
    started: list[Demo] = []
    yield started
    for demo in started:
        if demo.process.poll() is None:
            demo.process.kill()
        demo.process.wait()
        if demo.process.stdout is not None:
            demo.process.stdout.close()


def test_once_shows_and_verifies_the_main_job_and_leaves_nothing(tmp_path: Path, demos: list[Demo]) -> None:
    demo = Demo(tmp_path, "--once")
    demos.append(demo)
    assert demo.finish() == 0, demo.text
    assert processes_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == [], "the temporary folder is gone, and no other was made"
    for title in ("prompt ", "chat ", "embedding "):
        assert re.search(rf"^{title}", demo.text, re.MULTILINE), demo.text
    assert demo.text.count("verified offline") == 3
    assert demo.text.count("a forged copy refused") == 3
    assert "miner signature" in demo.text
    assert "aitbc-starter" in demo.text
    assert re.search(r"^client +1000 +999\.", demo.text, re.MULTILINE)
    assert re.search(r"^treasury +0 +0\.\d+ +\+0\.", demo.text, re.MULTILINE)
    assert re.search(r"^together +2000 +2000 +0$", demo.text, re.MULTILINE)
    assert "every balance from" in demo.text


def test_it_stays_up_and_says_how_to_go_on_until_it_is_stopped(tmp_path: Path, demos: list[Demo]) -> None:
    demo = Demo(tmp_path)
    demos.append(demo)
    text = demo.read_until("Ctrl-C ends it.")
    url = re.search(r"^coordinator +(http://\S+),", text, re.MULTILINE)[1]  # type: ignore[index]
    assert httpx.get(f"{url}/docs", trust_env=False).status_code == 200
    command = re.search(r"curl +(curl .*\n.*)$", text, re.MULTILINE)[1]  # type: ignore[index]
    submitted = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert '"status":"pending"' in submitted.stdout.replace(" ", "")
    line = re.search(r"^command +(.*)$", text, re.MULTILINE)[1]  # type: ignore[index]
    path = {"PATH": f"{AITBC.parent}:{os.environ['PATH']}"}
    answered = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=path)
    assert (answered.returncode, bool(answered.stdout.strip())) == (0, True), answered.stderr
    second = Demo(tmp_path, "--once", "--home", str(tmp_path / "aitbc" / "demo"))
    demos.append(second)
    assert (second.finish(), "a demo is running in" in second.text) == (1, True)
    demo.process.send_signal(signal.SIGTERM)
    assert demo.finish() == 0, demo.text
    wait_until_gone(tmp_path)


def test_nothing_is_left_where_it_is_killed_halfway(tmp_path: Path, demos: list[Demo]) -> None:
    demo = Demo(tmp_path, "--once")
    demos.append(demo)
    demo.read_until("coordinator ")
    assert processes_of(tmp_path)
    demo.process.kill()
    assert demo.finish() == -signal.SIGKILL
    wait_until_gone(tmp_path)


def test_a_step_that_fails_fails_the_demo_and_leaves_nothing(tmp_path: Path, demos: list[Demo]) -> None:
    demo = Demo(tmp_path, "--once", "--engine", "no-such-engine")
    demos.append(demo)
    assert demo.finish() == 1
    last = demo.text.splitlines()[-1]
    assert last.startswith("aitbc: DEMO_FAILED: the miner ended with exit code 1")
    assert "no-such-engine" in last
    assert processes_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
