"""A JSON reader that accepts one spelling of each value, so that a changed byte is always a changed value.

JSON lets the same value be written in many ways: white space, escapes, 1.0 and 1.00, repeated keys. A
signature over the value does not see such changes. This reader does: it writes the value back in the layouts
that JSON writers are known to use and demands to find the very text it was given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any, NamedTuple

import orjson

from aitbc.core.canonical import decode_checked, strict_decoder
from aitbc.core.numbers import check_bounds

# The spellings of a number's shortest digits in use: plain with no superfluous zero (12.5, 12.0, 0.00000001)
# and with an exponent (1e-8, 1e-08, 1.5e+16). No two spellings of a number differ in one byte alone.
_PLAIN = re.compile(r"-?(?:0|[1-9][0-9]*)\.(?:0|[0-9]*[1-9])", re.ASCII)
_EXPONENT = re.compile(r"-?[1-9](?:\.[0-9]*[1-9])?e(?:[+-]0?)?[1-9][0-9]*", re.ASCII)


_ESCAPE = re.compile(r"\\(?:u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})|u([0-9a-f]{4})|.)", re.ASCII)
_FIRST_OPTIONAL = 0x7F
"""Characters below this are escaped by every writer or by none; from it on, writers differ."""


class _Layout(NamedTuple):
    item_separator: str
    key_separator: str
    indent: int | None


_LAYOUTS = (
    _Layout(",", ":", None),
    _Layout(", ", ": ", None),
    _Layout(",", ": ", 2),
    _Layout(",", ": ", 4),
)


def loads_exact(data: bytes) -> Any:
    """The value of a JSON text written in one of the known layouts, with or without a final line feed.

    Layouts: compact; ", " and ": "; indented by 2 or by 4. A character from DEL on may be escaped, if it is
    so wherever it occurs. ValueError: what `loads_strict` refuses, a number not in its shortest digits, any
    other layout.
    """
    number_texts: list[str] = []

    def read_float(text: str) -> float:
        number_texts.append(text)
        return _shortest(text)

    value = decode_checked(data, strict_decoder(read_float).decode)
    if _is_compact(value, data):
        return value
    text = data.decode("utf-8").removesuffix("\n")
    escaped = _escaped_characters(text)
    for layout in _LAYOUTS:
        if _Writer(layout, escaped, iter(number_texts)).render(value, 0) == text:
            return value
    raise ValueError(
        "not in a layout whose every byte can be checked (compact, or indented by 2 or 4; "
        "no other white space or escapes)"
    )


def _is_compact(value: Any, data: bytes) -> bool:
    # The layout that servers send, by the quick way; numbers that orjson writes otherwise take the long one.
    try:
        return orjson.dumps(value) == data
    except TypeError:
        return False


def _shortest(text: str) -> float:
    check_bounds(text)
    number = float(text)
    shortest = float.__repr__(number)
    if text == shortest and number:
        return number
    if _PLAIN.fullmatch(text) is None and _EXPONENT.fullmatch(text) is None:
        raise ValueError(f"number {text[:40]} is not in its shortest form")
    # Equal as decimals, not only as doubles: 0.1000000000000000055 is the double 0.1 with a longer text.
    # A negative zero equals the other one: its sign would be a byte that changes no value.
    negative_zero = not number and text.startswith("-")
    if not Decimal(shortest).is_finite() or Decimal(text) != Decimal(shortest) or negative_zero:
        raise ValueError(f"number {text[:40]} is not in its shortest form")
    return number


def _escaped_characters(text: str) -> dict[int, str]:
    """The characters that this text escapes without need, each with its escape."""
    escaped = {}
    for match in _ESCAPE.finditer(text):
        high, low, unit = match.groups()
        if high is not None:
            code = 0x10000 + ((int(high, 16) & 0x3FF) << 10 | int(low, 16) & 0x3FF)
        else:
            code = int(unit or "0", 16)
        if code >= _FIRST_OPTIONAL:
            escaped[code] = match.group()
    return escaped


class _Writer:
    """A JSON writer of one layout. `numbers` are the texts of the floats, in the order they were read."""

    def __init__(self, layout: _Layout, escaped: dict[int, str], numbers: Iterator[str]) -> None:
        self._layout = layout
        self._escaped = escaped
        self._numbers = numbers

    def _quote(self, text: str) -> str:
        quoted = encode_basestring(text)
        return quoted.translate(self._escaped) if self._escaped else quoted

    def render(self, value: Any, level: int) -> str:
        """The value's text at this depth."""
        if isinstance(value, str):
            return self._quote(value)
        if value is None:
            return "null"
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int):
            return int.__repr__(value)
        if isinstance(value, float):
            return next(self._numbers)
        layout = self._layout
        if isinstance(value, dict):
            opening, closing = "{", "}"
            items = [
                f"{self._quote(name)}{layout.key_separator}{self.render(item, level + 1)}"
                for name, item in value.items()
            ]
        else:
            opening, closing = "[", "]"
            items = [self.render(item, level + 1) for item in value]
        if not items or layout.indent is None:
            return opening + layout.item_separator.join(items) + closing
        inner = "\n" + " " * (layout.indent * (level + 1))
        outer = "\n" + " " * (layout.indent * level)
        return opening + inner + (layout.item_separator + inner).join(items) + outer + closing
