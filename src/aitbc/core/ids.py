"""Time-ordered ids: UUID version 7 (RFC 9562) as lower-case text."""

from __future__ import annotations

import os
import re
import threading
import time

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII)
_TAIL_BITS = 74
_TAIL_LIMIT = 1 << _TAIL_BITS
_LOW_BITS = 62
_LOW_MASK = (1 << _LOW_BITS) - 1
_VERSION = 7 << 76
_VARIANT = 2 << _LOW_BITS
_TIME_LIMIT_MS = 1 << 48
_POOL_BYTES = 4096
_STEP_BYTES = 4
_TAIL_BYTES = 9


class _Generator:
    """Hands out increasing (time, tail) pairs.

    Within one millisecond the 74-bit tail grows by a random step (RFC 9562, section 6.2, method 2); a wall
    clock that stands still or goes back keeps the last time. One instance serves all threads; a forked child
    starts over.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._time_ms = -1
        self._tail = 0
        self._pool = b""
        self._used = 0

    def _random(self, size: int) -> int:
        # One system call in hundreds of ids: the call costs more than the rest of an id.
        start = self._used
        end = start + size
        if end > len(self._pool):
            self._pool = os.urandom(_POOL_BYTES)
            start, end = 0, size
        self._used = end
        return int.from_bytes(self._pool[start:end], "big")

    def next_pair(self, now_ms: int) -> tuple[int, int]:
        with self._lock:
            if now_ms > self._time_ms:
                self._time_ms = now_ms
                # 72 random bits: the two top bits stay free, so that the steps below never run out.
                self._tail = self._random(_TAIL_BYTES)
            else:
                self._tail += 1 + self._random(_STEP_BYTES)
                if self._tail >= _TAIL_LIMIT:
                    self._time_ms += 1
                    self._tail = self._random(_TAIL_BYTES)
            return self._time_ms, self._tail


_generator = _Generator()


def _restart_after_fork() -> None:
    global _generator
    _generator = _Generator()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restart_after_fork)


def new_id(now_ms: int | None = None) -> str:
    """A new UUIDv7, greater than every id this process made before.

    `now_ms` is the wall clock in ms since the epoch, 0..2**48-1 (default: the system's); an earlier time than
    the last id's is raised to that one.
    """
    if now_ms is None:
        now_ms = time.time_ns() // 1_000_000
    elif not 0 <= now_ms < _TIME_LIMIT_MS:
        raise ValueError("an id's time is 0..2**48-1 ms since the epoch")
    time_ms, tail = _generator.next_pair(now_ms)
    high = tail >> _LOW_BITS
    text = f"{time_ms << 80 | _VERSION | high << 64 | _VARIANT | tail & _LOW_MASK:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_id(text: object) -> bool:
    """Whether this is an id as `new_id` writes it (lower case, hyphens, version 7)."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def id_time_ms(text: str) -> int:
    """The time in an id, ms since the epoch. ValueError: not an id."""
    if not is_id(text):
        raise ValueError("not an id")
    return int(text[:8] + text[9:13], 16)
