"""The operator's audit: everything in the database recomputed, in one snapshot, page by page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sqlalchemy import text

from aitbc.audit.blocks import BlockRow, Chain, Sealed
from aitbc.audit.books import Books, Line
from aitbc.audit.findings import Progress, Report, Unwatched, Wrong
from aitbc.audit.jobs import check_jobs, check_settlement
from aitbc.audit.receipts import ReceiptCheck
from aitbc.audit.tree import Tree, name_of
from aitbc.core.keyset import USE_LOG, KeySet, PublishedKey
from aitbc.core.leaf import RECEIPT, TRANSFER, receipt_leaf, transfer_leaf
from aitbc.core.merkle import HASH_BYTES, leaf_hash
from aitbc.core.note import Verifier
from aitbc.core.signing import key_id, parse_vkey, public_from_text
from aitbc.core.tiles import WIDTH, Tile
from aitbc.database import Tx, statement

PAGE = 1024  # leaves, accounts and blocks read at once

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
STRAY_LEAF = statement(
    text(
        "SELECT leaf_index FROM leaves WHERE leaf_index < 0 OR leaf_index >= :size ORDER BY leaf_index LIMIT 1"
    )
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
BLOCKS = statement(
    text(
        f"SELECT {', '.join(BlockRow._fields)} FROM blocks WHERE height > :after ORDER BY height LIMIT :count"
    ),
    BlockRow,
)
LINES = statement(
    text(
        "SELECT height, witness, line FROM cosignatures WHERE height > :after AND height <= :last"
        " ORDER BY height, witness"
    )
)
STRAY_LINE = statement(
    text(
        "SELECT c.height, c.witness FROM cosignatures c WHERE c.height < 1 OR NOT EXISTS"
        " (SELECT 1 FROM blocks b WHERE b.height = c.height) ORDER BY c.height LIMIT 1"
    )
)
TILE = statement(text("SELECT hashes FROM tiles WHERE level = :level AND idx = :idx"))
TILES = statement(text("SELECT level, idx FROM tiles ORDER BY level, idx"))
ACCOUNTS = statement(
    text(
        "SELECT id, kind, balance_units, held_units FROM accounts WHERE id > :after ORDER BY id LIMIT :count"
    )
)
KEYS = statement(
    text("SELECT id, public_key, vkey, valid_from_ms, valid_to_ms FROM signing_keys ORDER BY id")
)
COUNTS = statement(
    text(
        "SELECT (SELECT COUNT(*) FROM leaves) AS leaves, (SELECT COUNT(*) FROM transfers) AS transfers,"
        " (SELECT COUNT(*) FROM receipts) AS receipts, (SELECT COUNT(*) FROM accounts) AS accounts,"
        " (SELECT COUNT(*) FROM tiles) AS tiles"
    )
)
UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a value of the wrong type or form leads to: SQLite stores any type in any column."""
ACCOUNT_KINDS = {"system:mint": "mint", "system:treasury": "treasury", "system:escrow": "escrow"}


def audit(
    tx: Tx, chain_id: str = "ait-devnet", witnesses: Iterable[Verifier] = (), progress: Progress | None = None
) -> Report:
    """Recomputes everything that the database says; the report names the first thing that is wrong.

    `witnesses`: verifier keys of the witnesses whose cosignatures are to be checked.
    """
    report = Report()
    try:
        Auditor(tx, chain_id, witnesses, progress or Unwatched(), report).run()
    except Wrong as wrong:
        report.wrong = wrong
    except UNREADABLE as error:
        report.wrong = Wrong(*report.at, f"it cannot be read: {error}")
    return report


class Page(NamedTuple):
    """Counts of what the database holds, taken once."""

    leaves: int
    transfers: int
    receipts: int
    accounts: int
    tiles: int


class Auditor:
    """One audit of one snapshot."""

    def __init__(
        self, tx: Tx, chain_id: str, witnesses: Iterable[Verifier], progress: Progress, report: Report
    ) -> None:
        self._tx = tx
        self._progress = progress
        self._report = report
        row = tx.one(COUNTS)
        self._held = Page(*(int(number or 0) for number in row))
        self._keys: dict[str, bytes] = {}
        published = list(self._read_keys())
        self._receipts = ReceiptCheck(KeySet(chain_id, published))
        self._chain = Chain(chain_id, self._keys, witnesses)
        self._books = Books()
        self._tree = Tree()
        self._seen = {TRANSFER: 0, RECEIPT: 0}
        self._tile: tuple[int, bytes] = (-1, b"")  # the stored tile of leaves at hand

    def run(self) -> None:
        """Raises Wrong."""
        report = self._report
        self._check_chain()
        report.checked.append("blocks, checkpoints, tiles and the leaves under them")
        self._check_rest()
        report.checked.append("transfers and receipts, each with its one leaf")
        self._check_accounts()
        report.checked.append("balances and holds")
        check_jobs(self._tx, report, self._progress)
        report.checked.append("jobs and payments")
        self._check_references()
        if self._receipts.unsigned_by_miner:
            report.not_checked.append(
                f"the miner's signature on {self._receipts.unsigned_by_miner} receipts: their miners have no key"
            )
        if self._chain.unknown_cosignatures:
            report.not_checked.append(
                f"{self._chain.unknown_cosignatures} cosignatures by witnesses whose keys are not known here"
            )

    def _read_keys(self) -> Iterator[PublishedKey]:
        for row in self._tx.all(KEYS):
            self._report.at = ("key", row.id)
            try:
                public = public_from_text(row.public_key)
                if key_id(public) != row.id:
                    raise Wrong("key", row.id, "its id is not that of its public key")
                if parse_vkey(row.vkey)[1] != public:
                    raise Wrong("key", row.id, "its verifier key is another key")
            except ValueError as error:
                raise Wrong("key", row.id, str(error)) from None
            self._keys[row.id] = public
            valid_to_ms = None if row.valid_to_ms is None else int(row.valid_to_ms)
            yield PublishedKey(public, int(row.valid_from_ms), valid_to_ms)
            yield PublishedKey(public, int(row.valid_from_ms), valid_to_ms, USE_LOG)

    # --- the chain ----------------------------------------------------------------------------------------

    def _check_chain(self) -> None:
        """Blocks in order, each over its leaves; then the tiles that are not whole."""
        self._progress.stage("chain", self._held.leaves)
        size = 0
        blocks = 0
        leaves = self._sealed_leaves()
        for row, lines in self._blocks():
            if row.height != blocks:
                raise Wrong("block", blocks, "it is missing")
            blocks += 1
            self._report.at = ("block", row.height)
            if row.height == 0:
                self._chain.first(row)
            else:
                self._chain.begin(row)
                self._chain.end(row, self._seal(row, leaves))
                size = row.tree_size
            for witness, line in lines:
                self._chain.cosigned(row, witness, line)
        self._report.counts |= {"blocks": blocks, "cosignatures": self._chain.cosignatures}
        for tile, data in self._tree.edge():
            self._check_tile(tile, data)
        self._check_strays(size)

    def _seal(self, row: BlockRow, leaves: Iterator[Any]) -> Sealed:
        """Takes the block's leaves."""
        counts = {TRANSFER: 0, RECEIPT: 0}
        while self._tree.size < row.tree_size:
            index = self._tree.size
            leaf = next(leaves, None)
            if leaf is None or leaf.leaf_index != index:
                raise Wrong(
                    "leaf", index, f"it is missing, and block {row.height} has a tree of {row.tree_size}"
                )
            hashed = self._check_leaf(leaf)
            counts[leaf.kind] += 1
            for tile, data in self._tree.append(hashed):
                self._check_tile(tile, data)
        self._report.at = ("block", row.height)
        return Sealed(counts[TRANSFER], counts[RECEIPT], self._tree.root())

    def _sealed_leaves(self) -> Iterator[Any]:
        first = 0
        while True:
            page = self._tx.all(SEALED, first=first, end=first + PAGE)
            if not page:
                return
            yield from page
            self._progress.step(len(page))
            first += PAGE

    def _blocks(self) -> Iterator[tuple[BlockRow, list[tuple[str, str]]]]:
        after = -1
        while True:
            page: list[BlockRow] = self._tx.all(BLOCKS, after=after, count=PAGE)
            if not page:
                return
            lines: dict[int, list[tuple[str, str]]] = {}
            for line in self._tx.all(LINES, after=after, last=page[-1].height):
                lines.setdefault(int(line.height), []).append((line.witness, line.line))
            for row in page:
                yield row, lines.get(row.height, [])
            after = page[-1].height

    def _check_tile(self, tile: Tile, data: bytes) -> None:
        row = self._tx.one(TILE, level=tile[0], idx=tile[1])
        if row is None:
            raise Wrong("tile", name_of(tile), "it is missing")
        if bytes(row.hashes) != data:
            raise Wrong("tile", name_of(tile), "its hashes are not those of the leaves under it")
        self._report.count("tiles")

    def _check_strays(self, size: int) -> None:
        """Nothing is stored that no block covers."""
        if self._held.tiles != self._tree.tiles():
            known = {tile for tile, _data in self._tree.edge()}
            for row in self._tx.all(TILES):
                tile = (int(row.level), int(row.idx))
                whole = 0 <= (tile[1] + 1) * WIDTH <= size >> (8 * min(max(tile[0], 0), 8))
                if tile not in known and (tile[0] < 0 or tile[1] < 0 or not whole):
                    raise Wrong("tile", f"{tile[0]}/{tile[1]}", "no tree of this size has it")
        stray = self._tx.one(STRAY_LEAF, size=size)
        if stray is not None:
            raise Wrong("leaf", stray.leaf_index, f"the last block has a tree of {size}")
        line = self._tx.one(STRAY_LINE)
        if line is not None:
            raise Wrong("cosignature", f"{line.height} {line.witness}", "there is no such block")

    # --- leaves -------------------------------------------------------------------------------------------

    def _check_leaf(self, row: Any) -> bytes:
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
        self._seen[row.kind] += 1
        if is_transfer:
            self._books.apply(Line(*row[6:14]))
            for ended in self._books.settled():
                check_settlement(self._tx, ended)
        else:
            self._check_receipt(row)
        return hashed

    def _name_changed(self, row: Any, which: Any, hashed: bytes, is_transfer: bool) -> None:
        """The row or its leaf was changed; the stored tile tells which. Raises Wrong."""
        if row.leaf_index is not None:
            number, place = divmod(int(row.leaf_index), WIDTH)
            tile = self._tx.one(TILE, level=0, idx=number)
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

    # --- what is not sealed, and what the leaves add up to ------------------------------------------------

    def _check_rest(self) -> None:
        """The leaves that wait; then that every transfer and receipt has had its leaf, once."""
        after = -1
        while True:
            page = self._tx.all(UNSEALED, after=after, count=PAGE)
            for row in page:
                self._check_leaf(row)
            self._progress.step(len(page))
            if len(page) < PAGE:
                break
            after = int(page[-1].seq)
        for ended in self._books.settled(all_of_them=True):
            check_settlement(self._tx, ended)
        self._report.counts |= {
            "leaves": self._held.leaves,
            "transfers": self._seen[TRANSFER],
            "receipts": self._seen[RECEIPT],
        }
        for kind, query in (("transfer", TRANSFER_WITHOUT_LEAF), ("receipt", RECEIPT_WITHOUT_LEAF)):
            row = self._tx.one(query)
            if row is not None:
                raise Wrong(kind, row.id, "it has no leaf")
        if self._seen != {TRANSFER: self._held.transfers, RECEIPT: self._held.receipts}:
            row = self._tx.one(LEAF_TWICE)
            raise Wrong("leaf", "of " + ("?" if row is None else row.id), "it stands in the log twice")

    def _check_accounts(self) -> None:
        self._progress.stage("accounts", self._held.accounts)
        books, after = self._books, ""
        books.close()
        while True:
            page = self._tx.all(ACCOUNTS, after=after, count=PAGE)
            for row in page:
                self._check_account(row, books.balances.pop(row.id, 0), books.held.pop(row.id, 0))
            self._progress.step(len(page))
            if len(page) < PAGE:
                break
            after = page[-1].id
        self._report.counts["accounts"] = self._held.accounts
        for account in (*books.balances, *books.held):
            raise Wrong("account", account, "transfers name it, and it does not exist")

    def _check_account(self, row: Any, balance: int, held: int) -> None:
        self._report.at = ("account", row.id)
        if row.kind != ACCOUNT_KINDS.get(row.id, "user"):
            raise Wrong("account", row.id, f"its kind is {row.kind}")
        if row.balance_units != balance:
            what = f"the balance is {row.balance_units} units, its transfers add up to {balance}"
            raise Wrong("account", row.id, what)
        if row.held_units != held:
            raise Wrong(
                "account", row.id, f"{row.held_units} units are held, its open holds add up to {held}"
            )

    def _check_references(self) -> None:
        """SQLite does not enforce foreign keys here (they cost a tenth of a job), so look at all of them."""
        if self._tx.dialect != "sqlite":
            return
        self._progress.stage("references", 0)
        row = self._tx.one(statement(text("PRAGMA foreign_key_check")))
        if row is not None:
            raise Wrong(row[0], "row " + str(row[1]), f"it points to a {row[2]} row that does not exist")
        self._report.checked.append("references between tables")
