"""Column kinds of our tables. Hot tables keep to integers and text, which need no conversion on either database."""

from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Integer, Table, Text, TextClause
from sqlalchemy import text as sql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ColumnElement
from sqlmodel import Field, SQLModel


def big(default: Any = ..., **kwargs: Any) -> Any:
    """64-bit integer: money in base units, times in ms, counters."""
    return Field(default=default, sa_type=BigInteger, **kwargs)


def small(default: Any = ..., **kwargs: Any) -> Any:
    """32-bit integer: flags (0 or 1), priorities, attempts."""
    return Field(default=default, sa_type=Integer, **kwargs)


def text(default: Any = ..., **kwargs: Any) -> Any:
    """Text of any length; limits are the API's."""
    return Field(default=default, sa_type=Text, **kwargs)


def table_of(model: type[SQLModel]) -> Table:
    """The table that a model declares: what statements of the hot path are written with."""
    return SQLModel.metadata.tables[str(model.__tablename__)]


def one_of(column: str, values: tuple[str, ...]) -> str:
    """A condition that the column holds one of `values`, as predicates of partial indexes have it.

    Written as a chain of OR: for `IN` SQLite builds a temporary index at every insert, which costs more than
    the insert itself.
    """
    return "(" + " OR ".join(f"{column} = '{value}'" for value in values) + ")"


def listed(name: str, column: str, values: tuple[str, ...], condition: str = "{}") -> CheckConstraint:
    """A CHECK that the column holds one of `values`; `condition` says more of that, which stands as {}."""
    return CheckConstraint(_Listed(column, values, condition), name=name)


class _Listed(ColumnElement[bool]):
    """PostgreSQL reads the text of its CHECKs anew at each statement, and that of a chain is four times as long."""

    inherit_cache = False

    def __init__(self, column: str, values: tuple[str, ...], condition: str) -> None:
        array = ",".join(value or '""' for value in values)
        self.chain = condition.format(one_of(column, values))
        self.array = condition.format(f"({column} = ANY ('{{{array}}}'::text[]))")


@compiles(_Listed)
def _chain(element: _Listed, _compiler: Any, **_options: Any) -> str:
    return element.chain


@compiles(_Listed, "postgresql")
def _array(element: _Listed, _compiler: Any, **_options: Any) -> str:
    return element.array


def among(dialect: str, column: str, parameter: str) -> TextClause:
    """A condition that the column is one of a list of texts, which the parameter gives as a JSON array.

    One statement, compiled once, for lists of any length.
    """
    if dialect == "sqlite":
        return sql(f"{column} IN (SELECT value FROM json_each(:{parameter}))")
    return sql(f"{column} = ANY(ARRAY(SELECT json_array_elements_text(CAST(:{parameter} AS json))))")
