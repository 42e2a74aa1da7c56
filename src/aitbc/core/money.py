"""Amounts of AIT as integers of base units, and the one rounding rule for prices.

Inside the program an amount is an `int` of base units (`*_units`); 1 AIT is 100,000,000 units. Outside it is
a JSON number in AIT. The functions here are the only way from the one to the other, and none of them lets
a binary float decide a digit: a float that a JSON parser made is read back through its shortest text.
"""

from __future__ import annotations

import re
from decimal import Decimal

from aitbc.core.numbers import MAX_NUMBER_CHARS

UNITS_PER_AIT = 100_000_000
DECIMALS = 8
MAX_UNITS = 2**53 - 1
"""The most units any amount may have: the largest integer that every JSON reader holds exactly."""
EXACT_NUMBER_UNITS = 2**26 * UNITS_PER_AIT
"""Below this, `ait_number` gives each amount its own double; from 67,108,864 AIT on, neighbours share one."""
TOKENS_PER_PRICE = 1000
BPS = 10_000

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)


def parse_ait(value: str | int | Decimal | float) -> int:
    """Base units of an amount in AIT.

    Takes JSON's own number text, an int, a Decimal, or a float (by its shortest text, so that 0.1 is 0.1).
    ValueError: not a number, NaN or infinite, negative, more than 8 decimals, more than MAX_UNITS.
    """
    if isinstance(value, bool):
        raise ValueError("an amount is a number, not a boolean")
    if isinstance(value, int):
        if value < 0:
            raise ValueError("an amount cannot be negative")
        return _within_limit(value * UNITS_PER_AIT)
    if isinstance(value, float):
        return _from_decimal(Decimal(float.__repr__(value)))
    if isinstance(value, Decimal):
        return _from_decimal(value)
    if isinstance(value, str):
        if len(value) > MAX_NUMBER_CHARS or _NUMBER.fullmatch(value) is None:
            raise ValueError("an amount is a decimal number such as 12.5")
        return _from_decimal(Decimal(value))
    raise ValueError(f"an amount is a number, not {type(value).__name__}")


def _from_decimal(value: Decimal) -> int:
    # The digits are shifted as integers: Decimal arithmetic would round to its context's 28 digits.
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise ValueError("an amount must be finite")
    if len(digits) > MAX_NUMBER_CHARS:
        raise ValueError("an amount has too many digits")
    if not any(digits):
        return 0
    if sign:
        raise ValueError("an amount cannot be negative")
    if value.adjusted() > DECIMALS + 1:
        # 10**10 AIT and more: refused before the exponent is turned into that many digits.
        raise ValueError(f"an amount cannot exceed {format_ait(MAX_UNITS)} AIT")
    number = int("".join(map(str, digits)))
    shift = exponent + DECIMALS
    if shift >= 0:
        return _within_limit(number * 10**shift)
    if -shift > len(digits):
        raise ValueError(f"an amount has at most {DECIMALS} decimals")
    units, rest = divmod(number, 10**-shift)
    if rest:
        raise ValueError(f"an amount has at most {DECIMALS} decimals")
    return _within_limit(units)


def _within_limit(units: int) -> int:
    if units > MAX_UNITS:
        raise ValueError(f"an amount cannot exceed {format_ait(MAX_UNITS)} AIT")
    return units


def ait_number(units: int) -> int | float:
    """The JSON number, in AIT, of an amount: an int where it is whole, else the nearest double.

    `parse_ait(ait_number(units)) == units` for 0 <= units < EXACT_NUMBER_UNITS and for all whole AIT.
    """
    whole, rest = divmod(units, UNITS_PER_AIT)
    return units / UNITS_PER_AIT if rest else whole


def format_ait(units: int) -> str:
    """Exact decimal text of an amount in AIT without superfluous zeros: "12.5", "-3", "0.00000001"."""
    whole, rest = divmod(abs(units), UNITS_PER_AIT)
    sign = "-" if units < 0 else ""
    if not rest:
        return f"{sign}{whole}"
    return f"{sign}{whole}.{rest:08d}".rstrip("0")


def price_units(units: int, unit_price_units: int) -> int:
    """Base units for `units` tokens at `unit_price_units` per 1000 tokens, rounded up to a whole unit."""
    if units < 0 or unit_price_units < 0:
        raise ValueError("units and unit price cannot be negative")
    return -(-units * unit_price_units // TOKENS_PER_PRICE)


def fee_units(amount_units: int, fee_bps: int) -> int:
    """The network's part of an amount at `fee_bps` basis points (0..10000), rounded down."""
    if amount_units < 0 or not 0 <= fee_bps <= BPS:
        raise ValueError("a fee is 0..10000 basis points of an amount that is not negative")
    return amount_units * fee_bps // BPS
