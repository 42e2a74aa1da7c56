from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.core.canonical import loads_strict
from aitbc.core.money import (
    EXACT_NUMBER_UNITS,
    MAX_UNITS,
    UNITS_PER_AIT,
    ait_number,
    fee_units,
    format_ait,
    parse_ait,
    price_units,
)

amounts = st.integers(0, MAX_UNITS)
exact_amounts = st.integers(0, EXACT_NUMBER_UNITS - 1)


@pytest.mark.parametrize(
    ("value", "units"),
    [
        (0, 0),
        (1, UNITS_PER_AIT),
        ("12.5", 1_250_000_000),
        ("0.00000001", 1),
        ("1e-8", 1),
        ("1E2", 100 * UNITS_PER_AIT),
        ("1.500000000000", 150_000_000),
        (0.1, 10_000_000),
        (0.3, 30_000_000),
        (1e-08, 1),
        (Decimal("0.1"), 10_000_000),
        (Decimal("-0.0"), 0),
        ("90071992.54740991", MAX_UNITS),
        (90_071_992, 9_007_199_200_000_000),
    ],
)
def test_parses(value: str | int | float | Decimal, units: int) -> None:
    assert parse_ait(value) == units


@pytest.mark.parametrize(
    "value",
    [
        *("0.000000001", "1e-9", 1e-9, Decimal("0.123456789"), 0.1 + 0.2, "0.00000000" + "0" * 40 + "1"),
        *(-1, "-1", -0.5, Decimal("-0.00000001")),
        *(float("nan"), float("inf"), -float("inf"), Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity")),
        *("90071992.54740992", 90_071_993, "1e999", 1e308, Decimal("1e999999999"), 10**30),
        *(True, False, None, [], {}, b"1"),
        *("", " 1", "1 ", "1_000", "+1", ".5", "1.", "0x10", "٣", "1e", "NaN", "Infinity", "01", "1" * 500),
        Decimal("0." + "1" * 30),
        Decimal("1." + "0" * 500),
    ],
)
def test_refuses(value: object) -> None:
    with pytest.raises(ValueError, match="amount"):
        parse_ait(value)  # type: ignore[arg-type]


def test_a_long_decimal_is_not_rounded_into_range() -> None:
    # 40 digits: arithmetic in the default decimal context would round the tail away and accept it.
    with pytest.raises(ValueError, match="8 decimals"):
        parse_ait(Decimal("1.000000010000000000000000000000000000001"))


@given(amounts)
def test_text_is_exact_both_ways(units: int) -> None:
    text = format_ait(units)
    assert parse_ait(text) == units
    assert Decimal(text) * UNITS_PER_AIT == units
    assert format_ait(-units) == (f"-{text}" if units else "0")


@given(exact_amounts)
def test_numbers_survive_json_both_ways(units: int) -> None:
    text = json.dumps(ait_number(units))
    assert parse_ait(json.loads(text)) == units
    assert parse_ait(loads_strict(text.encode(), decimals=True)) == units
    assert parse_ait(text) == units


def test_the_number_of_an_amount_below_the_limit_is_its_own() -> None:
    top = EXACT_NUMBER_UNITS
    assert len({ait_number(units) for units in range(top - 10_000, top)}) == 10_000
    assert parse_ait(ait_number(90_000_000 * UNITS_PER_AIT)) == 90_000_000 * UNITS_PER_AIT


@pytest.mark.parametrize(
    ("units", "text"),
    [(0, "0"), (1, "0.00000001"), (1_250_000_000, "12.5"), (-300_000_000, "-3"), (-1, "-0.00000001")],
)
def test_formats(units: int, text: str) -> None:
    assert format_ait(units) == text


def test_whole_amounts_are_integers_and_negative_ones_keep_their_sign() -> None:
    assert ait_number(300_000_000) == 3
    assert isinstance(ait_number(300_000_000), int)
    assert ait_number(-1_250_000_000) == -12.5


@given(st.integers(0, 10**9), st.integers(0, 10**12))
def test_a_price_is_rounded_up_to_the_next_unit(units: int, unit_price_units: int) -> None:
    price = price_units(units, unit_price_units)
    assert 0 <= price * 1000 - units * unit_price_units < 1000


@given(amounts, st.integers(0, 10_000))
def test_a_fee_is_rounded_down_and_never_above_the_amount(amount_units: int, fee_bps: int) -> None:
    fee = fee_units(amount_units, fee_bps)
    assert 0 <= amount_units * fee_bps - fee * 10_000 < 10_000
    assert fee <= amount_units


def test_prices_and_fees_refuse_what_makes_no_sense() -> None:
    for units, unit_price in ((-1, 1), (1, -1)):
        with pytest.raises(ValueError):
            price_units(units, unit_price)
    for amount, bps in ((-1, 1), (1, -1), (1, 10_001)):
        with pytest.raises(ValueError):
            fee_units(amount, bps)
