"""Time-ordered ids: UUID version 7 (RFC 9562) as lower-case text."""

from __future__ import annotations

import os
import re
import struct
import threading
import time
from collections.abc import Iterator

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII)
_TAIL_BITS = 74
_FRESH_SHIFT = 9
_STEP_MASK = 2**32 - 1
_HIGH_MASK = 0xFFF
_LOW_BITS = 62
_LOW_MASK = 2**_LOW_BITS - 1
_VERSION = 7 << 76
_VARIANT = 2 << _LOW_BITS
_TIME_LIMIT_MS = 2**48
_POOL = struct.Struct(">256Q")


class _Generator:
    """Increasing integers of 48 bits of time (ms) and a 74-bit tail. One instance serves all threads.

    A new millisecond draws a new tail of 64 random bits below a free top bit; within one, and while the wall
    clock stands still or goes back, the tail grows by a random step (RFC 9562, section 6.2, method 2) and
    would carry over into the time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = -1
        self._pool: Iterator[int] = iter(())

    def next(self, now_ms: int) -> int:
        with self._lock:
            draw = next(self._pool, None)
            if draw is None:
                # One system call in hundreds of ids: the call costs as much as the rest of an id.
                self._pool = iter(_POOL.unpack(os.urandom(_POOL.size)))
                draw = next(self._pool)
            if now_ms > self._last >> _TAIL_BITS:
                self._last = now_ms << _TAIL_BITS | draw << _FRESH_SHIFT
            else:
                self._last += 1 + (draw & _STEP_MASK)
            return self._last


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
    drawn = _generator.next(now_ms)
    high = drawn >> _LOW_BITS & _HIGH_MASK
    number = drawn >> _TAIL_BITS << 80 | _VERSION | high << 64 | _VARIANT | drawn & _LOW_MASK
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_id(text: object) -> bool:
    """Whether this is an id as `new_id` writes it (lower case, hyphens, version 7)."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def id_time_ms(text: str) -> int:
    """The time in an id, ms since the epoch. ValueError: not an id."""
    if not is_id(text):
        raise ValueError("not an id")
    return int(text[:8] + text[9:13], 16)


def floor_id(at_ms: int) -> str:
    """The smallest id of this millisecond: ids made before it sort below, later ones above."""
    return f"{at_ms >> 16:08x}-{at_ms & 0xFFFF:04x}-7000-8000-000000000000"
