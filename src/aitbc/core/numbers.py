"""Numbers out of text that strangers write: bounded before anything is computed.

A number's text costs what its digits cost only while it stays text: `1e1000000` is nine characters, and an
integer of a million digits. Whatever reads JSON here takes its numbers through these functions, so that no
later code meets one that is expensive to convert, to compare or to print.
"""

from __future__ import annotations

from decimal import Decimal

MAX_NUMBER_CHARS = 400
"""The longest text of a number: the shortest text of any double without an exponent, 1e-323 included, fits."""
MAX_EXPONENT_DIGITS = 3
"""Exponents go from -999 to 999: those of doubles are from -324 to 308."""
MAX_INTEGER_DIGITS = MAX_NUMBER_CHARS + 10**MAX_EXPONENT_DIGITS
"""No number read here is an integer of more digits than this, however it was written."""

MAX_COUNT = 2**63 - 1
"""Of counts, heights and sizes: what fits into a database's 64 bits."""


_SHORT_CHARS = 32


class NumberOutOfBounds(ValueError):
    """The number's text is too long, its exponent too large, or no double is as large."""


def read_integer(text: str) -> int:
    """The integer of JSON's digits. NumberOutOfBounds."""
    if len(text) > MAX_NUMBER_CHARS:
        raise NumberOutOfBounds(f"a number has at most {MAX_NUMBER_CHARS} characters")
    return int(text)


def read_decimal(text: str) -> Decimal:
    """Exactly the digits of a JSON number with a point or an exponent. NumberOutOfBounds."""
    check_bounds(text)
    return Decimal(text)


def read_float(text: str) -> float:
    """The double nearest to a JSON number with a point or an exponent. NumberOutOfBounds, also by overflow."""
    if len(text) > _SHORT_CHARS:
        check_bounds(text)
    number = float(text)
    # Embeddings are thousands of these. Of a short text only zero and infinity, which less itself is not zero,
    # may hide too large an exponent.
    if number - number or not number:
        check_bounds(text)
        if number:
            raise NumberOutOfBounds("out of range: a number is at most 1.7e308 in size")
    return number


def read_count(text: str, most: int = MAX_COUNT) -> int | None:
    """The whole number of a header, cursor or path: plain ASCII digits, at most `most`; None for anything else."""
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(MAX_COUNT)):
        return None
    number = int(text)
    return number if number <= most else None


def check_bounds(text: str) -> None:
    """NumberOutOfBounds for a number's text beyond MAX_NUMBER_CHARS or MAX_EXPONENT_DIGITS."""
    if len(text) > MAX_NUMBER_CHARS:
        raise NumberOutOfBounds(f"a number has at most {MAX_NUMBER_CHARS} characters")
    if "e" in text or "E" in text:
        exponent = text.replace("E", "e").partition("e")[2].lstrip("+-0")
        if len(exponent) > MAX_EXPONENT_DIGITS:
            raise NumberOutOfBounds(f"an exponent has at most {MAX_EXPONENT_DIGITS} digits")
