"""SQL written once as SQLAlchemy Core, compiled once per database, executed on the driver's own cursor.

Building and compiling a statement costs far more than running it, so the hot path does both only once:
`statement(...)` at import time, the compiled text kept per dialect. Columns of hot tables are integers and
text, which both drivers take and return as they are, so no type processing stands between either.
"""

import functools
import re
from collections import namedtuple
from collections.abc import Callable
from operator import itemgetter
from typing import Any

from sqlalchemy import bindparam, insert
from sqlalchemy.dialects.postgresql import psycopg as pg_dialect
from sqlalchemy.dialects.sqlite import pysqlite as sqlite_dialect
from sqlalchemy.sql.expression import ClauseElement, SelectBase

DIALECTS: dict[str, Any] = {
    # By position: sqlite3 looks names up one by one at each execution, which for wide rows costs as much as
    # the insert; and so do statements go to PostgreSQL itself.
    "sqlite": sqlite_dialect.dialect(paramstyle="qmark"),
    "postgresql": pg_dialect.dialect(paramstyle="numeric_dollar"),
}

SEVERAL = (16, 8, 4, 3, 2)  # how many rows an INSERT may have: what a statement costs is shared by as many
WIDE = 64  # the same on SQLite, whose statements open every index of the table anew
_PARAMETER = re.compile(r"\$([0-9]+)")

RowValues = tuple[Any, ...]
Build = Callable[[str], ClauseElement]


def exacting(sql: str) -> str | None:
    """A change (PostgreSQL's dialect) as one that fails unless it touches exactly one row.

    So that nobody has to look at its count before the statements after it are run, a COMMIT among them.
    None for what is not a plain INSERT, UPDATE or DELETE.
    """
    if sql.startswith("INSERT"):
        return sql.partition(" RETURNING ")[0].removesuffix(" ON CONFLICT DO NOTHING")
    if sql.startswith(("UPDATE", "DELETE")):
        changed = sql.partition(" RETURNING ")[0]
        return f"WITH touched AS ({changed} RETURNING 1) SELECT 1 / (count(*) = 1)::integer FROM touched"
    return None


def absent(sql: str) -> str:
    """A query (PostgreSQL's dialect) as one that fails where it finds something."""
    return f"SELECT 1 / (NOT EXISTS ({sql}))::integer"


@functools.cache  # a few lengths of each of the program's INSERTs
def several(insertion: str, count: int) -> str:
    """An INSERT of one row as one of `count` rows, in either dialect."""
    head, word, rest = insertion.partition(" VALUES ")
    row, closing, after = rest.partition(")")
    width = row.count("$")  # positions are numbered on PostgreSQL, and go on from row to row

    def numbered(start: int) -> str:
        return _PARAMETER.sub(lambda found: f"${int(found[1]) + start}", row) + closing

    return f"{head}{word}{', '.join(numbered(number * width) for number in range(count))}{after}"


class Compiled:
    """One statement's text for one dialect, with the values that were written into it."""

    __slots__ = ("_order", "constants", "exacting", "names", "row", "sql", "writes")

    def __init__(self, element: ClauseElement, dialect: str, row: Any = None) -> None:
        compiled: Any = element.compile(
            dialect=DIALECTS[dialect], compile_kwargs={"render_postcompile": True}
        )
        self.sql: str = str(compiled)
        self.writes = not isinstance(element, SelectBase)
        self.exacting = exacting(self.sql) if self.writes else None
        required = {name for bind, name in compiled.bind_names.items() if bind.required}
        self.constants: dict[str, Any] = {k: v for k, v in compiled.params.items() if k not in required}
        names: tuple[str, ...] = tuple(compiled.positiontup or ())
        self.names = names
        self._order: Callable[[dict[str, Any]], tuple[Any, ...]]
        if len(names) > 1:
            self._order = itemgetter(*names)
        else:
            self._order = lambda params: tuple(params[name] for name in names)
        self.row: Callable[[RowValues], Any] | None = None if row is None else row._make

    def parameters(self, params: dict[str, Any]) -> tuple[Any, ...]:
        """What the driver takes: values in their order."""
        if self.constants:
            params = {**self.constants, **params}
        return self._order(params)

    def shape(self, description: Any) -> Callable[[RowValues], Any]:
        """The named tuple of this statement's rows; made from the first cursor that ran it."""
        if self.row is None:
            names = [column[0] for column in description]
            row: Any = namedtuple("Row", names, rename=True)  # type: ignore[misc]
            self.row = row._make
        return self.row


class Statement:
    """A statement that compiles itself on first use, once per dialect."""

    __slots__ = ("_build", "_columns", "_compiled", "_row")

    def __init__(self, build: Build, row: Any = None, columns: tuple[str, ...] = ()) -> None:
        self._build = build
        self._row = row
        self._columns = columns  # of an insert: its values are given in this order
        self._compiled: dict[str, Compiled] = {}

    def on(self, dialect: str) -> Compiled:
        compiled = self._compiled.get(dialect)
        if compiled is None:
            compiled = Compiled(self._build(dialect), dialect, self._row)
            if self._columns and compiled.names != self._columns:
                raise RuntimeError(
                    f"the parameters of {compiled.sql} do not stand in the order of its columns"
                )
            self._compiled[dialect] = compiled
        return compiled


def statement(element: ClauseElement | Build, row: Any = None) -> Statement:
    """A reusable statement from a SQLAlchemy Core element, or from a function of the dialect's name.

    `row`: the NamedTuple class of its rows, fields in the order of the columns; made up where left out.
    """
    if isinstance(element, ClauseElement):
        return Statement(lambda _dialect: element, row)
    return Statement(element, row)


def insert_into(model: Any, *columns: str, on_conflict_ignore: bool = False) -> Statement:
    """`INSERT` with one named parameter per column (all columns of the model where none is named)."""
    names = columns or tuple(column.name for column in model.__table__.columns)

    def build(dialect: str) -> ClauseElement:
        if on_conflict_ignore:
            from sqlalchemy.dialects import postgresql, sqlite

            kind: Any = sqlite.insert if dialect == "sqlite" else postgresql.insert
            made: ClauseElement = (
                kind(model.__table__).values({n: bindparam(n) for n in names}).on_conflict_do_nothing()
            )
            return made
        return insert(model.__table__).values({n: bindparam(n) for n in names})

    return Statement(build, columns=names)


def compile_once(element: ClauseElement, dialect: str) -> Compiled:
    """For statements whose text depends on the request (filters): compiled at each call."""
    return Compiled(element, dialect)
