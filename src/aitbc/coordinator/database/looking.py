"""Looking at a SQLite database that may be somebody else's: nothing in it or beside it changes.

SQLite as it comes makes two files beside a database in WAL mode, merges what it finds there, and needs to write for it.
A backup may lie on a medium that nobody can write to, and be evidence besides.
"""

import shutil
import sqlite3
import tempfile
from pathlib import Path

from aitbc.coordinator.errors import StorageUnavailable

CHANGED = "The database was changed by another process while it was read. Run the command again."
UNFINISHED = ("-wal", "-journal")
"""Files beside a database that have changes which are not in it yet; or of which it has a part only."""


class Looker:
    """Opens connections that only read, in one of three ways:

    - Somebody has the database open (both files lie beside it), or had when he was killed: through his files,
      without writing to them.
    - Nobody has, and no change waits to be merged: as a file that does not change. SQLite takes no locks then; that
      nobody changed it meanwhile is for `check` to say.
    - A change waits to be merged, and nothing says how far it came: that needs writing, so a copy is made for it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._still: tuple[int, int, int] | None = None
        self._copies: list[tempfile.TemporaryDirectory[str]] = []

    def connect(self, timeout_s: float) -> sqlite3.Connection:
        """`isolation_level=None`: transactions are begun by hand. sqlite3.OperationalError: there is no file."""
        path, how = self._path, "mode=ro&readonly_shm=1"
        waits = [self._beside(part) for part in UNFINISHED if _size(self._beside(part))]
        if not (self._beside("-shm").exists() and self._beside("-wal").exists()):
            if waits:
                path, how = self._copied(waits), "mode=rw"
            elif path.exists():
                self._still, how = _state(path), "mode=ro&immutable=1"
        name = f"{path.absolute().as_uri()}?{how}"
        connection = sqlite3.connect(
            name, uri=True, timeout=timeout_s, isolation_level=None, check_same_thread=False
        )
        for pragma in ("query_only=ON", "temp_store=MEMORY", "cache_size=-8192"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def check(self) -> None:
        """Raises StorageUnavailable where what was read need not be one state of the database."""
        if self._still is not None and _state(self._path) != self._still:
            raise StorageUnavailable(CHANGED)

    def close(self) -> None:
        """Removes the copies; every connection is closed by now."""
        for copy in self._copies:
            copy.cleanup()
        self._copies.clear()

    def _beside(self, part: str) -> Path:
        return self._path.with_name(self._path.name + part)

    def _copied(self, waits: list[Path]) -> Path:
        """StorageUnavailable where the files do not lie still for long enough."""
        folder = tempfile.TemporaryDirectory(prefix="aitbc-look-")
        self._copies.append(folder)
        files = (self._path, *waits)
        try:
            before = [_state(one) for one in files]
            for one in files:
                shutil.copyfile(one, Path(folder.name, one.name))
            if [_state(one) for one in files] != before:
                raise StorageUnavailable(CHANGED)
        except FileNotFoundError:
            raise StorageUnavailable(CHANGED) from None
        return Path(folder.name, self._path.name)


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
