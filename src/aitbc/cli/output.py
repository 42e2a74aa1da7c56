"""Printing. What comes from elsewhere (prompts, answers, names) can neither style nor steer the terminal.

Results go to stdout, notes and errors to stderr.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, TextIO

# Whole escape sequences first (CSI, OSC and the like up to their end), so that no half of one is left as
# text.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x9b[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c|$)"
    r"|\x1b[ -/]*[0-~]"
)
# C0 but tab and line feed, DEL, C1, and the characters that reorder the text around them.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_RAW_CONTROLS = re.compile(r"[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]")


def clean(text: str, *, one_line: bool = False) -> str:
    """`text` without terminal escapes and control characters; `one_line`: line breaks become spaces."""
    text = _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n")))
    return re.sub(r"[\n\t\u2028\u2029]+", " ", text) if one_line else text


def say(text: str = "") -> None:
    """A line, or several, of the result."""
    _write(sys.stdout, clean(text))


def note(text: str) -> None:
    """A remark on stderr: not part of the result."""
    _write(sys.stderr, clean(text))


def fail(text: str, *, plain: bool = False) -> None:
    """An error on stderr; `plain`: as it is, without the program's name."""
    _write(sys.stderr, text if plain else f"aitbc: {clean(text, one_line=True)}")


def print_json(value: Any) -> None:
    """A result as JSON, indented by 2 (a layout in which a receipt can be verified byte by byte)."""
    _write(sys.stdout, to_json(value))


def to_json(value: Any) -> str:
    """JSON text; control characters that JSON would allow are escaped too, so that a terminal is safe."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=_json_default)
    return _RAW_CONTROLS.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def _json_default(value: object) -> object:
    if isinstance(value, Decimal):
        return float(value) if value % 1 else int(value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    raise TypeError(f"no JSON for {type(value).__name__}")


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Aligned columns; numbers to the right. Nothing is cut off, so that it can be read by programs too."""
    cells = [
        [clean("-" if cell is None or cell == "" else str(cell), one_line=True) for cell in row]
        for row in rows
    ]
    right = [
        bool(rows) and all(isinstance(row[i], int | float | Decimal | None) for row in rows)
        for i in range(len(headers))
    ]
    widths = [max(len(line[i]) for line in [list(headers), *cells]) for i in range(len(headers))]
    for line in [list(headers), *cells]:
        text = "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        )
        say(text.rstrip())


def pairs(items: Sequence[tuple[str, object]]) -> None:
    """Name and value, one per line; empty values are left out."""
    shown = [(name, value) for name, value in items if value is not None and value != ""]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        say(f"{name.ljust(width)}  {clean(str(value), one_line=True)}")


def ait(amount: Decimal | None) -> str | None:
    """An amount in AIT without an exponent: "12.5", "0.00000001"."""
    if amount is None:
        return None
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def moment(time: datetime | None) -> str | None:
    """A time to the second, in UTC."""
    return None if time is None else time.strftime("%Y-%m-%d %H:%M:%SZ")


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text + "\n")
    except UnicodeEncodeError:
        # A terminal or pipe that is not UTF-8, or a lone surrogate: say what can be said.
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()
