"""Blocks and checkpoints, each recomputed from its own words and from the leaves that it seals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aitbc.audit.findings import Wrong
from aitbc.audit.network import Network
from aitbc.core.canonical import encode
from aitbc.core.log.block import BlockHeader, stored_counts
from aitbc.core.log.checkpoint import Checkpoint, cosignature_time
from aitbc.core.log.keyset import PublishedKey
from aitbc.core.log.note import Note, NoteInvalid, Verifier, parse_note, parse_signature_line, verify_note
from aitbc.core.receipt.proof import VALIDITY_TOLERANCE_MS


class BlockRow(NamedTuple):
    """A block as it is stored."""

    height: int
    hash: str
    previous_hash: str
    time_ms: int
    first_leaf: int
    tree_size: int
    root: str
    transactions: int
    receipts: int
    total_transactions: int
    total_receipts: int
    proposer: str
    signature: str
    checkpoint: str
    contents: str

    def header(self, chain_id: str) -> BlockHeader:
        """Raises Wrong where its contents cannot be read."""
        try:
            counts = stored_counts(self.transactions, self.receipts, self.contents)
        except (TypeError, ValueError) as error:
            raise Wrong("block", self.height, f"its contents: {error}") from None
        header = BlockHeader(
            chain_id,
            self.height,
            self.previous_hash,
            self.time_ms,
            self.first_leaf,
            self.tree_size,
            self.root,
            proposer=self.proposer,
            **counts,
        )
        if self.contents and encode(header.contents).decode() != self.contents:
            raise Wrong("block", self.height, "its contents are not in canonical form")
        return header


class Sealed(NamedTuple):
    """What the leaves of a block come to: how many of which kind, and the root after them."""

    contents: Mapping[str, int]
    root: bytes


def _listed(contents: Mapping[str, int]) -> str:
    return " and ".join(f"{count} {name}" for name, count in contents.items())


class Chain:
    """Checks block after block. `keys` are the keys that may sign them, by key id, with when each may; `witnesses`
    those whose lines can be checked, and `counted` those of them that count for a policy's quorum."""

    def __init__(
        self,
        network: Network,
        keys: Mapping[str, PublishedKey],
        witnesses: Iterable[Verifier] = (),
        counted: Iterable[Verifier] = (),
    ) -> None:
        self.chain_id = network.chain_id
        self.origin = network.origin
        self.network = network
        self.cosignatures = 0
        self.unknown_cosignatures = 0
        self._keys = keys
        self._witnesses = {witness.name: witness for witness in (*witnesses, *counted)}
        self._counted = frozenset(counted)
        self._last: BlockHeader | None = None
        self._totals = (0, 0)

    def first(self, row: BlockRow) -> None:
        """Raises Wrong where this is not the chain's genesis block."""
        expected = self.network.genesis
        if row.height != 0:
            raise Wrong("block", 0, "the genesis block is missing")
        if not self.network.network_id:
            raise Wrong("network", self.chain_id, "there are blocks, and nothing says of which network")
        if row.header(self.chain_id) != expected or row.hash != expected.hash:
            raise Wrong("block", 0, f"it is not the genesis block of {self.chain_id}")
        if (row.total_transactions, row.total_receipts, row.signature, row.checkpoint) != (0, 0, "", ""):
            raise Wrong("block", 0, "it has totals, a signature or a checkpoint")
        self._last = expected

    def begin(self, row: BlockRow) -> None:
        """Raises Wrong where the row does not follow the block before, or does not hash to its hash."""
        if self._last is None:
            raise Wrong("block", 0, "the genesis block is missing")
        header = row.header(self.chain_id)
        if fault := header.fault_after(self._last):
            raise Wrong("block", row.height, fault)
        if row.hash != header.hash:
            raise Wrong("block", row.height, "its hash is not that of its header")

    def end(self, row: BlockRow, sealed: Sealed) -> None:
        """Raises Wrong where the block does not seal these leaves, or is not signed."""
        height, header = row.height, row.header(self.chain_id)
        if header.contents != sealed.contents:
            what = f"it counts {_listed(header.contents)}, its leaves are {_listed(sealed.contents)}"
            raise Wrong("block", height, what)
        if row.root != sealed.root.hex():
            raise Wrong("block", height, "its root is not that of its leaves and all before them")
        key = self._keys.get(row.proposer)
        if key is None:
            raise Wrong("block", height, f"its proposer's key {row.proposer} is not listed")
        if not header.is_signed(key.public_bytes, row.signature):
            raise Wrong("block", height, "its proposer's signature does not match")
        if not key.may_sign_at(row.time_ms, VALIDITY_TOLERANCE_MS):
            raise Wrong("block", height, f"key {row.proposer} was not valid when it was sealed")
        self._totals = (self._totals[0] + row.transactions, self._totals[1] + row.receipts)
        if (row.total_transactions, row.total_receipts) != self._totals:
            raise Wrong("block", height, f"its totals are not {self._totals[0]} and {self._totals[1]}")
        self._check_checkpoint(row, sealed.root)
        self._last = header

    def _check_checkpoint(self, row: BlockRow, root: bytes) -> None:
        """The stored checkpoint is the one text with the log's one signature line."""
        expected = Checkpoint(self.origin, row.tree_size, root).to_text()
        try:
            note = parse_note(row.checkpoint)
            if note.text != expected:
                raise Wrong("block", row.height, "its checkpoint is not of its tree size and root")
            signer = Verifier(self.origin, self._keys[row.proposer].public_bytes)
            if len(note.signatures) != 1 or verify_note(note, [signer]) != [signer]:
                raise Wrong("block", row.height, "its checkpoint is not signed by its proposer alone")
        except NoteInvalid as error:
            raise Wrong("block", row.height, f"its checkpoint: {error}") from None

    def cosigned(self, row: BlockRow, witness: str, line: str) -> bool:
        """Whether a witness's line counts for the quorum. Raises Wrong where it is not on this block's checkpoint."""
        which = f"{row.height} {witness}"
        try:
            made = parse_signature_line(line.removesuffix("\n"))
            if made.name != witness:
                raise Wrong("cosignature", which, f"the line is by {made.name}")
            verifier = self._witnesses.get(witness)
            if verifier is None or verifier.key_id != made.key_id:
                self.unknown_cosignatures += 1
                return False
            note = Note(parse_note(row.checkpoint).text, (made,))
            if cosignature_time(note, verifier) is None:
                raise Wrong("cosignature", which, "the witness did not sign this checkpoint")
        except NoteInvalid as error:
            raise Wrong("cosignature", which, str(error)) from None
        self.cosignatures += 1
        return verifier in self._counted
