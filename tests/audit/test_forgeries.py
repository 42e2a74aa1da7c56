"""Whole histories forged in one go, by who owns the database and even a key; and what it takes to see that."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from aitbc.audit.trust import Trust, read_kept
from aitbc.core.log.keyset import USE_LOG, KeySet, PublishedKey
from aitbc.core.log.policy import Policy
from aitbc.core.signing import PrivateKey
from tests.audit import forger
from tests.audit.tampered import forged, found, report_on
from tests.audit.test_outside import POLICY
from tests.conftest import START_MS
from tests.support.flows import CHAIN, KEY

pytestmark = pytest.mark.parametrize("databases", ["sqlite"], indirect=True)

FOREIGN = PrivateKey.from_seed(b"\x66" * 32)
KEYS = KeySet(CHAIN, [PublishedKey(KEY.public_bytes, START_MS, use=use) for use in ("receipts", USE_LOG)])
WITHOUT_WITNESSES = Policy(CHAIN, POLICY.log, (), 0, POLICY.receipt_keys)
PINS = {"policy": Trust(policy=WITHOUT_WITNESSES), "keys": Trust(keys=KEYS)}


def checkpoint(file: Path, height: int) -> str:
    db = sqlite3.connect(file)
    try:
        return str(db.execute("SELECT checkpoint FROM blocks WHERE height = ?", (height,)).fetchone()[0])
    finally:
        db.close()


def kept(file: Path, height: int = 3) -> Trust:
    return Trust(kept=(read_kept("kept.txt", checkpoint(file, height)),))


def without_witnesses(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM cosignatures")
    db.execute("DELETE FROM counters WHERE name = 'final'")


def by_another_key(db: sqlite3.Connection) -> None:
    """Without the coordinator's key: another one is listed, a mint is doubled, and all is signed anew."""
    without_witnesses(db)
    forger.list_key(db, FOREIGN)
    forger.refound(db, FOREIGN)
    forger.double_a_mint(db)
    forger.resign_receipts(db, FOREIGN)
    forger.reseal(db, FOREIGN)


def by_the_key_itself(db: sqlite3.Connection) -> None:
    without_witnesses(db)
    forger.double_a_mint(db)
    forger.reseal(db, KEY)
    db.execute("DELETE FROM balance_marks")  # its coordinator makes them again
    db.execute("UPDATE account_activity SET marked = 0")


def cut(db: sqlite3.Connection) -> None:
    """The newest block never was: its leaves wait again."""
    without_witnesses(db)
    sizes = [row[0] for row in db.execute("SELECT tree_size FROM blocks WHERE height > 0 ORDER BY height")]
    forger.reseal(db, KEY, sizes[:-1])
    db.execute("DELETE FROM counters")
    db.execute("DELETE FROM account_activity")


@pytest.mark.parametrize("pins", PINS)
def test_who_has_no_key_cannot_sign_everything_anew(honest: Path, pins: str) -> None:
    assert report_on(honest, PINS[pins]).ok
    file = forged(honest, by_another_key)
    wrong = found(file, PINS[pins])
    assert wrong is not None
    assert str(wrong) == f"key {FOREIGN.key_id}: it is not among the keys that were given to be trusted"
    taken_in = [PublishedKey(FOREIGN.public_bytes, START_MS, use=use) for use in ("receipts", USE_LOG)]
    ids = Trust(keys=KeySet(CHAIN, taken_in, network_id="ab" * 32))
    assert "the key set is for the network abab" in str(found(file, ids))
    assert "it is of the network" in str(found(file)), "no miner signs anew what it signed for its network"
    alone = report_on(honest)
    assert any("they are this database's own word" in line for line in alone.not_checked)
    assert any("no checkpoint kept from before" in line for line in alone.not_checked)


@pytest.mark.parametrize("pins", PINS)
def test_a_foreign_key_beside_the_right_one_is_found(honest: Path, pins: str) -> None:
    def lists(db: sqlite3.Connection) -> None:
        before = db.execute("SELECT * FROM signing_keys").fetchone()
        forger.list_key(db, FOREIGN)
        db.execute("INSERT INTO signing_keys VALUES (?, ?, ?, ?, ?)", before)

    def signs_one_block(db: sqlite3.Connection) -> None:
        """Only an old block is the foreign key's; the newest is signed by the right one."""
        lists(db)
        db.execute("UPDATE blocks SET proposer = ? WHERE height = 1", (FOREIGN.key_id,))

    assert found(forged(honest, lists)) is None
    for forge in (lists, signs_one_block):
        wrong = found(forged(honest, forge), PINS[pins])
        assert wrong is not None
        assert (wrong.kind, wrong.id) == ("key", FOREIGN.key_id)


def test_saved_keys_keep_their_dates(honest: Path) -> None:
    for column, value in (("valid_from_ms", "valid_from_ms - 1"), ("valid_from_ms", "0")):
        file = forged(honest, lambda db, c=column, v=value: db.execute(f"UPDATE signing_keys SET {c} = {v}"))
        assert "valid from another time" in str(found(file, PINS["keys"]))
    retired = forged(
        honest, lambda db: db.execute(f"UPDATE signing_keys SET valid_to_ms = {START_MS + 10**12}")
    )
    assert found(retired, PINS["keys"]) is None, "it may have been retired since"
    early = forged(honest, lambda db: db.execute(f"UPDATE signing_keys SET valid_to_ms = {START_MS - 10**9}"))
    assert "valid" in str(found(early))


@pytest.mark.parametrize(("forge", "said"), [(by_the_key_itself, "rewritten"), (cut, "cut")])
def test_a_kept_checkpoint_shows_what_the_key_itself_rewrote(
    honest: Path, forge: Callable[[sqlite3.Connection], None], said: str
) -> None:
    trust = kept(honest)
    report = report_on(honest, trust)
    assert report.ok
    assert "that the log continues kept.txt" in report.checked
    file = forged(honest, forge)
    assert found(file, PINS["policy"]) is None, "the key's owner can make any history"
    wrong = found(file, trust)
    assert wrong is not None
    assert (wrong.kind, said in wrong.what) == ("checkpoint", True), wrong


def test_what_is_kept_has_to_be_the_logs_own(honest: Path) -> None:
    assert "no known key of this log signed" in str(found(forged(honest, by_another_key), kept(honest)))
    changed = read_kept("kept.txt", checkpoint(honest, 3)[:-10] + "AAAAAAA==\n")
    assert "kept.txt" in str(found(honest, Trust(kept=(changed,))))


@pytest.mark.parametrize("gone", ["all of them", "the newest block's"])
def test_a_policys_quorum_is_asked_for(honest: Path, gone: str) -> None:
    trust = Trust(policy=POLICY)
    assert report_on(honest, trust).ok
    where = "1" if gone == "all of them" else "height = 3"

    def delete(db: sqlite3.Connection) -> None:
        db.execute(f"DELETE FROM cosignatures WHERE {where}")
        db.execute("DELETE FROM counters WHERE name = 'final'")

    file = forged(honest, delete)
    assert found(file) is None
    wrong = found(file, trust)
    assert wrong is not None
    assert (wrong.kind, wrong.id, "fewer than 1 of the policy's 1 witnesses" in wrong.what) == (
        "block",
        "3",
        True,
    )
