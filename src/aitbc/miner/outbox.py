"""Answers that the coordinator has not yet acknowledged, on disk, so that neither an outage nor a restart
loses pay.

One file for each job, `<home>/miner/<miner id>/outbox/<job id>.json`, mode 0600 (it holds the result's text):
written to a temporary name, synced, renamed, and removed once the coordinator has answered for good.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from aitbc.miner.answers import JOB_ID

VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer to deliver. `body` is what `complete` or `fail` is posted with; `coordinator` is the one it
    is for."""

    kind: Literal["complete", "fail"]
    job_id: str
    coordinator: str
    body: dict[str, Any]


class Outbox:
    """The undelivered answers of one miner; one process at a time (see `lock.MinerLock`).

    `write` and `erase` touch the disk and may run in a thread; the rest is memory. An answer is written
    before it is kept and erased before it is forgotten, so that none is delivered and then found on disk.
    """

    def __init__(self, folder: Path, coordinator: str) -> None:
        """Reads what an earlier run left. `coordinator`: the address whose answers this run delivers."""
        self.folder = folder
        self.coordinator = coordinator
        self.unreadable: list[Path] = []
        self.elsewhere: list[Entry] = []
        self._entries: dict[str, Entry] = {}
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in sorted(folder.glob("*.json")):
            self._load(path)

    def write(self, entry: Entry) -> None:
        """Put `entry` on disk; it is there when this returns. Raises OSError (a full disk, say)."""
        _write_durably(self._path(entry.job_id), {"version": VERSION, **asdict(entry)})

    def keep(self, entry: Entry) -> None:
        """`entry` is now one of those to deliver."""
        self._entries[entry.job_id] = entry

    def erase(self, job_id: str) -> None:
        """Take a job's answer off the disk. Raises OSError."""
        self._path(job_id).unlink(missing_ok=True)

    def forget(self, job_id: str) -> None:
        """The coordinator has answered for good: nothing is to be delivered for this job any more."""
        self._entries.pop(job_id, None)

    def get(self, job_id: str) -> Entry | None:
        """The undelivered answer of a job."""
        return self._entries.get(job_id)

    def pending(self) -> list[Entry]:
        """The answers to deliver, oldest first."""
        return list(self._entries.values())

    def ids(self) -> set[str]:
        """The jobs whose answers wait here."""
        return set(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def _load(self, path: Path) -> None:
        try:
            data = json.loads(path.read_bytes())
            entry = Entry(data["kind"], data["job_id"], data["coordinator"], dict(data["body"]))
            known = data["version"] == VERSION and entry.kind in ("complete", "fail")
        except (OSError, ValueError, KeyError, TypeError):
            known = False
        if not known or entry.job_id != path.stem:
            self.unreadable.append(path)
        elif entry.coordinator != self.coordinator:
            self.elsewhere.append(entry)
        else:
            self._entries[entry.job_id] = entry

    def _path(self, job_id: str) -> Path:
        if not JOB_ID.fullmatch(job_id):
            raise ValueError(f"not a job id: {job_id!r}")
        return self.folder / f"{job_id}.json"


def _write_durably(path: Path, data: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(json.dumps(data, allow_nan=False).encode())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
