"""What the figures were measured on: processor, system, versions, and how busy the machine was otherwise."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT

PACKAGES = ("fastapi", "uvicorn", "uvloop", "httptools", "orjson", "PyNaCl", "SQLAlchemy", "psycopg")
SYNCS = 200


def describe(postgres: dict[str, str]) -> dict[str, Any]:
    """Everything of the machine and the programs that a figure depends on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": _memory_gb(),
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "sqlite": sqlite3.sqlite_version,
        "postgresql": postgres,
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "commit": _commit(),
        "fsync_ms": fsync_ms(),
    }


def load_average() -> float | None:
    """The load of the last minute; None where the system does not say."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def fsync_ms() -> float:
    """The median time of making 4 KiB durable where the databases lie, in ms."""
    with tempfile.TemporaryFile(prefix="aitbc-bench-") as file:
        times = []
        for number in range(SYNCS):
            os.pwrite(file.fileno(), b"\1" * 4096, number * 4096)
            started = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - started)
    return round(sorted(times)[SYNCS // 2] * 1000, 3)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
