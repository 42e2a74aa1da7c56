"""Tables too large to be read at once, gone through in the order of their ids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aitbc.coordinator.database import Statement, Tx


def pages(tx: Tx, query: Statement, count: int) -> Iterator[list[Any]]:
    """The rows of `query`, `count` at a time, each page when it is asked for; none is empty.

    The query gives an `id`, and takes the last one as `after` and how many as `count`.
    """
    after = ""
    while page := tx.all(query, after=after, count=count):
        yield page
        if len(page) < count:
            return
        after = page[-1].id


def rows(tx: Tx, query: Statement, count: int) -> Iterator[Any]:
    """The same, row by row."""
    for page in pages(tx, query, count):
        yield from page
