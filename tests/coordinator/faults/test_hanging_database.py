"""A PostgreSQL that is stopped (SIGSTOP), and a SQLite file that somebody else holds.

The PostgreSQL is a server of this module's own: the one that all tests share is never stopped.
"""

import contextlib
import http.client
import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import aitbc
from aitbc.coordinator.database.patience import PatientConnection, Silent
from aitbc.coordinator.schema.migrate import upgrade
from tests.support.aitbc import Aitbc, run_aitbc
from tests.support.postgres import Postgres, running_postgres
from tests.support.server import ServerProcess

KEY = "key-for-a-hanging-database"
TIMEOUT_S = 1.0
SETTINGS = {"API_KEYS": KEY, "DATABASE_TIMEOUT_S": str(TIMEOUT_S), "BLOCK_INTERVAL_S": "0.2"}
BOUND_S = 2 * TIMEOUT_S + 6  # a machine that is busy with something else included
EXIT_S = 5.0


class Stoppable:
    """A PostgreSQL of its own, whose processes can be stopped and go on."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        with contextlib.closing(self._connect()) as connection:
            row = connection.execute("SELECT pg_backend_pid(), current_setting('data_directory')").fetchone()
        assert row is not None
        self.main = int((Path(row[1]) / "postmaster.pid").read_text().split()[0])

    def _connect(self) -> Any:
        import psycopg

        return psycopg.connect(self.server.url("postgres"), autocommit=True)

    def _processes(self) -> list[int]:
        children = Path(f"/proc/{self.main}/task/{self.main}/children").read_text().split()
        return [self.main, *map(int, children)]

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def stop(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        self.stop()
        try:
            yield
        finally:
            self.resume()


@pytest.fixture(scope="module")
def hanging() -> Iterator[Stoppable]:
    with running_postgres() as server:
        yield Stoppable(server)


@pytest.fixture
def url(hanging: Stoppable) -> Iterator[str]:
    name = hanging.server.create()
    upgrade(hanging.server.url(name))
    yield hanging.server.url(name)
    hanging.server.drop(name)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    running: list[ServerProcess] = []

    def make(url: str) -> ServerProcess:
        running.append(ServerProcess(url, tmp_path / f"home{len(running)}", SETTINGS))
        return running[-1]

    yield make
    for server in running:
        server.stop()


def ask(
    server: ServerProcess, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, Any, float]:
    """Status, body, and how many seconds it took."""
    asked = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        sent = None if body is None else json.dumps(body)
        connection.request(method, path, sent, {"X-Api-Key": KEY, **headers})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), time.monotonic() - asked
    finally:
        connection.close()


def until_healthy(server: ServerProcess) -> None:
    until = time.monotonic() + 15
    while not server.healthy():
        assert time.monotonic() < until, server.tail()
        time.sleep(0.05)


def test_a_stopped_postgresql_is_answered_with_503_and_nothing_is_lost_or_doubled(
    hanging: Stoppable, url: str, serve: Callable[..., ServerProcess]
) -> None:
    server = serve(url).start()
    miner = {"miner_id": "m1", "capabilities": ["llama3.2"], "concurrency": 8}
    assert ask(server, "POST", "/v1/miners/register", miner)[0] == 201
    acknowledged: dict[str, str] = {}  # job ids by Idempotency-Key
    unknown: list[str] = []
    over = threading.Event()
    took: list[float] = []

    def submit_on(worker: int) -> None:
        number = 0
        while not over.is_set():
            number += 1
            name = f"{worker}-{number}"
            status, body, seconds = ask(
                server, "POST", "/v1/jobs", {"prompt": "x", "model": "llama3.2"}, **{"Idempotency-Key": name}
            )
            took.append(seconds)
            if status == 201:
                acknowledged[name] = body["job_id"]
            else:
                assert (status, body["error_code"]) == (503, "STORAGE_UNAVAILABLE")
                unknown.append(name)

    workers = [threading.Thread(target=submit_on, args=(number,)) for number in range(12)]
    for worker in workers:
        worker.start()
    time.sleep(1)
    assert acknowledged
    with hanging.stopped():
        paths = ["/v1/jobs", "/v1/miners", "/v1/receipts", "/metrics", "/v1/miner/jobs?miner_id=m1&wait=30"]
        with ThreadPoolExecutor(20) as pool:  # more at once than there are threads that read
            asked = [pool.submit(ask, server, "GET", path) for path in paths * 4]
            health = [ask(server, "GET", "/health") for _ in range(2)]
            answers = [one.result() for one in asked]
        assert {(status, body["error_code"]) for status, body, _ in answers + health} == {
            (503, "STORAGE_UNAVAILABLE")
        }
    assert max(seconds for _status, _body, seconds in health) < 3.5
    assert max(seconds for _status, _body, seconds in answers) < BOUND_S
    until_healthy(server)
    time.sleep(1)
    over.set()
    for worker in workers:
        worker.join()
    assert unknown
    assert max(took) < BOUND_S
    # Whoever heard 503 asks again: one job for each key, and every acknowledged one is there.
    for name in unknown:
        status, body, _ = ask(
            server, "POST", "/v1/jobs", {"prompt": "x", "model": "llama3.2"}, **{"Idempotency-Key": name}
        )
        assert status == 201
        acknowledged[name] = body["job_id"]
    assert len(set(acknowledged.values())) == len(acknowledged)
    import psycopg

    with psycopg.connect(url) as connection:
        stored = {row[0] for row in connection.execute("SELECT id FROM jobs")}
    assert stored == set(acknowledged.values())
    status, printed = run_aitbc(["audit"], env=server.environment, cwd=server.home)
    assert status == 0, printed


def test_sigterm_ends_a_coordinator_whose_database_hangs(
    hanging: Stoppable, url: str, serve: Callable[..., ServerProcess]
) -> None:
    server = serve(url).start()
    for wait_s in (
        0.0,
        1.5 * TIMEOUT_S,
    ):  # at once, with everything on its way; and when all of it has failed before
        with hanging.stopped():
            asking = [threading.Thread(target=_quietly, args=(server, "/v1/jobs")) for _ in range(8)]
            for one in asking:
                one.start()
            time.sleep(0.3 + wait_s)
            begun = time.monotonic()
            server.terminate(EXIT_S + 1)
            assert time.monotonic() - begun < EXIT_S
            for one in asking:
                one.join()
        assert "ended_at_once" not in server.log.read_text()  # that is for what nothing else ends
        if not wait_s:
            server.start()


def _quietly(server: ServerProcess, path: str) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        ask(server, "GET", path)


def test_what_starts_while_the_database_hangs_says_so_or_ends_on_sigterm(
    hanging: Stoppable, url: str, serve: Callable[..., ServerProcess]
) -> None:
    server = serve(url)
    server.home.mkdir()
    environment = {**server.environment, "AITBC_URL": server.url}
    commands = [
        ["keys", "create", "--role", "client", "--account", "a"],
        ["db", "upgrade"],
        ["db", "backup", str(server.home / "backup")],
        ["audit"],
        ["doctor", "--no-engine"],
        ["serve"],
    ]
    with hanging.stopped():
        begun = time.monotonic()
        running = [_start(command, environment, server.home) for command in commands]
        interrupted = _start(["serve"], environment, server.home)
        time.sleep(1)
        interrupted.terminate()
        interrupted.communicate(timeout=EXIT_S)
        for process, command in zip(running, commands, strict=True):
            output = process.communicate(timeout=25)[0]
            assert process.returncode, command
            assert "Traceback" not in output, output
        assert time.monotonic() - begun < 25


def test_a_long_statement_is_waited_for_while_the_server_lives(hanging: Stoppable) -> None:
    connection = PatientConnection.reach(hanging.server.url("postgres"), 0.5, waits_while_alive=True)
    assert connection.execute("SELECT 1 FROM pg_sleep(2)").fetchone() == (1,)
    begun = time.monotonic()
    stop = threading.Timer(0.5, hanging.stop)
    stop.start()
    try:
        with pytest.raises(Silent):
            connection.execute("SELECT 1 FROM pg_sleep(30)")
    finally:
        stop.join()
        hanging.resume()
    assert time.monotonic() - begun < BOUND_S
    impatient = PatientConnection.reach(hanging.server.url("postgres"), 0.5)
    with pytest.raises(Silent):
        impatient.execute("SELECT pg_sleep(2)")


def _start(command: list[str], environment: dict[str, str], folder: Path) -> Aitbc:
    return Aitbc(command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_sigterm_ends_a_coordinator_that_hangs_while_it_starts(
    hanging: Stoppable, url: str, serve: Callable[..., ServerProcess]
) -> None:
    """The schema was looked at; the first write waits for a lock that somebody else holds."""
    import psycopg

    server = serve(url)
    server.home.mkdir()
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE")
        process = _start(["serve"], {**server.environment, "DATABASE_TIMEOUT_S": "60"}, server.home)
        until = time.monotonic() + 15
        while not other.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall():
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        begun = time.monotonic()
        process.terminate()
        output = process.communicate(timeout=EXIT_S + 1)[0]
        assert time.monotonic() - begun < EXIT_S, output


def test_every_connection_is_a_patient_one() -> None:
    source = Path(aitbc.__file__).parent
    users = [str(file) for file in source.rglob("*.py") if "psycopg.connect(" in file.read_text()]
    assert users == [], "PatientConnection.reach, whose waits all have an end"


def test_a_sqlite_file_that_somebody_holds(tmp_path: Path, serve: Callable[..., ServerProcess]) -> None:
    file = tmp_path / "held.db"
    upgrade(f"sqlite:///{file}")
    server = serve(f"sqlite:///{file}").start()
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    status, body, seconds = ask(server, "POST", "/v1/jobs", {"prompt": "x", "model": "llama3.2"})
    assert (status, body["error_code"]) == (503, "STORAGE_UNAVAILABLE")
    assert seconds < BOUND_S
    other.execute("ROLLBACK")
    assert ask(server, "POST", "/v1/jobs", {"prompt": "x", "model": "llama3.2"})[0] == 201
    other.execute("BEGIN IMMEDIATE")
    writing = threading.Thread(target=_submit_quietly, args=(server,))
    writing.start()
    time.sleep(0.2)
    begun = time.monotonic()
    server.terminate(EXIT_S + 1)
    assert time.monotonic() - begun < EXIT_S
    writing.join()
    other.close()


def _submit_quietly(server: ServerProcess) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        ask(server, "POST", "/v1/jobs", {"prompt": "x"})
