"""Column kinds of our tables. Hot tables keep to integers and text, which need no conversion on either database."""

from typing import Any

from sqlalchemy import BigInteger, Integer, Text, TextClause
from sqlalchemy import text as sql
from sqlmodel import Field


def big(default: Any = ..., **kwargs: Any) -> Any:
    """64-bit integer: money in base units, times in ms, counters."""
    return Field(default=default, sa_type=BigInteger, **kwargs)


def small(default: Any = ..., **kwargs: Any) -> Any:
    """32-bit integer: flags (0 or 1), priorities, attempts."""
    return Field(default=default, sa_type=Integer, **kwargs)


def text(default: Any = ..., **kwargs: Any) -> Any:
    """Text of any length; limits are the API's."""
    return Field(default=default, sa_type=Text, **kwargs)


def one_of(column: str, values: tuple[str, ...]) -> str:
    """A CHECK that the column holds one of `values`.

    Written as a chain of OR: for `IN` SQLite builds a temporary index at every insert, which costs more than
    the insert itself.
    """
    return "(" + " OR ".join(f"{column} = '{value}'" for value in values) + ")"


def among(dialect: str, column: str, parameter: str) -> TextClause:
    """A condition that the column is one of a list of texts, which the parameter gives as a JSON array.

    One statement, compiled once, for lists of any length.
    """
    if dialect == "sqlite":
        return sql(f"{column} IN (SELECT value FROM json_each(:{parameter}))")
    return sql(f"{column} = ANY(ARRAY(SELECT json_array_elements_text(CAST(:{parameter} AS json))))")
