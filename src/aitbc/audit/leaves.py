"""Leaves one by one: each against the row that it is of, and what this does to the books."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import text

from aitbc.audit.ballots import Ballots
from aitbc.audit.books import Books
from aitbc.audit.credits import BitcoinBooks
from aitbc.audit.derived import Activity
from aitbc.audit.findings import Progress, Report, Wrong
from aitbc.audit.jobs import check_settlement
from aitbc.audit.leaf_kinds import KINDS, Auditing, Kind
from aitbc.audit.receipts import ReceiptCheck
from aitbc.audit.registers import Fee
from aitbc.audit.rented import Rented
from aitbc.coordinator.database import Tx, statement
from aitbc.core.log import leaf as leaves
from aitbc.core.log.merkle import HASH_BYTES, leaf_hash
from aitbc.core.log.tiles import WIDTH

PAGE = 1024  # leaves read at once

_OWN = ("leaf_index", "seq", "kind", "ref_id", "hash", "hash_head")
_COLUMNS = [f"l.{name}" for name in _OWN] + [
    f"{kind.table}.{name} AS {kind.noun}_{name}" for kind in KINDS for name in kind.columns
]
_LEAF_ROWS = f"SELECT {', '.join(_COLUMNS)} FROM leaves l" + "".join(
    f" LEFT JOIN {kind.table} ON {kind.ref} = l.ref_id AND l.kind = {kind.number}" for kind in KINDS
)
SEALED = statement(
    text(f"{_LEAF_ROWS} WHERE l.leaf_index >= :first AND l.leaf_index < :end ORDER BY l.leaf_index")
)
UNSEALED = statement(
    text(f"{_LEAF_ROWS} WHERE l.leaf_index IS NULL AND l.seq > :after ORDER BY l.seq LIMIT :count")
)
LEAF_TWICE = statement(
    text("SELECT ref_id AS id FROM leaves GROUP BY ref_id HAVING COUNT(*) > 1 ORDER BY ref_id LIMIT 1")
)
ROWS = {
    kind: statement(text(f"SELECT COUNT(*) AS count FROM {kind.table} WHERE {kind.logged}")) for kind in KINDS
}
WITHOUT_LEAF = {
    kind: statement(
        text(
            f"SELECT {kind.ref} AS id FROM {kind.table} WHERE NOT EXISTS (SELECT 1 FROM leaves l"
            f" WHERE l.ref_id = {kind.ref} AND l.kind = {kind.number}) AND {kind.logged} ORDER BY 1 LIMIT 1"
        )
    )
    for kind in KINDS
}
TILE = statement(text("SELECT hashes FROM tiles WHERE level = 0 AND idx = :idx"))


class Leaves:
    """Takes the leaves in the order of the log.

    `books`, `bitcoin`, `activity`, `ballots` and `seen` (leaves by kind) are what they add up to.
    """

    def __init__(self, tx: Tx, receipts: ReceiptCheck, fee: Fee, report: Report, progress: Progress) -> None:
        self.books = Books()
        self.bitcoin = BitcoinBooks()
        self.activity = Activity(tx)
        self.seen = {kind.number: 0 for kind in KINDS}
        self._tx = tx
        self._report = report
        self._progress = progress
        self._rented = Rented()
        self.ballots = Ballots()
        auditing = Auditing(
            self.books, self.activity, receipts, fee, self._rented, self.bitcoin, self.ballots
        )
        self._kinds: dict[int, tuple[Kind, slice]] = {}
        at = len(_OWN)
        for kind in KINDS:
            self._kinds[kind.number] = (kind(auditing), slice(at, at + len(kind.columns)))
            at += len(kind.columns)

    def sealed(self) -> Iterator[Any]:
        """The rows of the leaves that have a place, in its order."""
        first = 0
        while True:
            page = self._tx.all(SEALED, first=first, end=first + PAGE)
            if not page:
                return
            yield from page
            self._progress.step(len(page))
            first += PAGE

    def check(self, row: Any) -> bytes:
        """A leaf, the row that it is of, and what this does to the books. Returns its hash."""
        which = f"of seq {row.seq}" if row.leaf_index is None else row.leaf_index
        self._report.at = ("leaf", which)
        if row.kind not in self._kinds:
            raise Wrong("leaf", which, f"its kind is {row.kind}")
        kind, columns = self._kinds[row.kind]
        values = tuple(row)[columns]
        if values[0] is None:
            raise Wrong("leaf", which, f"there is no {kind.noun} {row.ref_id}")
        try:
            data = kind.encode(values)
        except (TypeError, ValueError) as error:
            raise Wrong("leaf", which, f"its bytes cannot be made: {error}") from None
        hashed = leaf_hash(data)
        if hashed != bytes(row.hash):
            self._name_changed(row, which, hashed, kind.noun)
        if row.hash_head != int.from_bytes(hashed[:8], "big", signed=True):
            raise Wrong("leaf", which, "its hash_head is not the beginning of its hash")
        self.seen[row.kind] += 1
        kind.take(values, row.leaf_index)
        self._settled()
        return hashed

    def _settled(self, *, all_of_them: bool = False) -> None:
        """What was paid, held to what it was for."""
        for ended in self.books.settled(all_of_them=all_of_them):
            if not self._rented.settled(ended):
                check_settlement(self._tx, ended)

    def _name_changed(self, row: Any, which: Any, hashed: bytes, noun: str) -> None:
        """The row or its leaf was changed; the stored tile tells which. Raises Wrong."""
        if row.leaf_index is not None:
            number, place = divmod(int(row.leaf_index), WIDTH)
            tile = self._tx.one(TILE, idx=number)
            stored = (
                b"" if tile is None else bytes(tile.hashes)[place * HASH_BYTES : (place + 1) * HASH_BYTES]
            )
            if stored == hashed:
                raise Wrong("leaf", which, f"its hash is not that of {row.ref_id}, which the tree has")
        raise Wrong(noun, row.ref_id, f"it does not hash to its leaf ({which}): it was changed")

    def check_rest(self) -> None:
        """The leaves that wait; then that everything that leaves are of has had its leaf, once."""
        after = -1
        while True:
            page = self._tx.all(UNSEALED, after=after, count=PAGE)
            for row in page:
                self.check(row)
            self._progress.step(len(page))
            if len(page) < PAGE:
                break
            after = int(page[-1].seq)
        self._settled(all_of_them=True)
        self._rented.close(whole=True)
        self._report.counts["leaves"] = sum(self.seen.values())
        self._report.counts |= {leaves.KINDS[number].name: seen for number, seen in self.seen.items()}
        for kind in KINDS:
            row = self._tx.one(WITHOUT_LEAF[kind])
            if row is not None:
                raise Wrong(kind.noun, row.id, "it has no leaf")
        if any(self.seen[kind.number] != self._tx.one(ROWS[kind]).count for kind in KINDS):
            row = self._tx.one(LEAF_TWICE)
            raise Wrong("leaf", "of " + ("?" if row is None else row.id), "it stands in the log twice")
