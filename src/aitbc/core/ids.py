"""Time-ordered ids: UUID version 7 (RFC 9562) as lower-case text."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator

UUID_V7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII)
_TIME_LIMIT_MS = 2**48
_COUNTS = tuple(f"{count:03x}" for count in range(2**12))
_VARIANT = "89ab" * 4  # the digit that stands for a random one: its top two bits are 10
_POOL = 256


def _tails() -> Iterator[str]:
    """The random halves of ids. One system call makes many of them: it costs as much as the rest of an id."""
    drawn = os.urandom(8 * _POOL).hex()
    return iter(
        [
            f"-{_VARIANT[int(drawn[at], 16)]}{drawn[at + 1 : at + 4]}-{drawn[at + 4 : at + 16]}"
            for at in range(0, len(drawn), 16)
        ]
    )


class _Generator:
    """Increasing ids: 48 bits of time (ms), a 12-bit counter, 62 random bits (RFC 9562, section 6.2, method 1).

    One instance serves all threads. The counter starts again with each millisecond; while the wall clock
    stands still or goes back it goes on, and carries into the time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._time_ms = -1
        self._prefix = ""
        self._counts: Iterator[str] = iter(())
        self._pool: Iterator[str] = iter(())

    def next(self, now_ms: int) -> str:
        with self._lock:
            tail = next(self._pool, None)
            if tail is None:
                self._pool = _tails()
                tail = next(self._pool)
            count = next(self._counts, None) if now_ms <= self._time_ms else None
            if count is None:
                self._time_ms = max(now_ms, self._time_ms + 1)
                self._prefix = f"{self._time_ms >> 16:08x}-{self._time_ms & 0xFFFF:04x}-7"
                self._counts = iter(_COUNTS)
                count = next(self._counts)
            return self._prefix + count + tail


_generator = _Generator()


def _restart_after_fork() -> None:
    # A child that went on from its parent's state would draw the parent's next ids.
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
    return _generator.next(now_ms)


def is_id(text: object) -> bool:
    """Whether this is an id as `new_id` writes it (lower case, hyphens, version 7)."""
    return isinstance(text, str) and UUID_V7.fullmatch(text) is not None


def id_time_ms(text: str) -> int:
    """The time in an id, ms since the epoch. ValueError: not an id."""
    if not is_id(text):
        raise ValueError("not an id")
    return int(text[:8] + text[9:13], 16)


def floor_id(at_ms: int) -> str:
    """The smallest id of this millisecond: ids made before it sort below, later ones above."""
    return f"{at_ms >> 16:08x}-{at_ms & 0xFFFF:04x}-7000-8000-000000000000"
