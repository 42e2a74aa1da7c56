"""The operator's audit: everything in the database recomputed, in one snapshot, page by page."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sqlalchemy import text

from aitbc.audit.bitcoin import check_bitcoin
from aitbc.audit.blocks import BlockRow, Chain, Sealed
from aitbc.audit.derived import check_marks, check_numbers
from aitbc.audit.findings import Progress, Report, Unwatched, Wrong
from aitbc.audit.governance import check_governance
from aitbc.audit.jobs import check_jobs
from aitbc.audit.leaves import Leaves
from aitbc.audit.market import check_market
from aitbc.audit.network import stored_network
from aitbc.audit.pages import pages
from aitbc.audit.receipts import ReceiptCheck
from aitbc.audit.registers import Fee, Work, check_registers
from aitbc.audit.tree import Tree, name_of
from aitbc.audit.trust import Continuity, Trust
from aitbc.audit.wallets import check_wallets
from aitbc.coordinator.database import Tx, statement
from aitbc.core.log.keyset import KeySet, PublishedKey
from aitbc.core.log.leaf import KINDS
from aitbc.core.log.note import Verifier
from aitbc.core.log.tiles import WIDTH, Tile
from aitbc.core.signing import key_id, parse_vkey, public_from_text

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
        "SELECT (SELECT COUNT(*) FROM leaves) AS leaves, (SELECT COUNT(*) FROM accounts) AS accounts,"
        " (SELECT COUNT(*) FROM tiles) AS tiles"
    )
)
UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a value of the wrong type or form leads to: SQLite stores any type in any column."""
NOTHING = Trust()
COSIGNING_MS = 60_000
"""How long a block may wait for its witnesses before a policy's quorum is missed."""
ACCOUNT_KINDS = {"system:mint": "mint", "system:treasury": "treasury", "system:escrow": "escrow"}


def audit(
    tx: Tx,
    chain_id: str = "ait-devnet",
    witnesses: Iterable[Verifier] = (),
    progress: Progress | None = None,
    trust: Trust = NOTHING,
) -> Report:
    """Recomputes everything that the database says; the report names the first thing that is wrong.

    `witnesses`: verifier keys of the witnesses whose cosignatures are to be checked beside the policy's.
    """
    report = Report()
    try:
        Auditor(tx, chain_id, witnesses, progress or Unwatched(), report, trust).run()
    except Wrong as wrong:
        report.wrong = wrong
    except UNREADABLE as error:
        report.wrong = Wrong(*report.at, f"it cannot be read: {error}")
    except sqlite3.OperationalError as error:
        # Text that is none, in a column of any type. A lock or a disk that fails says nothing of the books.
        if not str(error).startswith("Could not decode to UTF-8"):
            raise
        report.wrong = Wrong(*report.at, "it cannot be read: a text is not UTF-8")
    return report


class Page(NamedTuple):
    """Counts of what the database holds, taken once."""

    leaves: int
    accounts: int
    tiles: int


class Auditor:
    """One audit of one snapshot."""

    def __init__(
        self,
        tx: Tx,
        chain_id: str,
        witnesses: Iterable[Verifier],
        progress: Progress,
        report: Report,
        trust: Trust,
    ) -> None:
        self._tx = tx
        self._progress = progress
        self._report = report
        self._trust = trust
        self._policy = trust.policy
        trust.check_chain(chain_id)
        row = tx.one(COUNTS)
        self._held = Page(*(int(number or 0) for number in row))
        listed = list(self._read_keys())
        allowed, signing = trust.receipt_keys, trust.log_keys
        oldest = sorted(listed, key=lambda key: (key.valid_from_ms or 0, key.key_id))
        report.at = ("network", chain_id)
        network = stored_network(tx.all(NETWORK), chain_id, [key.public_bytes for key in oldest])
        trust.check_network(network.origin, network.network_id)
        counting = [key for key in listed if allowed is None or key.public_bytes in allowed]
        self._receipts = ReceiptCheck(KeySet(chain_id, counting, network.origin, network.network_id))
        log_keys = {key.key_id: key for key in listed if signing is None or key.public_bytes in signing}
        counted = () if trust.policy is None else trust.policy.witnesses
        self._chain = Chain(network, log_keys, witnesses, counted)
        known = (key.public_bytes for key in log_keys.values()) if signing is None else signing
        self._continuity = Continuity(trust.kept, known)
        self._fee = Fee(tx, report)
        self._leaves = Leaves(tx, self._receipts, self._fee, report, progress)
        self._tree = Tree()

    def run(self) -> None:
        """Raises Wrong."""
        report = self._report
        self._check_chain()
        report.checked.append("blocks, checkpoints, tiles and the leaves under them")
        self._leaves.check_rest()
        report.checked.append("transfers and receipts, each with its one leaf")
        self._check_accounts()
        report.checked.append("balances and holds")
        work = Work(self._tx, self._leaves.books.open_holds)
        check_jobs(self._tx, work, self._fee, report, self._progress)
        report.checked.append("jobs and payments")
        check_market(self._tx, work, self._fee, report, self._progress)
        report.checked.append("GPUs, their bookings and their reviews")
        check_governance(self._tx, self._leaves.ballots, work, report, self._progress)
        report.checked.append("proposals, votes with their power, and what was decided")
        check_registers(self._tx, work, report, self._progress)
        report.checked.append("parameters, keys' limits, miners' work and deposits")
        self._leaves.bitcoin.close()
        check_bitcoin(self._tx, self._leaves.bitcoin, report, self._progress)
        report.checked.append("credits of bitcoin outputs, and top-ups")
        check_wallets(self._tx, self._chain.network, report, self._progress)
        report.checked.append("transfers that wallets signed")
        check_numbers(self._tx, self._leaves.activity, self._tree.size, report, self._progress)
        report.checked.append("the explorer's numbers")
        check_marks(self._tx, report, self._progress)
        report.checked.append("the sums that statements start from")
        self._check_references()
        if self._receipts.unsigned_by_miner:
            report.not_checked.append(
                f"the miner's signature on {self._receipts.unsigned_by_miner} receipts: their miners have no key"
            )
        self._say_what_was_trusted()
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
            self._trust.check_listed(row.id, public)
            valid_to_ms = None if row.valid_to_ms is None else int(row.valid_to_ms)
            key = PublishedKey(public, int(row.valid_from_ms), valid_to_ms)
            self._check_dates(key)
            yield key

    def _check_dates(self, key: PublishedKey) -> None:
        """As they were when the keys were saved; one may have been retired since. Raises Wrong."""
        saved = None if self._trust.keys is None else self._trust.keys.get(key.key_id)
        if saved is None:
            return
        if key.valid_from_ms != saved.valid_from_ms:
            raise Wrong("key", key.key_id, "it is valid from another time than in the keys that were given")
        if saved.valid_to_ms is not None and key.valid_to_ms != saved.valid_to_ms:
            raise Wrong("key", key.key_id, "it is valid to another time than in the keys that were given")

    def _say_what_was_trusted(self) -> None:
        report, trust = self._report, self._trust
        if trust.receipt_keys is None or trust.log_keys is None:
            report.not_checked.append(
                "whether the signing keys are the right ones: they are this database's own word"
                " (--policy or --keys says which you trust)"
            )
        if not trust.kept:
            report.not_checked.append(
                "whether the newest blocks were cut off, or all was signed anew: no checkpoint kept from before was"
                " given (--since)"
            )

    def _check_chain(self) -> None:
        """Blocks in order, each over its leaves; then the tiles that are not whole."""
        self._progress.stage("chain", self._held.leaves)
        size = 0
        blocks = 0
        quorum_at = due = (
            0  # the newest block with the policy's quorum; the newest that should have it by now
        )
        leaves = self._leaves.sealed()
        for row, lines in self._blocks():
            if row.height != blocks:
                raise Wrong("block", blocks, "it is missing")
            blocks += 1
            self._report.at = ("block", row.height)
            self._fee.sealed(row)
            if row.height == 0:
                self._chain.first(row)
            else:
                self._chain.begin(row)
                self._chain.end(row, self._seal(row, leaves))
                size = row.tree_size
            counted = sum(self._chain.cosigned(row, witness, line) for witness, line in lines)
            if self._policy is not None and counted >= self._policy.quorum:
                quorum_at = row.height
            if row.time_ms <= self._tx.now_ms - COSIGNING_MS:
                due = row.height
        self._check_quorum(quorum_at, due)
        self._continuity.close(size)
        self._report.checked += [f"that the log continues {source}" for source in self._continuity.continued]
        self._report.counts |= {"blocks": blocks, "cosignatures": self._chain.cosignatures}
        for tile, data in self._tree.edge():
            self._check_tile(tile, data)
        self._check_strays(size)

    def _check_quorum(self, quorum_at: int, due: int) -> None:
        """Only the newest block is brought to the witnesses, and their lines on it stand for all before it."""
        policy = self._policy
        if policy is None or policy.quorum == 0 or quorum_at >= due:
            return
        what = f"fewer than {policy.quorum} of the policy's {len(policy.witnesses)} witnesses cosigned it"
        raise Wrong("block", due, f"{what} or a block after it; the newest with that many is {quorum_at}")

    def _seal(self, row: BlockRow, leaves: Iterator[Any]) -> Sealed:
        """Takes the block's leaves."""
        contents: dict[str, int] = {}
        while self._tree.size < row.tree_size:
            index = self._tree.size
            leaf = next(leaves, None)
            if leaf is None or leaf.leaf_index != index:
                raise Wrong(
                    "leaf", index, f"it is missing, and block {row.height} has a tree of {row.tree_size}"
                )
            hashed = self._leaves.check(leaf)
            name = KINDS[leaf.kind].name
            contents[name] = contents.get(name, 0) + 1
            for tile, data in self._tree.append(hashed):
                self._check_tile(tile, data)
            if self._tree.size == self._continuity.next_size:
                self._continuity.compare(self._tree.root())
        self._report.at = ("block", row.height)
        return Sealed(contents, self._tree.root())

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
        books = self._leaves.books
        books.close()
        for page in pages(self._tx, ACCOUNTS, PAGE):
            for row in page:
                self._check_account(row, books.balances.pop(row.id, 0), books.held.pop(row.id, 0))
            self._progress.step(len(page))
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
