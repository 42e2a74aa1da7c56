"""The last signed tree head of the log, kept outside the database: in files beside the signing key.

A database can be put back, cut or written anew without the key; the coordinator itself would then sign another
tree of a size that it has signed before. So it keeps what it signed (or saw signed by another coordinator of the
same database), and goes on with no database that does not continue it (`chain.continuity`).

`<chain>.head` is the newest head that is known to be in the database: the signed checkpoint itself, to be read
by `aitbc audit --since`. `<chain>.next` is one that was signed and was about to be written into the database: it
stands there before the transaction begins and goes once it has ended, so that a process that is killed between
the two neither forgets what it signed nor takes its own database for another one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from aitbc.core.canonical import loads_strict
from aitbc.core.log.checkpoint import Checkpoint, parse_checkpoint
from aitbc.core.log.note import parse_note
from aitbc.keyfile import replace_private

try:
    import fcntl
except ImportError:  # not a POSIX system: there one coordinator has one home folder
    fcntl = None  # type: ignore[assignment]

MAX_BYTES = 1 << 20


class HeadFileError(Exception):
    """A kept head that cannot be read; the message says what to do about it."""


class Signed(NamedTuple):
    """A tree head that was signed: the checkpoint's text, and what it says."""

    checkpoint: str
    head: Checkpoint

    @classmethod
    def parse(cls, checkpoint: str) -> Signed:
        """ValueError (NoteInvalid): it is no signed checkpoint."""
        return cls(checkpoint, parse_checkpoint(parse_note(checkpoint).text))


class Intent(NamedTuple):
    """A head that was signed to be sealed upon a tree of `base_size`, over the waiting leaves of these runs
    (first and last seq, and what to add to a seq to have its place)."""

    signed: Signed
    base_size: int
    runs: tuple[tuple[int, int, int], ...]


class Kept(NamedTuple):
    """What the files say. None: there is no such file."""

    head: Signed | None = None
    intent: Intent | None = None


class HeadFile:
    """The two files of one chain in a home folder. Its methods write to disk: not for the event loop."""

    def __init__(self, home: Path, chain_id: str) -> None:
        self.path = home / f"{chain_id}.head"
        self.next_path = home / f"{chain_id}.next"

    def read(self) -> Kept:
        """HeadFileError where a file is not what was written; OSError where the disk says no."""
        with self._locked():
            return self._read()

    def intend(self, checkpoint: str, base_size: int, runs: Sequence[tuple[int, int, int]]) -> None:
        """Says, durably, what is about to be sealed. OSError."""
        document = {"checkpoint": checkpoint, "base_size": base_size, "runs": [list(run) for run in runs]}
        replace_private(self.next_path, json.dumps(document) + "\n")

    def keep(self, checkpoint: str) -> None:
        """The head is in the database: it is the kept one from now on, unless a larger one is. OSError."""
        size = Signed.parse(checkpoint).head.size
        with self._locked():
            kept = self._read()
            if kept.head is None or kept.head.head.size < size:
                replace_private(self.path, checkpoint)
            self.next_path.unlink(missing_ok=True)

    def drop_intent(self) -> None:
        """What was intended is not in the database and never will be: another block took its place."""
        self.next_path.unlink(missing_ok=True)

    def accept(self, checkpoint: str | None) -> None:
        """An operator's word: this is the head from now on, whatever was kept. None: an empty log. OSError."""
        with self._locked():
            if checkpoint is None:
                self.path.unlink(missing_ok=True)
            else:
                replace_private(self.path, checkpoint)
            self.next_path.unlink(missing_ok=True)

    def _read(self) -> Kept:
        text, intent = _text(self.path), _text(self.next_path)
        path = self.path
        try:
            head = None if text is None else Signed.parse(text)
            path = self.next_path
            return Kept(head, None if intent is None else _read_intent(intent))
        except ValueError as error:
            what = f"{path} is not the head of a log that was kept there: {error}"
            raise HeadFileError(f"{what}; put it back, or see: aitbc log accept --help") from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keeps out another process with the same home folder."""
        if fcntl is None or not self.path.parent.is_dir():
            yield
            return
        descriptor = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _text(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return None


def _read_intent(text: str) -> Intent:
    document = loads_strict(text.encode())
    if not isinstance(document, dict) or not isinstance(document.get("checkpoint"), str):
        raise ValueError("it has no checkpoint")
    base_size, runs = document.get("base_size"), document.get("runs")
    if type(base_size) is not int or not isinstance(runs, list):
        raise ValueError("it has no leaves")
    read = []
    for run in runs:
        if not isinstance(run, list) or len(run) != 3 or any(type(number) is not int for number in run):
            raise ValueError("its leaves are not runs of three numbers")
        read.append((run[0], run[1], run[2]))
    return Intent(Signed.parse(document["checkpoint"]), base_size, tuple(read))
