"""Every stored field that matters, changed in turn: the audit finds each change and names the row.

On SQLite without its triggers, CHECKs and indexes, as somebody would have it who owns the file.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from aitbc.audit.findings import Wrong
from tests.audit.scene import OTHER_WALLET
from tests.audit.tampered import changed, found

pytestmark = pytest.mark.parametrize("databases", ["sqlite"], indirect=True)

# table, which row, column, what it becomes (SQL), what the finding is called (None: the table's own row)
SOME_POST = "id = (SELECT MIN(id) FROM transfers WHERE kind = 'post')"
RECEIPT = "id = (SELECT MIN(id) FROM receipts)"
LATE_RECEIPT = "id = (SELECT MAX(id) FROM receipts)"  # in a leaf that no block seals yet
DONE = "id = (SELECT MIN(id) FROM jobs WHERE status = 'completed' AND hold_id <> '')"
STOPPED = "id = (SELECT MIN(id) FROM jobs WHERE status = 'cancelled' AND price_units > 0)"
STOPPED_PAYMENT = "job_id IN (SELECT id FROM jobs WHERE status = 'cancelled') AND price_units > 0"
LEAF = "leaf_index = 300"
BLOCK = "height = 2"
OTHER = f"'{OTHER_WALLET.address}'"
COUNTED = ("final", "accounts", "activity", "jobs")
FLIPS: list[tuple[str, str, str, str, str]] = [
    *(
        ("transfer", SOME_POST, column, new, "id")
        for column, new in {
            "amount_units": "amount_units + 1",
            "kind": "'transfer'",
            "debit_id": "'bob'",
            "credit_id": "'alice'",
            "hold_id": "hold_id || 'x'",
            "ref": "'another'",
            "created_at_ms": "created_at_ms - 1",
        }.items()
    ),
    *(
        ("receipt", which, column, new, "id")
        for which in (RECEIPT, LATE_RECEIPT)
        for column, new in {
            "body": 'replace(body, \'"price_units":"\', \'"price_units":"1\')',
            "signature": "substr(signature, 2) || 'A'",
            "key_id": "'0000000000000000'",
            "units": "units + 1",
            "price_units": "price_units + 1",
            "client_id": "'bob'",
            "provider_id": "'alice'",
            "miner_id": "'m2'",
            "model": "'another'",
            "job_id": "id",
            "created_at_ms": "created_at_ms + 1000",
        }.items()
    ),
    *(
        ("leaf", LEAF, column, new, "300")
        for column, new in {
            "hash": "randomblob(32)",
            "hash_head": "hash_head + 1",
            "kind": "1 - kind",
            "ref_id": "'nothing'",
            "leaf_index": "NULL",
        }.items()
    ),
    ("leaf", LEAF, "leaf_index", "100000", "300"),
    *(
        ("block", BLOCK, column, new, "height")
        for column, new in {
            "root": "substr(root, 2) || '0'",
            "previous_hash": "substr(previous_hash, 2) || '0'",
            "hash": "substr(hash, 2) || '0'",
            "signature": "substr(signature, 2) || 'A'",
            "checkpoint": "replace(checkpoint, 'aitbc', 'aitbd')",
            "time_ms": "time_ms + 1",
            "tree_size": "tree_size - 1",
            "first_leaf": "first_leaf + 1",
            "transactions": "transactions + 1",
            "receipts": "receipts + 1",
            "total_transactions": "total_transactions + 1",
            "total_receipts": "total_receipts + 1",
            "proposer": "'0000000000000000'",
        }.items()
    ),
    ("block", BLOCK, "checkpoint", "checkpoint || checkpoint", "height"),
    ("block", "height = 3", "tree_size", "tree_size + 1", "height"),
    ("block", "height = 0", "time_ms", "time_ms + 1", "height"),
    ("block", "height = 0", "hash", "'x'", "height"),
    (
        "tile",
        "level = 0 AND idx = 0",
        "hashes",
        "CAST(zeroblob(32) || substr(hashes, 33) AS BLOB)",
        "'0/000'",
    ),
    ("tile", "level = 0 AND idx = 1", "hashes", "substr(hashes, 1, length(hashes) - 32)", "'0/001'"),
    ("tile", "level = 1 AND idx = 0", "hashes", "randomblob(32)", "'1/000'"),
    ("cosignature", BLOCK, "line", "replace(line, 'w1', 'w2')", "height || ' ' || witness"),
    (
        "cosignature",
        BLOCK,
        "line",
        "substr(line, 1, 40) || CASE substr(line, 41, 1) WHEN 'A' THEN 'B' ELSE 'A' END || substr(line, 42)",
        "height || ' ' || witness",
    ),
    ("cosignature", BLOCK, "witness", "'witness.example/w2'", "height || ' ' || witness"),
    ("cosignature", BLOCK, "height", "9", "height || ' ' || witness"),
    *(
        ("account", "id = 'alice'", column, f"{column} + 1", "id")
        for column in ("balance_units", "held_units")
    ),
    ("account", "id = 'alice'", "kind", "'mint'", "id"),
    *(
        ("job", DONE, column, new, "id")
        for column, new in {
            "price_units": "price_units - 1",
            "receipt_id": "'another'",
            "hold_id": "(SELECT MIN(id) FROM transfers WHERE kind = 'mint')",
            "held_units": "held_units + 1",
            "client_id": "'bob'",
            "miner_id": "'m2'",
            "model": "'another'",
            "prompt_hash": "'0'",
            "unit_price_units": "unit_price_units + 1",
            "status": "'failed'",
            "finished_at_ms": "finished_at_ms + 1000",
        }.items()
    ),
    *(
        ("job", STOPPED, column, new, "id")
        for column, new in {
            "price_units": "price_units - 1",
            "hold_id": "''",
            "miner_id": "'m2'",
            "unit_price_units": "unit_price_units * 2",
            "status": "'failed'",
            "prompt_bound": "prompt_bound + 40",
            "progress_tokens": "progress_tokens + 3",
            "progress_ms": "progress_ms - 500",
            "paid_run_ms": "0",
        }.items()
    ),
    *(
        ("payment", STOPPED_PAYMENT, column, new, "id")
        for column, new in {
            "price_units": "price_units + 1",
            "fee_units": "fee_units + 1",
            "refunded_units": "1",
            "payee_id": "'alice'",
            "transfer_id": "'another'",
            "status": "'refunded'",
            "release_after_ms": "1",
        }.items()
    ),
    *(
        ("payment", f"status = '{status}' AND release_after_ms > 0", column, new, "id")
        for status in ("released", "refunded", "partially_refunded", "escrowed")
        for column, new in {
            "amount_units": "amount_units + 1",
            "price_units": "price_units + 1",
            "fee_units": "fee_units + 1",
            "refunded_units": "refunded_units + 1",
            "payer_id": "'bob'",
            "payee_id": "'alice'",
            "transfer_id": "'another'",
            "status": "'pending'",
            "release_after_ms": "0",
            "created_at_ms": "created_at_ms - 1",
            "updated_at_ms": "0",
        }.items()
    ),
    *(
        ("transaction", f"nonce = {nonce}", column, new, "hash")
        for nonce in (1, 3)  # in a block, and not yet
        for column, new in {
            "hash": "substr(hash, 2) || '0'",
            "sender_id": OTHER,
            "nonce": "nonce + 5",
            "body": 'replace(body, \'"amount_units":"\', \'"amount_units":"1\')',
            "signature": "CASE substr(signature, 1, 1) WHEN 'A' THEN 'B' ELSE 'A' END || substr(signature, 2)",
            "transfer_id": "(SELECT MIN(id) FROM transfers WHERE kind = 'post')",
            "created_at_ms": "created_at_ms + 1",
        }.items()
    ),
    ("transaction", "nonce = 1", "body", "body || ' '", "hash"),
    ("transaction", "nonce = 1", "body", "'[]'", "hash"),
    ("transaction", "nonce = 1", "signature", "''", "hash"),
    *(
        ("user", "nonce > 0", column, new, "id")
        for column, new in {
            "nonce": "nonce - 1",
            "kind": "'evm'",
            "public_key": "'A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg='",
        }.items()
    ),
    *(
        ("activity", f"account_id = {account}", column, new, "account_id")
        for account in ("'alice'", "'system:mint'", OTHER)
        for column, new in {
            "transfers": "transfers + 1",
            "first_leaf": "first_leaf + 1",
            "last_leaf": "last_leaf - 1",
            "account_id": "'nobody'",
        }.items()
    ),
    *(("counter", f"name = '{name}'", "value", "value + 1", "name") for name in COUNTED),
    *(("counter", f"name = '{name}'", "value", "value - 1", "name") for name in COUNTED[1:]),
    *(("counter", f"name = '{name}'", "mark", "mark || '0'", "name") for name in COUNTED),
    *(("counter", f"name = '{name}'", "name", "'nothing'", "name") for name in COUNTED),
    ("counter", "name = 'final'", "mark", "'1:9'", "name"),
    ("counter", "name = 'final'", "mark", "'2:' || value", "name"),
    ("counter", "name = 'activity'", "value", "value || 'x'", "name"),
    ("payment", "status = 'pending'", "status", "'refunded'", "id"),
    ("payment", "status = 'released' AND release_after_ms > 0", "job_id", "(SELECT MAX(id) FROM jobs)", "id"),
    ("job", DONE, "finished_at_ms", "'yesterday'", "id"),
    ("account", "id = 'alice'", "balance_units", "'much'", "id"),
    ("leaf", LEAF, "hash", "'text'", "300"),
    ("network", "1 = 1", "network_id", f"'{'0' * 64}'", "chain_id"),
    ("network", "1 = 1", "origin", "'aitbc/ait-devnet/0'", "chain_id"),
    ("network", "1 = 1", "chain_id", "'ait-othernet'", "chain_id"),
    ("network", "1 = 1", "founding", "''", "chain_id"),
    ("network", "1 = 1", "founding", "replace(founding, 'salt\":\"', 'salt\":\"0')", "chain_id"),
    ("key", "1 = 1", "public_key", "'A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg='", "id"),
    ("key", "1 = 1", "vkey", "substr(vkey, 2)", "id"),
]
TABLES = {
    "leaf": "leaves",
    "key": "signing_keys",
    "transaction": "wallet_transactions",
    "activity": "account_activity",
    "network": "network",
}


def test_every_flip_is_found_and_named(honest: Path) -> None:
    assert found(honest) is None
    missed = []
    for kind, where, column, new, name in FLIPS:
        table = TABLES.get(kind, f"{kind}s")
        sql = f"UPDATE {table} SET {column} = {new} WHERE {where} RETURNING {name}"
        row, wrong = changed(honest, sql)
        if wrong is None or not _is_named(wrong, kind, str(row)):
            missed.append(f"{kind} {row} {column} = {new}: {wrong}")
    assert not missed, "\n".join(missed)


def _is_named(wrong: Wrong, kind: str, row: str) -> bool:
    """The row itself, or the job, transfer or hold that it goes with: a contradiction has two sides."""
    if (wrong.kind, wrong.id) == (kind, row):
        return True
    if kind == "counter" and wrong.kind == "counter":  # that of accounts is as of the leaves taken in
        return {wrong.id, row} <= {"accounts", "activity"}
    return kind in ("payment", "job", "receipt") and (row in wrong.what or wrong.kind in ("job", "payment"))


LOST = {
    "transfer": f"DELETE FROM transfers WHERE {SOME_POST} RETURNING 1",
    "receipt": f"DELETE FROM receipts WHERE {RECEIPT} RETURNING 1",
    "leaf": f"DELETE FROM leaves WHERE {LEAF} RETURNING 1",
    "unsealed leaf": "DELETE FROM leaves WHERE seq = (SELECT MAX(seq) FROM leaves) RETURNING 1",
    "block": "DELETE FROM blocks WHERE height = 2 RETURNING 1",
    "last block": "DELETE FROM blocks WHERE height = 3 RETURNING 1",
    "genesis": "DELETE FROM blocks WHERE height = 0 RETURNING 1",
    "network": "DELETE FROM network RETURNING 1",
    "tile": "DELETE FROM tiles WHERE level = 0 AND idx = 1 RETURNING 1",
    "account": "DELETE FROM accounts WHERE id = 'bob' RETURNING 1",
    "job": f"DELETE FROM jobs WHERE {DONE} RETURNING 1",
    "payment": "DELETE FROM payments WHERE status = 'partially_refunded' RETURNING 1",
    "key": "DELETE FROM signing_keys RETURNING 1",
    "signed transfer": "DELETE FROM wallet_transactions WHERE nonce = 3 RETURNING 1",
    "user": "DELETE FROM users WHERE nonce > 0 RETURNING 1",
    "activity": "DELETE FROM account_activity WHERE account_id = 'alice' RETURNING 1",
    "count of accounts": "DELETE FROM counters WHERE name = 'accounts' RETURNING 1",
}
TWICE = {
    "transfer": "INSERT INTO transfers SELECT 'copy', kind, debit_id, credit_id, amount_units, hold_id, ref,"
    f" created_at_ms FROM transfers WHERE {SOME_POST} RETURNING 1",
    "unsealed leaf": "INSERT INTO leaves (kind, ref_id, hash, hash_head) SELECT kind, ref_id, hash, hash_head"
    " FROM leaves WHERE leaf_index = 7 RETURNING 1",
    "leaf": "INSERT INTO leaves (kind, ref_id, hash, hash_head, leaf_index) SELECT kind, ref_id, hash,"
    " hash_head, leaf_index FROM leaves WHERE leaf_index = 7 RETURNING 1",
    "tile": "INSERT INTO tiles SELECT level, idx + 9, hashes FROM tiles WHERE level = 0 AND idx = 0 RETURNING 1",
    "account": "INSERT INTO accounts SELECT 'ghost', kind, 5, 0, 0 FROM accounts WHERE id = 'bob' RETURNING 1",
    "activity": "INSERT INTO account_activity SELECT 'copy', transfers, first_leaf, last_leaf, marked"
    " FROM account_activity WHERE account_id = 'alice' RETURNING 1",
    "receipt": "INSERT INTO receipts SELECT 'copy', job_id, client_id, provider_id, miner_id, model, units,"
    f" price_units, created_at_ms, body, key_id, signature FROM receipts WHERE {RECEIPT} RETURNING 1",
}


def test_what_is_lost_or_there_twice_is_found(honest: Path) -> None:
    missed = [
        name for changes in (LOST, TWICE) for name, sql in changes.items() if changed(honest, sql)[1] is None
    ]
    assert not missed
