"""A JSON reader that accepts one spelling of each value, so that a changed byte is always a changed value.

JSON lets the same value be written in many ways: white space, escapes, 1.0 and 1.00, repeated keys. A
signature over the value does not see such changes. This reader does: it writes the value back in the layouts
that JSON writers are known to use and demands to find the very text it was given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any, NamedTuple

import orjson

from aitbc.core.canonical import decode_checked, refuse_constant, unique_object

# The spellings of a number's shortest digits in use: plain with no superfluous zero (12.5, 12.0, 0.00000001)
# and with an exponent (1e-8, 1e-08, 1.5e+16). No two spellings of a number differ in one byte alone.
_PLAIN = re.compile(r"-?(?:0|[1-9][0-9]*)\.(?:0|[0-9]*[1-9])", re.ASCII)
_EXPONENT = re.compile(r"-?[1-9](?:\.[0-9]*[1-9])?e(?:[+-]0?)?[1-9][0-9]*", re.ASCII)


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

    Layouts: compact; ", " and ": "; indented by 2 or by 4. Strings either keep non-ASCII characters or escape
    them all. ValueError: what `loads_strict` refuses, a number not in its shortest digits, any other layout.
    """
    number_texts: list[str] = []

    def read_float(text: str) -> float:
        number_texts.append(text)
        return _shortest(text)

    decoder = json.JSONDecoder(
        object_pairs_hook=unique_object, parse_constant=refuse_constant, parse_float=read_float
    )
    value = decode_checked(data, decoder.decode)
    if _is_compact(value, data):
        return value
    text = data.decode("utf-8").removesuffix("\n")
    quotes = (encode_basestring,) if "\\u" not in text else (encode_basestring, encode_basestring_ascii)
    for layout in _LAYOUTS:
        for quote in quotes:
            if _render(value, layout, quote, iter(number_texts), 0) == text:
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
    number = float(text)
    shortest = float.__repr__(number)
    if text == shortest and number:
        return number
    if _PLAIN.fullmatch(text) is None and _EXPONENT.fullmatch(text) is None:
        raise ValueError(f"number {text[:40]} is not in its shortest form")
    # Equal as decimals, not only as doubles: 0.1000000000000000055 is the double 0.1 with a longer text.
    if not Decimal(shortest).is_finite() or Decimal(text) != Decimal(shortest) or text.startswith("-0.0"):
        raise ValueError(f"number {text[:40]} is not in its shortest form")
    return number


def _render(value: Any, layout: _Layout, quote: Any, numbers: Iterator[str], level: int) -> str:
    """What a JSON writer of this layout makes of a value; floats in the order read, in the text they had."""
    if isinstance(value, str):
        return str(quote(value))
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return next(numbers)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    if not value:
        return opening + closing
    if isinstance(value, dict):
        items = [
            f"{quote(name)}{layout.key_separator}{_render(item, layout, quote, numbers, level + 1)}"
            for name, item in value.items()
        ]
    else:
        items = [_render(item, layout, quote, numbers, level + 1) for item in value]
    if layout.indent is None:
        return opening + layout.item_separator.join(items) + closing
    inner = "\n" + " " * (layout.indent * (level + 1))
    outer = "\n" + " " * (layout.indent * level)
    return opening + inner + (layout.item_separator + inner).join(items) + outer + closing
