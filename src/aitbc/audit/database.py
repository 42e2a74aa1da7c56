"""The operator's audit: everything in the database recomputed, in one snapshot, page by page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sqlalchemy import text

from aitbc.audit.blocks import BlockRow, Chain, Sealed
from aitbc.audit.derived import check_numbers
from aitbc.audit.findings import Progress, Report, Unwatched, Wrong
from aitbc.audit.jobs import check_jobs
from aitbc.audit.leaves import Leaves
from aitbc.audit.network import stored_network
from aitbc.audit.receipts import ReceiptCheck
from aitbc.audit.tree import Tree, name_of
from aitbc.audit.wallets import check_wallets
from aitbc.core.keyset import USE_LOG, KeySet, PublishedKey
from aitbc.core.leaf import RECEIPT, TRANSFER
from aitbc.core.note import Verifier
from aitbc.core.signing import key_id, parse_vkey, public_from_text
from aitbc.core.tiles import WIDTH, Tile
from aitbc.database import Tx, statement

PAGE = 1024  # accounts and blocks read at once

STRAY_LEAF = statement(
    text(
        "SELECT leaf_index FROM leaves WHERE leaf_index < 0 OR leaf_index >= :size ORDER BY leaf_index LIMIT 1"
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
NETWORK = statement(text("SELECT network_id, chain_id, origin, founding FROM network"))
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
        oldest = sorted(published, key=lambda key: (key.valid_from_ms or 0, key.key_id))
        report.at = ("network", chain_id)
        network = stored_network(tx.all(NETWORK), chain_id, [key.public_bytes for key in oldest])
        self._receipts = ReceiptCheck(KeySet(chain_id, published, network.origin, network.network_id))
        self._chain = Chain(network, self._keys, witnesses)
        self._leaves = Leaves(tx, self._receipts, report, progress)
        self._tree = Tree()

    def run(self) -> None:
        """Raises Wrong."""
        report = self._report
        self._check_chain()
        report.checked.append("blocks, checkpoints, tiles and the leaves under them")
        self._leaves.check_rest(self._held.transfers, self._held.receipts)
        report.checked.append("transfers and receipts, each with its one leaf")
        self._check_accounts()
        report.checked.append("balances and holds")
        check_jobs(self._tx, report, self._progress)
        report.checked.append("jobs and payments")
        check_wallets(self._tx, self._chain.chain_id, report, self._progress)
        report.checked.append("transfers that wallets signed")
        check_numbers(self._tx, self._leaves.activity, self._tree.size, report, self._progress)
        report.checked.append("the explorer's numbers")
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

    def _check_chain(self) -> None:
        """Blocks in order, each over its leaves; then the tiles that are not whole."""
        self._progress.stage("chain", self._held.leaves)
        size = 0
        blocks = 0
        leaves = self._leaves.sealed()
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
            hashed = self._leaves.check(leaf)
            counts[leaf.kind] += 1
            for tile, data in self._tree.append(hashed):
                self._check_tile(tile, data)
        self._report.at = ("block", row.height)
        return Sealed(counts[TRANSFER], counts[RECEIPT], self._tree.root())

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

    def _check_accounts(self) -> None:
        self._progress.stage("accounts", self._held.accounts)
        books, after = self._leaves.books, ""
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
        # All of them: a PRAGMA that was not read to its end would keep the connection from closing.
        for row in self._tx.all(statement(text("PRAGMA foreign_key_check"))):
            raise Wrong(row[0], "row " + str(row[1]), f"it points to a {row[2]} row that does not exist")
        self._report.checked.append("references between tables")
