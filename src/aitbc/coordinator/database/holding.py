"""A transaction that holds back what nothing reads in the call, for PostgreSQL."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

from sqlalchemy.sql.expression import ClauseElement

from aitbc.coordinator.database.pipe import Conflict, Pipe
from aitbc.coordinator.database.statements import SEVERAL, Compiled, Statement, absent, several
from aitbc.coordinator.database.tx import Books, Done, Item, Tx
from aitbc.coordinator.errors import AitbcError

Row = tuple[Any, ...]


class HoldingTx(Tx):
    """Rows of `add`, `expect` and `tally` travel with the call's next read, the last of them with its COMMIT.

    Each of these statements fails unless it touches exactly one row, so a COMMIT behind them is safe. Where
    one fails, `Conflict` says so, and the call is run again with a plain `Tx`, whose statements answer at
    once. What reads sends first what was held back, so that it sees it; but in `each` and `together`, whose
    blocks promise that they do not care.
    """

    __slots__ = (
        "_asked",
        "_blocked",
        "_holds",
        "_in_each",
        "_pipe",
        "_rows_held",
        "_told",
        "_told_at",
        "assumed",
        "owner",
    )

    def __init__(
        self, pipe: Pipe, dialect: str, now_ms: int, owner: int = 0, books: Books | None = None
    ) -> None:
        super().__init__(pipe, dialect, now_ms, books)
        self._pipe = pipe
        self._holds = True
        self._blocked = False  # in a block whose reads do not send what is held back
        self._in_each = False
        self._asked: list[tuple[str, Row]] = []  # what will be asked soon (`ahead`)
        self._told: dict[tuple[str, Row], Any] = {}  # and its answers, as they were
        self._told_at = 0  # when this call had made so many changes
        self._rows_held: list[tuple[str, Row]] = []
        self.assumed = False  # whether the call went on by what `none` took for granted
        self.owner = owner  # the number of this call among those that share the transaction

    def add(self, statement: Statement, row: Row | None = None, /, **params: Any) -> int:
        compiled = statement.on(self.dialect)
        values = compiled.parameters(params) if row is None else row
        if not self._holds or compiled.exacting is None:
            self._before()
            return self._run(compiled, values)
        self._rows_held.append((compiled.exacting, values))
        self._changes += 1
        return 1

    @property
    def wrote(self) -> bool:
        """Also where something is yet to be asked, which the transaction's end does."""
        return self.assumed or super().wrote

    def none(self, statement: Statement, /, **params: Any) -> bool:
        if not self._holds:
            return super().none(statement, **params)
        compiled = statement.on(self.dialect)
        self._rows_held.append((absent(compiled.sql), compiled.parameters(params)))
        self.assumed = True
        return True

    def tally(self, statement: Statement, key: str, **units: int) -> int:
        if not self._holds or statement.on(self.dialect).exacting is None:
            return self.run(statement, key=key, **units)
        return self._sum(statement, key, units)

    def queue_held(self) -> None:
        """Puts what is held back where the next statement takes it along.

        Amounts come last: all jobs of an account move the same row, which is locked from then on.
        """
        self._queue_rows()
        self._rows_held.clear()
        for (statement, key), units in self._tallies.items():
            compiled = statement.on(self.dialect)
            assert compiled.exacting is not None
            self._pipe.later(compiled.exacting, compiled.parameters({"key": key, **units}), self.owner)
        self._tallies.clear()

    def _queue_rows(self) -> None:
        """New rows of one table in as few statements as can be, where the first of them stands.

        In `each` the changes of one statement after each other as well.
        """
        if len(self._rows_held) == 1:
            self._pipe.later(*self._rows_held[0], self.owner)
            return
        together: dict[tuple[str, int | None], list[Row]] = {}
        for place, (sql, values) in enumerate(self._rows_held):
            apart = None if self._in_each or sql.startswith("INSERT") else place
            together.setdefault((sql, apart), []).append(values)
        for (sql, _apart), rows in together.items():
            start = 0
            for count in SEVERAL if sql.startswith("INSERT") else ():
                while len(rows) - start >= count:
                    values = tuple(chain.from_iterable(rows[start : start + count]))
                    self._pipe.later(several(sql, count), values, self.owner)
                    start += count
            for values in rows[start:]:
                self._pipe.later(sql, values, self.owner)

    def flush(self) -> bool:
        """As `Tx.flush`, but that outside of `each` a conflict ends the call: it is run again."""
        self.queue_held()
        try:
            self._pipe.send()
        except Conflict as conflict:
            if not self._in_each or conflict.owner != self.owner:
                raise
            self._conflict = True
        return not self._conflict

    def ahead(self, statement: Statement, /, **params: Any) -> None:
        if self._holds and not self._blocked:
            compiled = statement.on(self.dialect)
            self._asked.append((compiled.sql, compiled.parameters(params)))

    def one(self, statement: Statement, /, **params: Any) -> Any:
        if self._asked or self._told:
            rows = self._rows(statement.on(self.dialect), params)
            return rows[0] if rows else None
        self._before()
        return super().one(statement, **params)

    def run(self, statement: Statement, /, **params: Any) -> int:
        self._before()
        return super().run(statement, **params)

    def many(self, statement: Statement, rows: list[dict[str, Any]]) -> int:
        self._before()
        return super().many(statement, rows)

    def change(self, element: ClauseElement) -> int:
        self._before()
        return super().change(element)

    def _rows(self, compiled: Compiled, params: dict[str, Any]) -> list[Any]:
        question = (compiled.sql, compiled.parameters(params))
        known = self._told.pop(question, None)
        if known is not None and self._told_at == self._changes:
            self._pipe.recall(known)
            return self._fetched(compiled)
        self._before()
        if not self._asked:
            return super()._rows(compiled, params)
        asked, self._asked = self._asked, []
        self._told_at = self._changes
        for sql, values in (question, *asked[:-1]):  # the others after it: it may be what locks their rows
            self._pipe.later(sql, values)
        self._cursor.execute(*asked[-1])
        answers = self._pipe.answers[-1 - len(asked) :]
        self._told = dict(zip(asked, answers[1:], strict=True))
        self._pipe.recall(answers[0])
        return self._fetched(compiled)

    def _before(self) -> None:
        if not self._blocked:
            self.queue_held()

    # --- blocks whose reads do not send what is held back ------------------------------------------------

    def each(
        self,
        items: Sequence[Item | AitbcError],
        act: Callable[[Item], Done],
        at_once: Callable[[Sequence[Item | AitbcError]], list[Done | AitbcError] | None] | None = None,
    ) -> list[Done | AitbcError]:
        if self._rows_held or self._tallies:  # a conflict of these is not one of the items
            self.flush()
        self._blocked = self._in_each = True
        try:
            return super().each(items, act, at_once)
        finally:
            self._blocked = self._in_each = False

    def _mark(self, sql: str) -> None:
        self._pipe.later(sql)

    def _let_go(self) -> None:
        super()._let_go()
        self._rows_held.clear()

    @contextmanager
    def together(self) -> Iterator[None]:
        if self._blocked:
            yield
            return
        self.queue_held()
        self._blocked = True
        try:
            yield
        finally:
            self._blocked = False

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Nothing is held back in it: what cannot be done fails in the block, which is undone with it."""
        self.queue_held()
        self._holds = False
        try:
            with super().savepoint():
                yield
        finally:
            self._holds = True
