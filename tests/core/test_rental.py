"""Durations in hours, and what used time costs: integers, rounded as docs/market.md says."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.core.rental import HOUR_MS, MINUTE_MS, duration_ms, rent_units

HOURS = {
    "1": HOUR_MS,
    "1.5": 5_400_000,
    "0.33333333": 20 * MINUTE_MS,
    "0.25": 15 * MINUTE_MS,
    "0.00000001": 1_000,
    "720": 720 * HOUR_MS,
    "1e2": 100 * HOUR_MS,
    "2.500000000000": 9_000_000,
}


@pytest.mark.parametrize(("hours", "expected"), HOURS.items())
def test_hours_are_seconds_rounded_up(hours: str, expected: int) -> None:
    assert duration_ms(Decimal(hours)) == expected


@pytest.mark.parametrize(
    "hours", ["0", "-1", "-0.0", "NaN", "Infinity", "1e9", "1e400", "0.000000001", "1.123456789"]
)
def test_what_is_no_duration(hours: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        duration_ms(Decimal(hours))


@pytest.mark.parametrize(
    ("used_ms", "hour_units", "expected"),
    [(0, 60, 0), (1, 60, 1), (MINUTE_MS, 60, 1), (MINUTE_MS + 1, 60, 2), (HOUR_MS, 7, 7), (MINUTE_MS, 1, 1)],
)
def test_a_begun_minute_counts_whole(used_ms: int, hour_units: int, expected: int) -> None:
    assert rent_units(used_ms, hour_units) == expected


@given(
    used=st.integers(0, 10**10),
    whole=st.integers(0, 10**10),
    hour=st.integers(0, 2**53),
    more=st.integers(0, 2**20),
)
def test_time_used_costs_no_more_than_the_whole_time(used: int, whole: int, hour: int, more: int) -> None:
    used, whole = sorted((used, whole))
    assert 0 <= rent_units(used, hour) <= rent_units(whole, hour) <= rent_units(whole, hour + more)
    assert rent_units(whole, hour) * HOUR_MS >= whole * hour


def test_no_time_and_no_price_is_negative() -> None:
    for pair in ((-1, 1), (1, -1)):
        with pytest.raises(ValueError, match="negative"):
            rent_units(*pair)
