"""`aitbc statement`: what moved the account's balance."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from aitbc.cli.failures import usage_error
from aitbc.cli.output import ait, clean, moment, note, pairs, print_json, say, table
from aitbc.cli.profile import JsonOption, KeyOption, UrlOption, connect
from aitbc.core.statement_csv import COLUMNS, csv_line
from aitbc.sdk import Client, Movement, Statement
from aitbc.sdk.fields import plain

MAX_ROWS = 100_000
"""The most movements that are held in memory, for --json and the table; --csv has no bound."""


def statement(
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="With this moment: RFC 3339, or a date in UTC."),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Without this moment; until now if left out.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, as it comes.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Show every movement of the account's balance, spent and earned, oldest first, with the totals."""
    if as_csv and as_json:
        raise usage_error("--csv and --json exclude each other")
    with connect(url, key) as client:
        pages = _pages(client, start, end)
        if as_csv:
            _print_csv(pages)
            return
        first = next(pages)
        rows = list(first.rows)
        for page in pages:
            rows += page.rows
            if len(rows) > MAX_ROWS:
                raise usage_error(f"more than {MAX_ROWS} movements", "Take --csv, or a shorter time.")
    if as_json:
        whole = {**first.raw, "rows": [row.raw for row in rows]}
        del whole["next_cursor"]
        print_json(plain(whole))
    else:
        _show(first, rows)


def _pages(client: Client, start: str | None, end: str | None) -> Iterator[Statement]:
    page = client.statement(start, end)
    yield page
    while page.next_cursor is not None:
        page = client.statement(start, end, cursor=page.next_cursor)
        yield page


def _print_csv(pages: Iterator[Statement]) -> None:
    """All pages as one file: CRLF lines, UTF-8 whatever the terminal is, control characters left out."""
    for number, page in enumerate(pages):
        if (
            number == 0
        ):  # not before there is an answer: a header alone looks like an account without movements
            _write_raw(csv_line(COLUMNS))
        _write_raw("".join(csv_line([_cell(row, name) for name in COLUMNS]) for row in page.rows))
    sys.stdout.flush()


def _write_raw(text: str) -> None:
    sys.stdout.buffer.write(text.encode())


def _cell(row: Movement, name: str) -> Any:
    if name == "time":
        return str(row.raw["time"])
    value = getattr(row, name)
    return clean(value, one_line=True) if isinstance(value, str) else value


def _show(first: Statement, rows: list[Movement]) -> None:
    if rows:
        shown = [
            (
                moment(row.time),
                row.kind,
                row.role,
                ait(row.amount),
                row.units,
                ait(row.price),
                ait(row.fee),
                row.counterparty,
                row.job_id,
            )
            for row in rows
        ]
        table(("TIME", "KIND", "AS", "AIT", "TOKENS", "PRICE", "FEE", "WITH", "JOB"), shown)
        say()
    else:
        note("no movements")
    pairs(
        [
            ("account", first.account),
            ("from", moment(first.start)),
            ("to", moment(first.end)),
            ("opening, AIT", ait(first.opening_balance)),
            ("in", ait(first.total_in)),
            ("out", ait(first.total_out)),
            ("closing, AIT", ait(first.closing_balance)),
        ]
    )
