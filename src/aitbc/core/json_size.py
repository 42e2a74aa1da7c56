"""How many values a JSON text has, told before it is parsed: a byte of text may become a hundred of memory."""

from __future__ import annotations

import re

# A string, or one that never ends: were that no match, each quote in it would be tried, in quadratic time.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
QUOTES_PER_VALUE = 4  # a name and a text


def refuse_too_many_values(data: bytes, most: int) -> None:
    """ValueError: the text has more than `most` values (list items, members, lists and objects)."""
    # Each value but the first has a comma or a bracket before it, and something of its own.
    if len(data) < 2 * most or _separators(data) <= most:
        return
    # Those in texts do not count. Where nothing is escaped, every other piece between quotes is a text.
    if data.count(b'"') - data.count(b'\\"') > QUOTES_PER_VALUE * most:
        raise ValueError(f"more than {most} values")
    outside = _STRING.sub(b"", data) if b"\\" in data else b"".join(data.split(b'"')[::2])
    if _separators(outside) > most:
        raise ValueError(f"more than {most} values")


def _separators(data: bytes) -> int:
    return data.count(b",") + data.count(b"[") + data.count(b"{")
