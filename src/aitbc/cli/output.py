"""Printing. What comes from elsewhere (prompts, answers, names) can neither style nor steer the terminal.

Results go to stdout, notes and errors to stderr.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import sys
import unicodedata
from collections.abc import Mapping, Sequence
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

STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_STATES = {
    **dict.fromkeys(("completed", "done", "active", "released", "ok", "proven"), "green"),
    **dict.fromkeys(("failed", "cancelled", "WRONG", "revoked", "expired", "inactive", "refunded"), "red"),
    **dict.fromkeys(("pending", "queued", "draining", "escrowed", "unknown"), "yellow"),
    "running": "cyan",
}
MAX_PLAIN = 30  # digits before or behind the point that a number is still written out with


def clean(text: str, *, one_line: bool = False) -> str:
    """`text` without terminal escapes and control characters; `one_line`: line breaks become spaces."""
    text = _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n")))
    return re.sub(r"[\n\t\u2028\u2029]+", " ", text) if one_line else text


def say(text: str = "") -> None:
    """A line, or several, of the result."""
    _write(sys.stdout, clean(text))


def put(text: str) -> None:
    """A line of the result whose parts are clean already, and may be in colour."""
    _write(sys.stdout, text)


def note(text: str) -> None:
    """A remark on stderr: not part of the result."""
    _write(sys.stderr, paint(clean(text), "dim", sys.stderr))


def fail(text: str, *, plain: bool = False) -> None:
    """An error on stderr; `plain`: as it is, without the program's name."""
    if plain:
        _write(sys.stderr, text)
        return
    words = clean(text, one_line=True)
    code, colon, rest = words.partition(": ")
    if colon and code.isupper():
        words = f"{paint(code, 'red', sys.stderr)}: {rest}"
    _write(sys.stderr, f"aitbc: {words}")


def paint(text: str, style: str, stream: TextIO | None = None) -> str:
    """The text in colour where the stream (stdout) is a terminal that has any, as it is elsewhere.

    `style` is one of STYLES. NO_COLOR (no-color.org) and TERM=dumb switch colours off.
    """
    if not text or not coloured(stream or sys.stdout):
        return text
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m"


def coloured(stream: TextIO) -> bool:
    """Whether colours are wanted there."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


def print_json(value: Any) -> None:
    """A result as JSON, indented by 2 (a layout in which a receipt can be verified byte by byte)."""
    _write(sys.stdout, to_json(value))


def to_json(value: Any) -> str:
    """JSON text; control characters that JSON would allow are escaped too, so that a terminal is safe.

    Numbers are written as plain decimals, 0.00000175 and never 1.75e-06: not every reader takes exponents.
    """
    mark = secrets.token_hex(8)  # no text can hold it, so what it stands before is a number
    marked = _marked(value, mark)
    text = json.dumps(marked, indent=2, ensure_ascii=False, allow_nan=False, default=_json_default)
    text = re.sub(rf'"{mark}([-0-9.]+)"', r"\1", text)
    return _RAW_CONTROLS.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def _marked(value: Any, mark: str) -> Any:
    """The value with numbers that JSON would write with an exponent as marked texts of their plain form."""
    if isinstance(value, float | Decimal):
        exact = value if isinstance(value, Decimal) else Decimal(repr(value))
        if not exact.is_finite() or not -MAX_PLAIN < exact.adjusted() < MAX_PLAIN:
            return float(value)
        text = f"{exact:f}"
        return mark + (
            text.rstrip("0").rstrip(".") or "0" if isinstance(value, Decimal) and "." in text else text
        )
    if isinstance(value, Mapping):
        return {name: _marked(item, mark) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_marked(item, mark) for item in value]
    return value


def _json_default(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    raise TypeError(f"no JSON for {type(value).__name__}")


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Aligned columns; numbers to the right. Nothing is cut off, so that it can be read by programs too.

    On a terminal that is too narrow for it each row becomes a block of lines instead.
    """
    cells = [
        [clean("-" if cell is None or cell == "" else str(cell), one_line=True) for cell in row]
        for row in rows
    ]
    right = [
        bool(rows) and all(isinstance(row[i], int | float | Decimal | None) for row in rows)
        for i in range(len(headers))
    ]
    widths = [max(cell_len(line[i]) for line in [list(headers), *cells]) for i in range(len(headers))]
    if sum(widths) + 2 * (len(widths) - 1) > _columns():
        _blocks(headers, cells)
        return
    for number, line in enumerate([list(headers), *cells]):
        shown = []
        for cell, width, to_right in zip(line, widths, right, strict=True):
            space = " " * (width - cell_len(cell))
            painted = paint(cell, "bold") if number == 0 else state(cell)
            shown.append(space + painted if to_right else painted + space)
        put("  ".join(shown).rstrip())


def _blocks(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    width = max(cell_len(name) for name in headers)
    for number, row in enumerate(rows):
        if number:
            put("")
        for name, cell in zip(headers, row, strict=True):
            put(f"{paint(name, 'bold')}{' ' * (width - cell_len(name))}  {state(cell)}")


def _columns() -> int:
    """How wide the terminal is; without one, as wide as anything may get."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def cell_len(text: str) -> int:
    """How many columns the text takes on a terminal: two for a wide character, none for what joins another."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


def state(text: str) -> str:
    """A state by its first word in its colour: done, waiting, wrong; other texts as they are."""
    style = _STATES.get(text.partition(" ")[0].rstrip(":,"))
    return text if style is None else paint(text, style)


def pairs(items: Sequence[tuple[str, object]]) -> None:
    """Name and value, one per line; empty values are left out."""
    shown = [(name, value) for name, value in items if value is not None and value != ""]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        text = state(clean(str(value), one_line=True))
        put(f"{paint(name, 'dim')}{' ' * (width - len(name))}  {text}")


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
