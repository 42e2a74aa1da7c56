"""Leaves one by one: each against the transfer or receipt that it is of, and what this does to the books."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import text

from aitbc.audit.books import Books, Line
from aitbc.audit.derived import Activity
from aitbc.audit.findings import Progress, Report, Wrong
from aitbc.audit.jobs import check_settlement
from aitbc.audit.receipts import ReceiptCheck
from aitbc.audit.registers import Fee
from aitbc.coordinator.database import Tx, statement
from aitbc.core.log.leaf import RECEIPT, TRANSFER, receipt_leaf, transfer_leaf
from aitbc.core.log.merkle import HASH_BYTES, leaf_hash
from aitbc.core.log.tiles import WIDTH

PAGE = 1024  # leaves read at once

_LEAF_ROWS = """
SELECT l.leaf_index, l.seq, l.kind, l.ref_id, l.hash, l.hash_head,
       t.id AS transfer, t.kind AS what, t.debit_id, t.credit_id, t.amount_units, t.hold_id, t.ref, t.created_at_ms,
       r.id AS receipt, r.job_id, r.client_id, r.provider_id, r.miner_id, r.model, r.units, r.price_units,
       r.created_at_ms AS issued_at_ms, r.body, r.key_id, r.signature
FROM leaves l
LEFT JOIN transfers t ON t.id = l.ref_id AND l.kind = 0
LEFT JOIN receipts r ON r.id = l.ref_id AND l.kind = 1
"""
SEALED = statement(
    text(f"{_LEAF_ROWS} WHERE l.leaf_index >= :first AND l.leaf_index < :end ORDER BY l.leaf_index")
)
UNSEALED = statement(
    text(f"{_LEAF_ROWS} WHERE l.leaf_index IS NULL AND l.seq > :after ORDER BY l.seq LIMIT :count")
)
LEAF_TWICE = statement(
    text("SELECT ref_id AS id FROM leaves GROUP BY ref_id HAVING COUNT(*) > 1 ORDER BY ref_id LIMIT 1")
)
TRANSFER_WITHOUT_LEAF = statement(
    text(
        "SELECT t.id FROM transfers t WHERE NOT EXISTS"
        " (SELECT 1 FROM leaves l WHERE l.ref_id = t.id AND l.kind = 0) ORDER BY t.id LIMIT 1"
    )
)
RECEIPT_WITHOUT_LEAF = statement(
    text(
        "SELECT r.id FROM receipts r WHERE NOT EXISTS"
        " (SELECT 1 FROM leaves l WHERE l.ref_id = r.id AND l.kind = 1) ORDER BY r.id LIMIT 1"
    )
)
TILE = statement(text("SELECT hashes FROM tiles WHERE level = 0 AND idx = :idx"))


class Leaves:
    """Takes the leaves in the order of the log.

    `books`, `activity` and `seen` (leaves by kind) are what they add up to.
    """

    def __init__(self, tx: Tx, receipts: ReceiptCheck, fee: Fee, report: Report, progress: Progress) -> None:
        self.books = Books()
        self.activity = Activity(tx)
        self.seen = {TRANSFER: 0, RECEIPT: 0}
        self._tx = tx
        self._receipts = receipts
        self._fee = fee
        self._report = report
        self._progress = progress

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
        if row.kind not in (TRANSFER, RECEIPT):
            raise Wrong("leaf", which, f"its kind is {row.kind}")
        is_transfer = row.kind == TRANSFER
        if (row.transfer if is_transfer else row.receipt) is None:
            raise Wrong("leaf", which, f"there is no {'transfer' if is_transfer else 'receipt'} {row.ref_id}")
        try:
            data = transfer_leaf(*row[6:14]) if is_transfer else receipt_leaf(*row[23:26])
        except (TypeError, ValueError) as error:
            raise Wrong("leaf", which, f"its bytes cannot be made: {error}") from None
        hashed = leaf_hash(data)
        if hashed != bytes(row.hash):
            self._name_changed(row, which, hashed, is_transfer)
        if row.hash_head != int.from_bytes(hashed[:8], "big", signed=True):
            raise Wrong("leaf", which, "its hash_head is not the beginning of its hash")
        self.seen[row.kind] += 1
        if is_transfer:
            line = Line(*row[6:14])
            self.books.apply(line)
            if row.leaf_index is not None:
                self.activity.add(row.leaf_index, line.debit, line.credit)
            for ended in self.books.settled():
                check_settlement(self._tx, ended)
        else:
            self._check_receipt(row)
        return hashed

    def _name_changed(self, row: Any, which: Any, hashed: bytes, is_transfer: bool) -> None:
        """The row or its leaf was changed; the stored tile tells which. Raises Wrong."""
        if row.leaf_index is not None:
            number, place = divmod(int(row.leaf_index), WIDTH)
            tile = self._tx.one(TILE, idx=number)
            stored = (
                b"" if tile is None else bytes(tile.hashes)[place * HASH_BYTES : (place + 1) * HASH_BYTES]
            )
            if stored == hashed:
                raise Wrong("leaf", which, f"its hash is not that of {row.ref_id}, which the tree has")
        kind = "transfer" if is_transfer else "receipt"
        raise Wrong(kind, row.ref_id, f"it does not hash to its leaf ({which}): it was changed")

    def _check_receipt(self, row: Any) -> None:
        fields = self._receipts.check(row.receipt, row.body, row.key_id, row.signature)
        stored = (
            row.job_id,
            row.client_id,
            row.provider_id,
            row.miner_id,
            row.model,
            row.units,
            row.price_units,
        )
        stated = (
            fields.job_id,
            fields.client,
            fields.provider,
            fields.miner_id,
            fields.model,
            fields.units,
            fields.price_units,
        )
        if stored != stated or row.issued_at_ms // 1000 != fields.completed_at:
            raise Wrong("receipt", row.receipt, "its columns differ from what was signed")
        self._fee.check(row.receipt, fields.started_at, fields.price_units, fields.fee_units)

    def check_rest(self, transfers: int, receipts: int) -> None:
        """The leaves that wait; then that every transfer and receipt (of so many) has had its leaf, once."""
        after = -1
        while True:
            page = self._tx.all(UNSEALED, after=after, count=PAGE)
            for row in page:
                self.check(row)
            self._progress.step(len(page))
            if len(page) < PAGE:
                break
            after = int(page[-1].seq)
        for ended in self.books.settled(all_of_them=True):
            check_settlement(self._tx, ended)
        self._report.counts |= {
            "leaves": self.seen[TRANSFER] + self.seen[RECEIPT],
            "transfers": self.seen[TRANSFER],
            "receipts": self.seen[RECEIPT],
        }
        for kind, query in (("transfer", TRANSFER_WITHOUT_LEAF), ("receipt", RECEIPT_WITHOUT_LEAF)):
            row = self._tx.one(query)
            if row is not None:
                raise Wrong(kind, row.id, "it has no leaf")
        if self.seen != {TRANSFER: transfers, RECEIPT: receipts}:
            row = self._tx.one(LEAF_TWICE)
            raise Wrong("leaf", "of " + ("?" if row is None else row.id), "it stands in the log twice")
