"""A statement of account as CSV (RFC 4180): the same columns from the server and from the command line.

A spreadsheet takes a cell that begins with = + - or @ for a formula. Text that others chose (a model's name)
may begin so, and then gets an apostrophe in front; numbers are written as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

Cell = str | int | Decimal | None

COLUMNS = (
    "time",
    "kind",
    "role",
    "job_id",
    "model",
    "units",
    "unit_price",
    "price",
    "fee",
    "refunded",
    "amount",
    "counterparty",
    "reference",
    "transfer_id",
    "receipt_id",
)
_FORMULA = ("=", "+", "-", "@")
_CONTROL = ("\t", "\r", "\n")
_QUOTED = frozenset('",\r\n')


def csv_line(cells: Sequence[Cell]) -> str:
    """One line with its CRLF. Decimals are amounts: without exponent and without superfluous zeros."""
    return ",".join(map(_cell, cells)) + "\r\n"


def _cell(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, int):
        return str(value)
    if value.lstrip().startswith(_FORMULA) or value.startswith(_CONTROL):
        value = "'" + value
    if _QUOTED.isdisjoint(value):
        return value
    return '"' + value.replace('"', '""') + '"'
