"""A small log with three witnesses, for tests and vectors: everything follows from fixed seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aitbc.core import receipt, signing
from aitbc.core.log.block import origin_of
from aitbc.core.log.checkpoint import Checkpoint, cosign
from aitbc.core.log.leaf import receipt_leaf
from aitbc.core.log.merkle import leaf_hash
from aitbc.core.log.note import COSIGNATURE_V1, Note, NoteSignature, Verifier, sign_note
from aitbc.core.log.policy import Policy
from aitbc.core.log.tlog_proof import format_proof
from tests.core.merkle_reference import Tree

CHAIN_ID = "ait-devnet"
COORDINATOR = signing.PrivateKey.from_seed(bytes(range(32)))
ORIGIN = origin_of(CHAIN_ID)
LOG = Verifier(ORIGIN, COORDINATOR.public_bytes)
WITNESS_KEYS = [signing.PrivateKey.from_seed(bytes([number]) * 32) for number in (1, 2, 3)]
WITNESSES = tuple(
    Verifier(f"witness.example/w{number}", key.public_bytes, COSIGNATURE_V1)
    for number, key in enumerate(WITNESS_KEYS, 1)
)
POLICY = Policy(CHAIN_ID, (LOG,), WITNESSES, 2, (COORDINATOR.public_bytes,))
COSIGNED_AT_S = 1_767_323_050


def leaf_of(fields: receipt.ReceiptFields, signature: receipt.Signature) -> bytes:
    """The receipt's leaf."""
    sig = signing.encode_b64(signature.sig)
    return receipt_leaf(receipt.signed_bytes(fields).decode(), signature.key_id, sig)


def tree_with(leaf: bytes, index: int, size: int) -> Tree:
    """A tree whose other leaves are the texts "leaf 0", "leaf 1" and so on."""
    leaves = [f"leaf {number}".encode() for number in range(size)]
    leaves[index] = leaf
    tree = Tree(leaves)
    assert tree.mth(index, index + 1) == leaf_hash(leaf)
    return tree


def checkpoint_of(
    tree: Tree,
    *,
    witnesses: Sequence[int] = (),
    origin: str = ORIGIN,
    key: signing.PrivateKey | None = COORDINATOR,
    more: Sequence[NoteSignature] = (),
) -> Note:
    """The tree's checkpoint, signed by the log and cosigned by these of the three witnesses."""
    size = len(tree.leaves)
    text = Checkpoint(origin, size, tree.root(size)).to_text()
    lines = [] if key is None else [sign_note(text, origin, key)]
    for number in witnesses:
        witness, witness_key = WITNESSES[number], WITNESS_KEYS[number]
        lines.append(cosign(text, witness.name, witness_key, COSIGNED_AT_S + number))
    return Note(text, (*lines, *more))


def prove(tree: Tree, index: int, checkpoint: Note) -> str:
    """The tlog-proof of a leaf."""
    return format_proof(index, tree.path(index, len(tree.leaves)), str(checkpoint))


def proven(
    fields: receipt.ReceiptFields,
    result: dict[str, Any] | None = None,
    *,
    index: int = 21,
    size: int = 29,
    witnesses: Sequence[int] = (0, 2),
) -> dict[str, Any]:
    """A receipt's document with its proof."""
    signature = receipt.sign(fields, COORDINATOR)
    tree = tree_with(leaf_of(fields, signature), index, size)
    proof = prove(tree, index, checkpoint_of(tree, witnesses=witnesses))
    return receipt.to_json(fields, signature, result, proof)
