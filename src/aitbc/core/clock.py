"""Time as a thing that is passed in, and its text form (RFC 3339, UTC, milliseconds)."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_FIRST = datetime(1, 1, 1, tzinfo=UTC) - _EPOCH
_END = datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH + timedelta(days=1)
_RFC3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)


class Clock(Protocol):
    """What the server asks for the time. Tests pass a `ManualClock`."""

    def now_ms(self) -> int:
        """Wall time, ms since the epoch, UTC. May jump."""
        ...

    def monotonic(self) -> float:
        """Seconds that only ever grow; their zero means nothing."""
        ...


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


class SteadyClock:
    """Wall time without its latest jump forward: what a coordinator goes by, so that a passing jump ends nothing.

    A jump ahead is believed once the wall clock has kept to it for `after_s`; a step back at once. One that is
    distrusted from the start is believed as it is, and called steady once it has not jumped for `after_s`.
    Calls from several threads may see a jump twice, which changes nothing.
    """

    __slots__ = ("_after_s", "_clock", "_distrusted_s", "_offset_ms", "_since_s", "_waiting_ms")

    JUMP_MS = 2_000

    def __init__(self, clock: Clock, after_s: float = 60.0) -> None:
        self._clock = clock
        self._after_s = after_s
        self._offset_ms = self._apart_ms()
        self._waiting_ms = self._offset_ms
        self._since_s = 0.0
        self._distrusted_s: float | None = None

    def now_ms(self) -> int:
        """Never later than the wall clock."""
        found, mono_s = self._apart_ms(), self._clock.monotonic()
        if self._distrusted_s is not None:
            if abs(found - self._offset_ms) > self.JUMP_MS:
                self._distrusted_s = mono_s
            elif mono_s - self._distrusted_s >= self._after_s:
                self._distrusted_s = None
            self._offset_ms = self._waiting_ms = found
        elif found <= self._offset_ms + self.JUMP_MS:
            self._offset_ms = self._waiting_ms = found
        elif abs(found - self._waiting_ms) > self.JUMP_MS:
            self._waiting_ms, self._since_s = found, mono_s
        elif mono_s - self._since_s >= self._after_s:
            self._offset_ms = found
        return round(mono_s * 1000) + self._offset_ms

    def monotonic(self) -> float:
        """Seconds that only ever grow."""
        return self._clock.monotonic()

    def is_steady(self) -> bool:
        """Whether wall time and monotonic time agree, and have for a while: what cannot be undone waits for it."""
        self.now_ms()
        apart_ms = abs(self._apart_ms() - self._offset_ms)
        return self._distrusted_s is None and apart_ms <= self.JUMP_MS

    def distrust(self) -> None:
        """The wall clock does not fit to what is known of the time: it has to prove itself."""
        self._distrusted_s = self._clock.monotonic()

    def _apart_ms(self) -> int:
        return self._clock.now_ms() - round(self._clock.monotonic() * 1000)


class ManualClock:
    """A clock that moves only when told to."""

    __slots__ = ("_monotonic_s", "_now_ms")

    def __init__(self, now_ms: int = 1_767_225_600_000) -> None:
        self._now_ms = now_ms
        self._monotonic_s = 0.0

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic(self) -> float:
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Let time pass: both clocks move. ValueError: negative."""
        if seconds < 0:
            raise ValueError("time does not pass backwards; jump() moves the wall clock")
        self._now_ms += round(seconds * 1000)
        self._monotonic_s += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an operator or NTP does; no time passes."""
        self._now_ms += round(seconds * 1000)


def rfc3339(ms: int) -> str:
    """ "2026-01-02T03:04:05.678Z" of ms since the epoch. ValueError: outside the years 1..9999."""
    seconds, rest = divmod(ms, 1000)
    return f"{_to_the_second(seconds)}.{rest:03d}Z"


@lru_cache(4096)
def _to_the_second(seconds: int) -> str:
    # What one answer shows are mostly times of the same few seconds.
    try:
        return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]
    except OverflowError:
        raise ValueError("a time lies in the years 1..9999") from None


def parse_rfc3339(text: str) -> int:
    """Ms since the epoch of an RFC 3339 time with a zone; finer digits are cut off.

    ValueError: any other form, a date that does not exist, a leap second (no such ms exists).
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("a time is written like 2026-01-02T03:04:05.678Z")
    date, clock, fraction, zone = match.groups()
    offset = "+00:00" if zone in "Zz" else zone
    moment = datetime.fromisoformat(f"{date}T{clock}{offset}")
    since = moment - _EPOCH
    if not _FIRST <= since < _END:  # its zone moves it out of what can be written back
        raise ValueError("a time lies in the years 1..9999")
    return since // _MILLISECOND + (int(f"{fraction:0<3}"[:3]) if fraction else 0)
