"""CSV that any reader reads back and no spreadsheet runs."""

import csv
import io
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.core.statement_csv import COLUMNS, csv_line

TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"))


@given(st.lists(TEXT, min_size=2, max_size=5))
def test_text_comes_back_and_is_no_formula(cells: list[str]) -> None:
    (read,) = csv.reader(io.StringIO(csv_line(cells), newline=""))
    for cell, before in zip(read, cells, strict=True):
        assert cell in (before, "'" + before)
        assert not cell.lstrip().startswith(("=", "+", "-", "@"))
        assert not cell.startswith(("\t", "\r", "\n"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (-7, "-7"),
        (Decimal("-0.00000001"), "-0.00000001"),
        (Decimal("1E-8"), "0.00000001"),
        (Decimal("1E+3"), "1000"),
        (Decimal("12.50"), "12.5"),
        ("=1+1", "'=1+1"),
        (" @sum", "' @sum"),
        ('a "b", c', '"a ""b"", c"'),
    ],
)
def test_cells(value: str | int | Decimal | None, text: str) -> None:
    assert csv_line([value]) == text + "\r\n"


def test_the_columns_are_named() -> None:
    assert csv_line(COLUMNS).startswith("time,kind,role,job_id,")
