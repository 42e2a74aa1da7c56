"""Amounts of AIT as the JSON numbers of bodies, in plain decimals: 0.00000175, where orjson would print 1.75e-6."""

from __future__ import annotations

from typing import Any, cast

import orjson

from aitbc.core.money import UNITS_PER_AIT, format_ait

SMALL_UNITS = 1000
"""Fractions of fewer base units than this are printed with an exponent."""
SMALL = SMALL_UNITS / UNITS_PER_AIT


# Fees of small jobs are such amounts: made once, they cost no more than any other number.
_PLAIN = {
    sign * units: cast(float, orjson.Fragment(format_ait(sign * units)))
    for units in range(1, SMALL_UNITS)
    for sign in (1, -1)
}


def ait(units: int) -> float:
    """The number to put into a body for an amount in base units: what `ait_number` gives, printed plainly."""
    whole, rest = divmod(units, UNITS_PER_AIT)
    if not rest:
        return whole
    return units / UNITS_PER_AIT if units >= SMALL_UNITS else _PLAIN.get(units, units / UNITS_PER_AIT)


def plain(value: Any) -> Any:
    """For an amount that is a number in AIT already: the same, printed plainly. Any other value as it is."""
    if type(value) is float and -SMALL < value < SMALL:
        units = round(value * UNITS_PER_AIT)
        if units / UNITS_PER_AIT == value:
            return _PLAIN.get(units, value)
    return value
