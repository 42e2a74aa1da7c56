"""One process for each miner id: two would deliver and cancel each other's jobs."""

from __future__ import annotations

import os
from pathlib import Path

if os.name == "posix":
    import fcntl


class AlreadyRunning(Exception):
    """Another process runs this miner; the message says which folder it holds."""


class MinerLock:
    """Holds `<folder>/lock` until the process ends or `release` is called; the kernel frees it after any
    death."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        if os.name != "posix":
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise AlreadyRunning(
                f"a miner of this id is already running here ({folder}); start a second one with another --id"
            ) from None

    def release(self) -> None:
        os.close(self._descriptor)


def is_running(folder: Path) -> bool:
    """Whether a process holds the lock of the miner whose folder this is; nothing is created."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR)
    except OSError:
        return False
    try:
        if os.name == "posix":
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)
