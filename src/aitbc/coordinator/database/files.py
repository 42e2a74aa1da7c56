"""The files of a SQLite database: only their owner reads them, and they stay the ones that were opened."""

import os
import stat
from pathlib import Path

import structlog

from aitbc.coordinator.errors import StorageUnavailable

log = structlog.get_logger(__name__)

PARTS = ("", "-wal", "-shm")
"""The database itself, its write-ahead log, and what its processes share; they belong together."""

GONE = (
    "The database's file was deleted or replaced while this coordinator ran. Nothing is written, until the"
    " file is back or the coordinator is started again."
)


def parts(path: Path) -> list[Path]:
    """The files of the database at `path`, whether they exist or not."""
    return [path.with_name(path.name + part) for part in PARTS]


def make_folders(folder: Path) -> None:
    """Makes what is missing of a folder's path, each for its owner only (0700)."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)


def create_private(path: Path) -> bool:
    """An empty file for a new database (mode 0600, missing folders 0700). False where it exists."""
    make_folders(path.parent)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return False
    return True


def close_to_others(path: Path, mode: int = 0o600) -> str:
    """Takes a file or folder of ours away from everybody else; what was done, or cannot be, in words.

    '' where nobody else could read it, or there is none.
    """
    if os.name != "posix":
        return ""
    try:
        found = path.stat()
    except OSError:
        return ""
    loose = stat.S_IMODE(found.st_mode)
    if not loose & 0o077:
        return ""
    was = f"{path} could be read by others (mode {loose:04o})"
    try:
        path.chmod(mode)
    except OSError as error:
        return f"{was}, and still can: {error.strerror}; run: chmod {mode:03o} {path}"
    return f"{was}; it is {mode:04o} now"


class SameFiles:
    """Whether the files at a path are still those that were opened.

    A process goes on writing to a file that was deleted or replaced, and all of it is gone when it ends. So
    who commits looks, before it says that something is durable. Costs three calls of stat(), about 5 µs.
    Who writes need not look before as well, unless they were found `gone`.
    """

    def __init__(self, path: Path) -> None:
        self._paths = [str(part) for part in parts(path)]
        self._known: list[tuple[int, int] | None] = [None] * len(self._paths)
        self._gone = False

    @property
    def gone(self) -> bool:
        """Whether the last look found one gone or replaced."""
        return self._gone

    def check(self, *, opened: bool = False) -> None:
        """Raises StorageUnavailable where one is another or gone.

        `opened`: a connection of ours has them open, so that nobody else may remove them; those that were not
        known are from now on.
        """
        lost = [path for number, path in enumerate(self._paths) if not self._same(number, path, opened)]
        if bool(lost) != self._gone:
            self._gone = bool(lost)
            if lost:
                log.error("database_file_gone", files=lost)
            else:
                log.warning("database_file_back", file=self._paths[0])
        if lost:
            raise StorageUnavailable(GONE)

    def _same(self, number: int, path: str, opened: bool) -> bool:
        known = self._known[number]
        if known is None and not opened:
            return True
        try:
            found = os.stat(path)  # noqa: PTH116 - a Path costs as much again
        except OSError:
            return known is None
        here = (found.st_dev, found.st_ino)
        if known is None:
            self._known[number] = here
            return True
        return known == here
