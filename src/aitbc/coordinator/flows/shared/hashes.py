"""What a hash of the chain names. Whoever is given one by a stranger looks it up here."""

from typing import NamedTuple

from aitbc.coordinator.chain import proofs, search
from aitbc.coordinator.database import Tx
from aitbc.coordinator.users import service as users
from aitbc.coordinator.users.service import SignedRow

HASH_HEX_CHARS = 64


class Named(NamedTuple):
    """A leaf of the log (`kind` as core.log.leaf has it), and what it is of.

    `leaf_hash` is the leaf's own; `leaf_index` None until it is sealed; `signed` what a wallet signed, where it is
    by the hash of that that it was looked for.
    """

    kind: int
    ref_id: str
    leaf_hash: bytes
    leaf_index: int | None
    signed: SignedRow | None


def named_by(tx: Tx, text: str) -> Named | None:
    """By the hash of a transaction that a wallet signed, or of a leaf once it is sealed; 64 hex digits, in any case.

    None for anything else.
    """
    try:
        data = bytes.fromhex(text) if len(text) == HASH_HEX_CHARS else b""
    except ValueError:
        return None
    if 2 * len(data) != HASH_HEX_CHARS:  # fromhex passes over spaces
        return None
    signed = users.find_signed(tx, data.hex())
    if signed is not None:
        row = tx.one(proofs.LEAF_OF, ref=signed.transfer_id)
        return Named(row.kind, signed.transfer_id, bytes(row.hash), row.leaf_index, signed)
    leaf = search.by_hash(tx, data)
    return None if leaf is None else Named(*leaf, None)
