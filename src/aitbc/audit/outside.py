"""The outsider's audit: the log as it is served over HTTP, rebuilt from its entries. Trusts only keys.

Imports `core` and an HTTP client; knows nothing of the coordinator's code, and remembers nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from aitbc.audit.entries import Entries
from aitbc.audit.explorer import Headers, check_blocks
from aitbc.audit.findings import Progress, Report, Unwatched, Wrong
from aitbc.audit.http import Coordinator, NotServed, Unreachable
from aitbc.audit.receipts import ReceiptCheck
from aitbc.audit.tree import Tree, name_of
from aitbc.audit.trust import Continuity, Kept, Trust
from aitbc.core.canonical import loads_strict
from aitbc.core.log.checkpoint import Checkpoint, cosignature_time, parse_checkpoint
from aitbc.core.log.keyset import KeySet
from aitbc.core.log.merkle import leaf_hash
from aitbc.core.log.note import Note, NoteInvalid, Verifier, parse_note, verify_note
from aitbc.core.log.policy import Policy
from aitbc.core.log.tiles import ENTRIES, WIDTH, Tile, tile_path

MAX_ENTRY_BYTES = 65_535
MAX_BUNDLE_BYTES = WIDTH * (MAX_ENTRY_BYTES + 2)
MAX_TEXT_BYTES = 1_000_000


def audit_url(
    url: str,
    *,
    keys: KeySet | None = None,
    policy: Policy | None = None,
    kept: Iterable[Kept] = (),
    progress: Progress | None = None,
) -> Report:
    """Audits the log that the coordinator at `url` serves.

    Keys are the policy's, else `keys`, else those that the coordinator itself names, which proves only that it
    agrees with itself. `kept`: checkpoints from before, which the log has to continue. Raises Unreachable where
    it does not answer.
    """
    report = Report()
    trust = Trust(keys, policy, tuple(kept))
    with Coordinator(url) as coordinator:
        try:
            Outsider(coordinator, trust, progress or Unwatched(), report).run()
        except Wrong as wrong:
            report.wrong = wrong
        except NotServed as error:
            raise Unreachable(f"{url} is no coordinator: it serves no {error}") from error
    return report


class Outsider:
    """One audit of the log up to one checkpoint."""

    def __init__(
        self,
        coordinator: Coordinator,
        trust: Trust,
        progress: Progress,
        report: Report,
    ) -> None:
        self._coordinator = coordinator
        self._trust = trust
        self._policy = trust.policy
        self._progress = progress
        self._report = report
        self._keys = self._choose_keys()
        signing = trust.log_keys
        if signing is None:
            signing = frozenset(key.public_bytes for key in self._keys.log_keys)
        self._continuity = Continuity(trust.kept, signing)
        self._receipts = ReceiptCheck(self._keys)
        self._entries = Entries(self._receipts, report)
        self._tree = Tree()

    def run(self) -> None:
        """Raises Wrong."""
        report = self._report
        try:
            head = self._check_checkpoint()
        except NotServed:  # even an empty log has a checkpoint
            self._need_coordinator()
            self._continuity.close(0)
            raise
        if head.size == 0:
            self._continuity.close(0)
            report.not_checked.append("anything more: no block has been sealed yet")
            return
        headers = self._fetch_headers(head)
        if headers is not None:
            self._receipts.network_id = headers.network_id
        self._look_at_listed_keys()
        self._check_entries(head, headers)
        report.counts["leaves"] = head.size
        report.checked += [
            "the tree, its tiles and every entry",
            "receipts: signatures, prices, payments, fees",
        ]
        self._check_books()
        if report.counts.get("others"):
            report.not_checked.append(
                f"what {report.counts['others']} leaves of kinds do that are not known here"
            )
        if self._receipts.unsigned_by_miner:
            report.not_checked.append(
                f"the miner's signature on {self._receipts.unsigned_by_miner} receipts: their miners have no key"
            )

    def _choose_keys(self) -> KeySet:
        policy, keys = self._policy, self._trust.keys
        if policy is not None and policy.receipt_keys:
            chosen = policy.key_set()
        elif keys is not None:
            chosen = keys
        else:
            chosen = self._read_keys()
            self._report.not_checked.append(
                "whether the keys are the right ones: they came from the coordinator"
                " (--policy or --keys says which you trust)"
            )
        self._trust.check_chain(chosen.chain_id)
        return chosen

    def _look_at_listed_keys(self) -> None:
        """Nothing that a key signed counts unless it is pinned; that the coordinator names others is worth a word."""
        if self._trust.log_keys is None:
            return
        try:
            listed = {key.key_id: key.public_bytes for key in self._read_keys()}
        except NotServed:
            return
        for key_id, public in listed.items():
            try:
                self._trust.check_listed(key_id, public)
            except Wrong:
                self._report.not_checked.append(
                    f"key {key_id}, which the coordinator names: you do not trust it, and it signed nothing here"
                )

    def _read_keys(self) -> KeySet:
        """The keys that the coordinator names. Raises Wrong; NotServed where what answers is no coordinator."""
        document = self._need_coordinator()
        try:
            return KeySet.from_json(document)
        except ValueError as error:
            raise Wrong("keys", "/v1/keys", str(error)) from None

    def _need_coordinator(self) -> dict[str, Any]:
        """What it serves as its keys. A page, or another service's JSON, is no coordinator's: raises NotServed."""
        try:
            document = loads_strict(self._coordinator.get("/v1/keys", MAX_TEXT_BYTES))
        except ValueError:
            document = None
        if not isinstance(document, dict) or not {"chain_id", "keys"} <= document.keys():
            raise NotServed("keys at /v1/keys")
        return document

    # --- the checkpoint -----------------------------------------------------------------------------------

    def _check_checkpoint(self) -> Checkpoint:
        text = self._coordinator.get("/log/checkpoint", MAX_TEXT_BYTES).decode("utf-8", "replace")
        try:
            note = parse_note(text)
            head = parse_checkpoint(note.text)
            origin = self._keys.origin if self._policy is None else self._policy.origin
            if head.origin != origin:
                raise Wrong("checkpoint", head.size, f"it is of {head.origin}, not {origin}")
            if not verify_note(note, self._log_keys(origin)):
                raise Wrong("checkpoint", head.size, f"no known key of {origin} signed it")
            if head.size:  # an empty tree is brought to no witness
                self._check_witnesses(note, head)
        except NoteInvalid as error:
            self._need_coordinator()
            raise Wrong("checkpoint", "newest", str(error)) from None
        self._report.checked.append(f"the checkpoint of {head.size} leaves, signed by {origin}")
        return head

    def _log_keys(self, origin: str) -> tuple[Verifier, ...]:
        if self._policy is not None:
            return self._policy.log
        return tuple(Verifier(origin, key.public_bytes) for key in self._keys.log_keys)

    def _check_witnesses(self, note: Note, head: Checkpoint) -> None:
        policy = self._policy
        if policy is None:
            self._report.not_checked.append("the witnesses' cosignatures: no policy names the witnesses")
            return
        seen = [w.name for w in policy.witnesses if cosignature_time(note, w) is not None]
        if len(seen) < policy.quorum:
            what = f"{len(seen)} of the policy's {len(policy.witnesses)} witnesses cosigned it, not {policy.quorum}"
            raise Wrong("checkpoint", head.size, what)
        self._report.counts["cosignatures"] = len(seen)
        self._report.checked.append(f"{len(seen)} cosignatures by the policy's witnesses")

    # --- blocks -------------------------------------------------------------------------------------------

    def _fetch_headers(self, head: Checkpoint) -> Headers | None:
        """The blocks up to the checkpoint; None where the coordinator serves none."""
        log_keys = {key.key_id: key.public_bytes for key in self._keys.log_keys}
        if self._policy is not None:
            log_keys = {key.key_id: key.public_bytes for key in self._policy.key_set().log_keys}
        try:
            headers = check_blocks(
                self._coordinator, self._policy or self._keys, log_keys, head, self._progress
            )
        except NotServed:
            self._report.not_checked.append("blocks: this coordinator has no explorer")
            return None
        self._report.counts["blocks"] = headers.count
        self._report.checked.append("blocks: each one's hash, link and signature")
        return headers

    # --- entries ------------------------------------------------------------------------------------------

    def _check_entries(self, head: Checkpoint, headers: Headers | None) -> None:
        """Every entry, the tree over them, and every tile. Raises Wrong."""
        self._progress.stage("entries", head.size)
        for first in range(0, head.size, WIDTH):
            width = min(WIDTH, head.size - first)
            done: list[tuple[Tile, bytes]] = []
            for offset, data in enumerate(self._bundle(first // WIDTH, width)):
                self._entries.take(first + offset, data)
                done += self._tree.append(leaf_hash(data))
                if self._tree.size == self._continuity.next_size:
                    self._continuity.compare(self._tree.root())
                if headers is not None:
                    headers.compare(self._tree.size, self._tree.root, self._entries.seen)
            for tile, hashes in done:
                self._check_tile(tile, hashes, WIDTH)
            self._progress.step(width)
        for tile, hashes in self._tree.edge():
            self._check_tile(tile, hashes, len(hashes) // 32)
        if self._tree.root() != head.root:
            raise Wrong("checkpoint", head.size, "its root is not that of the entries")
        self._continuity.close(head.size)
        if self._trust.kept:
            self._report.checked += [f"that the log continues {name}" for name in self._continuity.continued]
        else:
            self._report.not_checked.append(
                "whether the log was cut, or signed anew: no checkpoint kept from before was given (--since)"
            )

    def _bundle(self, index: int, width: int) -> Iterator[bytes]:
        path = tile_path(ENTRIES, index, width)
        try:
            data = self._coordinator.get(f"/log/tile/{path}", MAX_BUNDLE_BYTES)
        except NotServed:
            raise Wrong("entries", path, "the coordinator does not serve them") from None
        at = 0
        for _ in range(width):
            length = int.from_bytes(data[at : at + 2], "big")
            at += 2 + length
            if at > len(data):
                raise Wrong("entries", path, f"there are fewer than {width}")
            yield data[at - length : at]
        if at != len(data):
            raise Wrong("entries", path, f"there are more than {width}")

    def _check_tile(self, tile: Tile, hashes: bytes, width: int) -> None:
        path = tile_path(*tile, width)
        try:
            served = self._coordinator.get(f"/log/tile/{path}", MAX_TEXT_BYTES)
        except NotServed:
            raise Wrong("tile", path, "the coordinator does not serve it") from None
        if served != hashes:
            raise Wrong("tile", name_of(tile), "its hashes are not those of the entries under it")
        self._report.count("tiles")

    # --- books --------------------------------------------------------------------------------------------

    def _check_books(self) -> None:
        self._progress.stage("books", 0)
        books, paid = self._entries.books, self._entries.paid
        self._entries.close()
        unrented = self._entries.unrented
        if unrented:
            self._report.not_checked.append(f"{unrented} payments for bookings that the log has not yet")
        accounts = len(books.balances.keys() | books.held.keys())
        self._report.counts |= {"accounts": accounts, "open_holds": len(books.open_holds)}
        self._report.checked.append("balances add up to zero, and none but the mint's is below")
        if paid.unpaid:
            self._report.not_checked.append(
                f"the payment of {paid.unpaid} receipts: released by hand, later or in part or not at all"
            )
        if paid.without_receipt:
            self._report.not_checked.append(
                f"{paid.without_receipt} payments without a receipt: what runs had cost when they were cancelled"
            )
        if self._receipts.of_version_1:
            self._report.not_checked.append(
                f"how {self._receipts.of_version_1} receipts of version 1 were to be paid: they do not say"
            )
        if self._receipts.unnamed:
            self._report.not_checked.append(
                f"of which network of this name {self._receipts.unnamed} receipts of versions 1 and 2 are:"
                " they do not say"
            )
