from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.core.clock import ManualClock, SystemClock, parse_rfc3339, rfc3339

_FIRST_MS = int(datetime(1, 1, 1, tzinfo=UTC).timestamp() * 1000)
_LAST_MS = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp() * 1000) + 999


@given(st.integers(_FIRST_MS, _LAST_MS))
def test_text_and_back(ms: int) -> None:
    text = rfc3339(ms)
    assert parse_rfc3339(text) == ms
    assert len(text) == 24


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.5Z", 500),
        ("1970-01-01t00:00:00.123456789z", 123),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2026-01-02T03:04:05.678Z", 1_767_323_045_678),
    ],
)
def test_reads(text: str, ms: int) -> None:
    assert parse_rfc3339(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        *("", "2026-01-02", "2026-01-02T03:04:05", "2026-01-02 03:04:05Z", "20260102T030405Z"),
        *("2026-13-02T03:04:05Z", "2026-02-30T03:04:05Z", "2026-01-02T24:04:05Z", "2026-01-02T03:04:60Z"),
        *(
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05+0100",
            "2026-W01-1T03:04:05Z",
            "٢026-01-02T03:04:05Z",
        ),
        *("2026-01-02T03:04:05Z\n", "2026-01-02T03:04:05+99:00", "0000-01-01T00:00:00Z"),
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(ValueError):
        parse_rfc3339(text)


def test_years_beyond_four_digits_have_no_text() -> None:
    for ms in (_FIRST_MS - 1, _LAST_MS + 1, 2**62):
        with pytest.raises(ValueError, match="years"):
            rfc3339(ms)


def test_a_manual_clock_moves_when_told() -> None:
    clock = ManualClock(now_ms=1_000)
    clock.advance(1.5)
    assert (clock.now_ms(), clock.monotonic()) == (2_500, 1.5)
    clock.jump(-2)
    assert (clock.now_ms(), clock.monotonic()) == (500, 1.5)
    with pytest.raises(ValueError):
        clock.advance(-1)


def test_the_system_clock_is_the_systems() -> None:
    clock = SystemClock()
    assert abs(clock.now_ms() / 1000 - time.time()) < 5
    assert clock.monotonic() <= clock.monotonic()


@pytest.mark.parametrize(
    "text", ["9999-12-31T23:59:59-00:01", "9999-12-31T23:59:59.999-23:59", "0001-01-01T00:00:00+00:01"]
)
def test_a_time_that_is_read_can_be_written(text: str) -> None:
    with pytest.raises(ValueError, match="years"):
        parse_rfc3339(text)
    for edge in ("9999-12-31T23:59:59.999Z", "0001-01-01T00:00:00.000Z"):
        assert rfc3339(parse_rfc3339(edge)) == edge
