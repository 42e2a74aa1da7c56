"""Somebody who owns the database and may own a key: makes the tree, the blocks and the signatures fit again.

Works on the file of a stopped coordinator (SQLite, its triggers dropped), with nothing but the formats' functions.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace

from aitbc.audit.leaf_kinds import BookingKind
from aitbc.core.log.block import VERSION_2, BlockHeader, genesis
from aitbc.core.log.checkpoint import Checkpoint
from aitbc.core.log.leaf import bitcoin_credit_leaf, booking_leaf, parameter_leaf, receipt_leaf, transfer_leaf
from aitbc.core.log.merkle import leaf_hash, root_of
from aitbc.core.log.note import Note, Verifier, sign_note
from aitbc.core.network import Founding
from aitbc.core.signing import PrivateKey, encode_b64, public_to_text, vkey
from tests.coordinator.chain.logs import tiles_of
from tests.support.flows import CHAIN

TRANSFER = "SELECT id, kind, debit_id, credit_id, amount_units, hold_id, ref, created_at_ms FROM transfers WHERE id = ?"
RECEIPT = "SELECT body, key_id, signature FROM receipts WHERE id = ?"
CHANGE = "SELECT * FROM parameter_changes WHERE 'parameter:' || number = ?"
BOOKING = f"SELECT {', '.join(BookingKind.columns)} FROM bookings WHERE id = ?"
MADE: dict[int, tuple[str, Callable[..., bytes]]] = {
    0: (TRANSFER, transfer_leaf),
    1: (RECEIPT, receipt_leaf),
    2: (CHANGE, parameter_leaf),
    3: (BOOKING, booking_leaf),
    7: ("SELECT * FROM bitcoin_credits WHERE id = ?", bitcoin_credit_leaf),
}


def reseal(db: sqlite3.Connection, key: PrivateKey, sizes: list[int] | None = None) -> None:
    """Leaves get the hashes and places of what they are of; then tiles, blocks and checkpoints, signed by `key`.

    `sizes`: the tree sizes of the blocks, if others than those of before. Leaves beyond the last one wait.
    """
    ends = sizes or [
        row[0] for row in db.execute("SELECT tree_size FROM blocks WHERE height > 0 ORDER BY height")
    ]
    times = [row[0] for row in db.execute("SELECT time_ms FROM blocks WHERE height > 0 ORDER BY height")]
    order = "leaf_index IS NULL, leaf_index, seq"
    leaves = db.execute(f"SELECT seq, kind, ref_id FROM leaves ORDER BY {order}").fetchall()
    hashes = []
    db.execute("UPDATE leaves SET leaf_index = NULL")
    for place, (seq, kind, ref_id) in enumerate(leaves):
        query, encode = MADE[kind]
        hashed = leaf_hash(encode(*db.execute(query, (ref_id,)).fetchone()))
        hashes.append(hashed)
        head = int.from_bytes(hashed[:8], "big", signed=True)
        sealed = place if place < ends[-1] else None
        db.execute(
            "UPDATE leaves SET hash = ?, hash_head = ?, leaf_index = ? WHERE seq = ?",
            (hashed, head, sealed, seq),
        )
    db.execute("DELETE FROM tiles")
    for (level, index), data in tiles_of(hashes[: ends[-1]]).items():
        db.execute("INSERT INTO tiles VALUES (?, ?, ?)", (level, index, data))
    db.execute("DELETE FROM blocks WHERE height > 0")
    origin, founding = db.execute("SELECT origin, founding FROM network").fetchone()
    last = genesis(CHAIN, Founding.from_json(json.loads(founding)).hash)
    for end, time_ms in zip(ends, times, strict=False):
        kinds = [kind for _seq, kind, _ref in leaves[:end]]
        new = kinds[last.tree_size :]
        root = root_of(hashes[:end])
        credits = (("bitcoin_credits", new.count(7)),) if 7 in new else ()
        others = (*credits, ("bookings", new.count(3)), ("parameters", new.count(2)))
        header = BlockHeader(
            CHAIN, last.height + 1, last.hash, time_ms, last.tree_size, end, root.hex(),
            new.count(0), new.count(1), key.key_id, VERSION_2, others,
        )  # fmt: skip
        text = Checkpoint(origin, end, root).to_text()
        row = (
            header.height, header.hash, header.previous_hash, time_ms, header.first_leaf, end, header.root,
            new.count(0), new.count(1), kinds.count(0), kinds.count(1), key.key_id, header.sign(key),
            str(Note(text, (sign_note(text, origin, key),))), json.dumps(header.contents, separators=(",", ":")),
        )  # fmt: skip
        db.execute(f"INSERT INTO blocks VALUES ({', '.join('?' * len(row))})", row)
        last = replace(header)


def refound(db: sqlite3.Connection, key: PrivateKey) -> None:
    """The network as if it had been founded with this key: another genesis block, so another network."""
    (text,) = db.execute("SELECT founding FROM network").fetchone()
    before = Founding.from_json(json.loads(text))
    made = replace(before, log_key=Verifier(before.origin, key.public_bytes).vkey)
    db.execute("UPDATE network SET network_id = ?, founding = ?", (made.network_id, made.encode().decode()))
    db.execute("UPDATE blocks SET hash = ?, previous_hash = ? WHERE height = 0", (made.network_id, made.hash))


def resign_receipts(db: sqlite3.Connection, key: PrivateKey) -> None:
    """Every receipt's signature, by `key`, over the text that it has now."""
    for receipt_id, body in db.execute("SELECT id, body FROM receipts").fetchall():
        sig = encode_b64(key.sign(body.encode()))
        db.execute(
            "UPDATE receipts SET key_id = ?, signature = ? WHERE id = ?", (key.key_id, sig, receipt_id)
        )


def list_key(db: sqlite3.Connection, key: PrivateKey) -> None:
    """The key, as if it were the coordinator's only one."""
    db.execute("UPDATE signing_keys SET id = 'taken' || id WHERE 0")
    values = (key.key_id, public_to_text(key.public_bytes), vkey(CHAIN, key.public_bytes))
    db.execute("UPDATE signing_keys SET id = ?, public_key = ?, vkey = ?", values)


def double_a_mint(db: sqlite3.Connection, account: str = "alice") -> int:
    """The first grant of the account becomes twice as much, and both balances with it; how much more."""
    (transfer_id, units) = db.execute(
        "SELECT id, amount_units FROM transfers WHERE kind = 'mint' AND credit_id = ? ORDER BY id LIMIT 1",
        (account,),
    ).fetchone()
    db.execute("UPDATE transfers SET amount_units = 2 * amount_units WHERE id = ?", (transfer_id,))
    for name, sign in ((account, 1), ("system:mint", -1)):
        db.execute("UPDATE accounts SET balance_units = balance_units + ? WHERE id = ?", (sign * units, name))
    return int(units)
