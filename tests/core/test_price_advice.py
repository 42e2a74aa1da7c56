"""The suggested price by its rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.core.price_advice import DAY_MS, demand_bps, suggested_units, utilisation_bps

TIMES = st.integers(0, 10**6 * DAY_MS)
PRICES = st.integers(0, 2**53)


@pytest.mark.parametrize(
    ("booked", "offered", "used", "demand", "price"),
    [
        (0, 0, 0, 5_000, 10_000),
        (0, DAY_MS, 0, 2_500, 9_000),
        (DAY_MS, DAY_MS, 10_000, 7_500, 11_000),
        (0, 99 * DAY_MS, 0, 50, 8_020),
        (99 * DAY_MS, 99 * DAY_MS, 10_000, 9_950, 11_980),
        (5 * DAY_MS, 10 * DAY_MS, 5_000, 5_000, 10_000),
        (20 * DAY_MS, 10 * DAY_MS, 10_000, 9_545, 11_818),
    ],
)
def test_known_advice(booked: int, offered: int, used: int, demand: int, price: int) -> None:
    assert utilisation_bps(booked, offered) == used
    assert demand_bps(booked, offered) == demand
    assert suggested_units(10_000, booked, offered) == price


@given(PRICES, TIMES, TIMES)
def test_the_advice_is_within_its_bounds(median: int, booked: int, offered: int) -> None:
    advice = suggested_units(median, booked, offered)
    assert max(1, median * 8_000 // 10_000) <= advice <= max(1, median * 12_000 // 10_000)


@given(PRICES, TIMES, TIMES, TIMES)
def test_more_demand_never_lowers_it(median: int, one: int, other: int, offered: int) -> None:
    less, more = sorted((one, other))
    assert suggested_units(median, less, offered) <= suggested_units(median, more, offered)


@pytest.mark.parametrize("values", [(-1, 0, 0), (0, -1, 0), (0, 0, -1)])
def test_what_is_below_zero(values: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="negative"):
        suggested_units(*values)
    if values[0] == 0:
        with pytest.raises(ValueError, match="negative"):
            utilisation_bps(*values[1:])
