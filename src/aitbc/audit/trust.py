"""What an auditor brings along: keys, a policy, checkpoints kept from before. None of it comes from the audited."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from aitbc.audit.findings import Wrong
from aitbc.core.log.checkpoint import Checkpoint, parse_checkpoint
from aitbc.core.log.keyset import USE_LOG, KeySet
from aitbc.core.log.merkle import EMPTY_ROOT
from aitbc.core.log.note import Note, NoteInvalid, Verifier, parse_note, verify_note
from aitbc.core.log.policy import Policy


class Kept(NamedTuple):
    """A checkpoint of the log that somebody kept; `source` names it in what is reported."""

    source: str
    note: Note
    head: Checkpoint


def read_kept(source: str, text: str) -> Kept:
    """A kept checkpoint's text (a signed note). NoteInvalid."""
    note = parse_note(text)
    return Kept(source, note, parse_checkpoint(note.text))


@dataclass(frozen=True)
class Trust:
    """What the auditor trusts. Where a policy and a key set both name keys, the policy's count."""

    keys: KeySet | None = None
    policy: Policy | None = None
    kept: tuple[Kept, ...] = ()

    @property
    def log_keys(self) -> frozenset[bytes] | None:
        """The public keys that may sign blocks and checkpoints; None where none are pinned."""
        if self.policy is not None:
            return frozenset(verifier.public_bytes for verifier in self.policy.log)
        return None if self.keys is None else frozenset(key.public_bytes for key in self.keys.log_keys)

    @property
    def receipt_keys(self) -> frozenset[bytes] | None:
        """The public keys that may sign receipts; None where none are pinned."""
        if self.policy is not None and self.policy.receipt_keys:
            return frozenset(self.policy.receipt_keys)
        if self.keys is None:
            return None
        return frozenset(key.public_bytes for key in self.keys if key.use != USE_LOG)

    def check_chain(self, chain_id: str) -> None:
        """Raises Wrong where what is trusted is of another network."""
        for what, source in (("policy", self.policy), ("key set", self.keys)):
            if source is not None and source.chain_id != chain_id:
                raise Wrong("keys", chain_id, f"the {what} is for {source.chain_id}")

    def check_network(self, origin: str, network_id: str) -> None:
        """Raises Wrong where what is trusted is of another log than this one, or of another network of its name."""
        for what, source in (("policy", self.policy), ("key set", self.keys)):
            if source is not None and source.origin != origin:
                raise Wrong(
                    "network", network_id, f"its log is {origin}, and the {what} is for {source.origin}"
                )
            if source is not None and source.network_id not in ("", network_id):
                raise Wrong("network", network_id, f"the {what} is for the network {source.network_id}")
        for one in self.kept:
            if one.head.origin != origin:
                what = f"its log is {origin}, and what was kept in {one.source} is of {one.head.origin}"
                raise Wrong("network", network_id, what)

    def check_listed(self, key_id: str, public: bytes) -> None:
        """Raises Wrong where a key that the audited lists as its own is none of those pinned."""
        pinned = [keys for keys in (self.log_keys, self.receipt_keys) if keys is not None]
        if pinned and not any(public in keys for keys in pinned):
            raise Wrong("key", key_id, "it is not among the keys that were given to be trusted")


class Continuity:
    """Holds a tree that is rebuilt leaf by leaf to the checkpoints that were kept of it."""

    def __init__(self, kept: Iterable[Kept], log_keys: Iterable[bytes]) -> None:
        """Raises Wrong where none of the log's keys signed what was kept."""
        self._waiting = sorted(kept, key=lambda one: one.head.size)
        self.continued: list[str] = []
        keys = tuple(log_keys)
        for one in self._waiting:
            verifiers = [Verifier(one.head.origin, key) for key in keys]
            try:
                signed = bool(verify_note(one.note, verifiers))
            except NoteInvalid as error:
                raise Wrong("checkpoint", one.head.size, f"{one.source}: {error}") from None
            if not signed:
                what = f"no known key of this log signed the checkpoint of {one.head.origin} in {one.source}"
                raise Wrong("checkpoint", one.head.size, what)
        self._reached(0, EMPTY_ROOT)

    @property
    def next_size(self) -> int:
        """The tree size at which the root is to be compared next; -1 where none is."""
        return self._waiting[0].head.size if self._waiting else -1

    def compare(self, root: bytes) -> None:
        """The tree has grown to `next_size`, with this root. Raises Wrong where what was kept has another."""
        self._reached(self.next_size, root)

    def _reached(self, size: int, root: bytes) -> None:
        while self._waiting and self._waiting[0].head.size == size:
            one = self._waiting.pop(0)
            if one.head.root != root:
                what = f"the log was rewritten: its tree of {size} leaves is not the one kept in {one.source}"
                raise Wrong("checkpoint", size, what)
            self.continued.append(one.source)

    def close(self, size: int) -> None:
        """The log ends at this size. Raises Wrong where more of it was kept."""
        if self._waiting:
            one = self._waiting[0]
            what = f"the log was cut: it has {size} sealed leaves, and the tree kept in {one.source} more"
            raise Wrong("checkpoint", one.head.size, what)
