"""Whether a database continues the tree head that was kept outside it, and what may be sealed upon it next."""

from typing import NamedTuple

from aitbc.coordinator.chain import proofs, sealer
from aitbc.coordinator.chain.sealer import BlockRow, Draft, Run, read_tiles
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import LogRefused
from aitbc.coordinator.signing.headfile import HeadFile, HeadFileError, Intent, Kept
from aitbc.core.log import tiles
from aitbc.core.log.checkpoint import Checkpoint
from aitbc.core.log.note import NoteInvalid, Verifier, parse_note, verify_note
from aitbc.core.signing import PrivateKey

UNREADABLE = (LookupError, TypeError, ValueError)
"""What tiles or blocks lead to that were changed by hand."""


OLDER = "it is older than the log, as after the restore of a backup, and going on would make a second history"


class Look(NamedTuple):
    """What was found. `fault`: why the database does not continue what was kept, or ''; then nothing else counts.

    newest    the database's newest block, if it has one with a checkpoint
    lost      the intended block was not sealed, and another one has its place
    draft     what to seal next: exactly what was intended, where that was broken off
    """

    fault: str
    newest: BlockRow | None = None
    lost: bool = False
    draft: Draft | None = None


def look(tx: Tx, kept: Kept, chain_id: str, key: PrivateKey) -> Look:
    """Costs O(log n) beyond the new leaves."""
    try:
        last = sealer.head(tx)
        fault = _head_fault(tx, kept.head.head, last) if kept.head is not None else ""
        newest = last if last is not None and last.checkpoint else None
        intent = kept.intent
        if fault:
            return Look(fault)
        if intent is None or (last is not None and _has(tx, last, intent.signed.head)):
            return Look("", newest, draft=sealer.draft(tx, chain_id, key))
        head, size = intent.signed.head, 0 if last is None else last.tree_size
        if size > intent.base_size:
            fault = _overtaken_fault(tx, intent, key)
            return Look(fault, newest, lost=True, draft=sealer.draft(tx, chain_id, key))
        if size < intent.base_size:
            base = _of(intent.base_size)
            return Look(
                f"it has sealed {_of(size)}, and a tree of {head.size} was signed upon {base}: {OLDER}"
            )
        made = sealer.draft(tx, chain_id, key, [Run(*run) for run in intent.runs])
        if made is None or made.block.root != head.root.hex():
            what = f"a tree of {_of(head.size)} was signed, and those beyond {size} are not there: {OLDER}"
            return Look(what)
        return Look("", newest, draft=made)
    except UNREADABLE as error:
        return Look(f"its blocks and tiles cannot be read: {error}")


def check(tx: Tx, head_file: HeadFile, chain_id: str, key: PrivateKey) -> None:
    """Raises LogRefused where the database does not continue the head that was kept outside it."""
    try:
        kept = head_file.read()
    except HeadFileError as error:
        raise LogRefused(reason=str(error)) from error
    if kept.head is None and kept.intent is None:
        return
    fault = look(tx, kept, chain_id, key).fault
    if fault:
        raise LogRefused(reason=refusal(fault, head_file))


def refusal(fault: str, head_file: HeadFile) -> str:
    """What the operator is told."""
    return (
        f"this database does not continue the log whose head is kept in {head_file.path}: {fault}; start on the"
        " newest database, or give up what was signed beyond it (`aitbc log accept --help`)"
    )


def _head_fault(tx: Tx, head: Checkpoint, last: BlockRow | None) -> str:
    size = 0 if last is None else last.tree_size
    if size < head.size:
        return f"it has sealed {_of(size)}, and a tree of {head.size} (root {head.root.hex()}) was signed: {OLDER}"
    if last is None or not _has(tx, last, head):
        return f"its tree of {_of(head.size)} is not the one that was signed (root {head.root.hex()}): two histories"
    return ""


def _has(tx: Tx, last: BlockRow, head: Checkpoint) -> bool:
    """Whether the stored tree had this head at its size."""
    if last.tree_size < head.size or (last.tree_size == head.size and last.root != head.root.hex()):
        return False
    return tiles.root(head.size, lambda wanted: read_tiles(tx, wanted)) == head.root


def _overtaken_fault(tx: Tx, intent: Intent, key: PrivateKey) -> str:
    """Where another block stands in the place of the intended one, a coordinator with our key has to have made it."""
    block = proofs.block_of_leaf(tx, intent.base_size)
    note = parse_note(block.checkpoint)
    try:
        signed = verify_note(note, [Verifier(note.text.partition("\n")[0], key.public_bytes)])
    except NoteInvalid:
        signed = []
    if signed:
        return ""
    return (
        f"block {block.height} is not signed by this coordinator's key, which had signed another in its place"
    )


def _of(size: int) -> str:
    return "1 leaf" if size == 1 else f"{size} leaves"
