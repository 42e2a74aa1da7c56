"""Somebody who may write anything into the database, but has not the signing key: what he does, and what finds it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from aitbc.audit.trust import Trust, read_kept
from tests.audit.tampered import forged, found
from tests.audit.test_forgeries import PINS, checkpoint
from tests.audit.test_outside import POLICY

pytestmark = pytest.mark.parametrize("databases", ["sqlite"], indirect=True)

POST = "(SELECT id FROM transfers WHERE kind = 'post' ORDER BY id LIMIT 1)"
HOLD = "(SELECT id FROM transfers WHERE kind = 'hold' ORDER BY id LIMIT 1)"
MINT = "(SELECT id FROM transfers WHERE kind = 'mint' AND credit_id = 'alice' ORDER BY id LIMIT 1)"
DONE = "(SELECT id FROM jobs WHERE status = 'completed' ORDER BY id LIMIT 1)"
NEWEST = "(SELECT MAX(height) FROM blocks)"

CRIMES: dict[str, list[str]] = {
    "money from one client to another": [
        "UPDATE accounts SET balance_units = balance_units - 5 WHERE id = 'alice'",
        "UPDATE accounts SET balance_units = balance_units + 5 WHERE id = 'bob'",
    ],
    "a payment goes to another, and both balances with it": [
        f"UPDATE transfers SET credit_id = 'carol' WHERE id = {POST}",
        f"UPDATE accounts SET balance_units = balance_units - (SELECT amount_units FROM transfers WHERE id = {POST})"
        " WHERE id = 'bob'",
        f"UPDATE accounts SET balance_units = balance_units + (SELECT amount_units FROM transfers WHERE id = {POST})"
        " WHERE id = 'carol'",
    ],
    "a mint and its leaf never were": [
        f"DELETE FROM leaves WHERE ref_id = {MINT}",
        f"DELETE FROM transfers WHERE id = {MINT}",
    ],
    "a mint that nobody sealed": [
        "INSERT INTO transfers VALUES ('zz', 'mint', 'system:mint', 'bob', 7, NULL, '', 1)",
        "UPDATE accounts SET balance_units = balance_units + 7 WHERE id = 'bob'",
        "UPDATE accounts SET balance_units = balance_units - 7 WHERE id = 'system:mint'",
    ],
    "an account that no transfer names, with money of the mint's": [
        "INSERT INTO accounts VALUES ('thief', 'user', 9, 0, 1)",
        "UPDATE accounts SET balance_units = balance_units - 9 WHERE id = 'system:mint'",
    ],
    "a second mint account": ["UPDATE accounts SET kind = 'mint' WHERE id = 'bob'"],
    "what is held is let go": ["UPDATE accounts SET held_units = 0 WHERE id = 'alice'"],
    "a hold for half": [f"UPDATE transfers SET amount_units = amount_units / 2 WHERE id = {HOLD}"],
    "two leaves change places": [
        "UPDATE leaves SET leaf_index = -1 WHERE leaf_index = 2",
        "UPDATE leaves SET leaf_index = 2 WHERE leaf_index = 3",
        "UPDATE leaves SET leaf_index = 3 WHERE leaf_index = -1",
    ],
    "a leaf waits again": [
        "UPDATE leaves SET leaf_index = NULL WHERE leaf_index = (SELECT MAX(leaf_index) FROM leaves)"
    ],
    "bytes that are no text": ["UPDATE tiles SET hashes = CAST(x'ff00fe' AS TEXT)"],
    "a name that is no text": ["UPDATE transfers SET ref = CAST(x'ff00fe' AS TEXT) WHERE kind = 'hold'"],
    "a tile that is too long": [
        "UPDATE tiles SET hashes = CAST(hashes || zeroblob(32) AS BLOB) WHERE level = 0 AND idx = 0"
    ],
    "a tile of nowhere": ["INSERT INTO tiles VALUES (9, 0, zeroblob(32))"],
    "the newest block is cut off, and what it sealed waits again": [
        "UPDATE leaves SET leaf_index = NULL WHERE leaf_index >="
        f" (SELECT first_leaf FROM blocks WHERE height = {NEWEST})",
        f"DELETE FROM cosignatures WHERE height = {NEWEST}",
        f"DELETE FROM blocks WHERE height = {NEWEST}",
        "DELETE FROM tiles",
        "DELETE FROM counters",
        "DELETE FROM account_activity",
    ],
    "a block's time": ["UPDATE blocks SET time_ms = time_ms + 1000 WHERE height = 2"],
    "two blocks with each other's signature": [
        "UPDATE blocks SET signature = (SELECT signature FROM blocks b WHERE b.height = 1) WHERE height = 2"
    ],
    "a checkpoint of another block": [
        "UPDATE blocks SET checkpoint = (SELECT checkpoint FROM blocks b WHERE b.height = 1) WHERE height = 2"
    ],
    "a block without a signature": ["UPDATE blocks SET signature = '' WHERE height = 2"],
    "a witness's line under another block": [
        "UPDATE cosignatures SET line = (SELECT line FROM cosignatures c WHERE c.height = 1) WHERE height = 2"
    ],
    "all witnesses' lines are gone": [
        "DELETE FROM cosignatures",
        "DELETE FROM counters WHERE name = 'final'",
    ],
    "a receipt of another's": [
        "UPDATE receipts SET provider_id = 'carol',"
        ' body = replace(body, \'"provider":"bob"\', \'"provider":"carol"\')'
        f" WHERE job_id = {DONE}"
    ],
    "a receipt without a signature": [f"UPDATE receipts SET signature = '' WHERE job_id = {DONE}"],
    "a job that was never run": [
        f"DELETE FROM leaves WHERE ref_id = (SELECT receipt_id FROM jobs WHERE id = {DONE})",
        f"DELETE FROM receipts WHERE job_id = {DONE}",
        f"UPDATE jobs SET status = 'failed', receipt_id = '', price_units = 0 WHERE id = {DONE}",
    ],
    "a job's answer is another": ["UPDATE job_results SET result = replace(result, 'hello', 'hullo')"],
    "what was asked is another": ["UPDATE job_requests SET request = replace(request, 'prompt', 'prompf')"],
    "a payment by hand is released": [
        "UPDATE payments SET status = 'released', refunded_units = 0 WHERE status = 'escrowed'"
    ],
    "a payment by hand is for ever": [
        "UPDATE payments SET release_after_ms = release_after_ms + 86400000 WHERE status = 'escrowed'"
    ],
    "an automatic job was to be paid by hand": [f"UPDATE jobs SET manual_payment = 1 WHERE id = {DONE}"],
    "a signed transfer for another": ["UPDATE wallet_transactions SET sender_id = 'alice' WHERE nonce = 1"],
    "a wallet's transfer is forgotten": [
        "DELETE FROM wallet_transactions WHERE nonce = 2",
        "UPDATE users SET nonce = nonce - 1 WHERE nonce > 1",
    ],
    "a wallet's nonce goes back": ["UPDATE users SET nonce = 1 WHERE nonce > 1"],
    "another network's id": [f"UPDATE network SET network_id = '{'ab' * 32}'"],
    "a parameter of no meaning": [
        "INSERT INTO parameter_changes VALUES (99, 'mint_for_bob', NULL, 1, 1, 'operator', 'because')"
    ],
    "a change that nobody decided": [
        "INSERT INTO parameter_changes SELECT number + 1, 'fee_bps', 1000, 0, effective_at_ms, by, reason"
        " FROM parameter_changes ORDER BY number DESC LIMIT 1"
    ],
    "the newest change never was, nor its leaf": [
        "DELETE FROM leaves WHERE ref_id = (SELECT 'parameter:' || MAX(number) FROM parameter_changes)",
        "DELETE FROM parameter_changes WHERE number = (SELECT MAX(number) FROM parameter_changes)",
    ],
    "a key that is valid from today": ["UPDATE signing_keys SET valid_from_ms = valid_from_ms + 86400000000"],
}
"""By what is done: the statements. None of it needs a key, so pinned keys or not makes no difference."""
ONLY_WITH_A_QUORUM = {"all witnesses' lines are gone"}


def crime(statements: list[str]) -> Callable[[sqlite3.Connection], None]:
    def commit(db: sqlite3.Connection) -> None:
        for sql in statements:
            assert db.execute(sql).rowcount, sql

    return commit


@pytest.mark.parametrize("pins", ["nothing", "policy", "keys", "witnesses", "since"])
def test_who_has_no_key_is_found(wide: Path, pins: str) -> None:
    trusts = {
        "nothing": Trust(),
        **PINS,
        "witnesses": Trust(policy=POLICY),
        "since": Trust(kept=(read_kept("kept.txt", checkpoint(wide, 3)),)),
    }
    trust = trusts[pins]
    assert found(wide, trust) is None
    missed = {name for name, done in CRIMES.items() if found(forged(wide, crime(done)), trust) is None}
    assert missed == (set() if pins == "witnesses" else ONLY_WITH_A_QUORUM)
