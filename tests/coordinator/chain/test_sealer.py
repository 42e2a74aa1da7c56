"""Sealing, on both databases: the chain it makes is the one that RFC 6962 and docs/formats/block.md describe."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from aitbc.coordinator.chain import sealer, search
from aitbc.coordinator.database import Database, Tx, postgres_url
from aitbc.coordinator.errors import ForkRefused
from aitbc.core.clock import ManualClock
from aitbc.core.log.tiles import right_edge
from tests.coordinator.chain.logs import append, check, leave_gap, rows, seal
from tests.support.flows import CHAIN, KEY, found


@pytest.fixture
def db(db: Database) -> Database:
    """A database with block 0."""
    db.write_sync(found)
    return db


def test_the_chain_begins_with_its_founding_once(db: Database) -> None:
    (first,) = check(db).blocks
    db.write_sync(found)
    assert check(db).blocks == [first]
    assert not seal(db), "nothing waits, so no block"
    assert db.read_sync(sealer.head) == first


def test_random_batches_make_the_reference_tree(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealer, "SEAL_LEAVES", 300)
    generator = random.Random(11)
    total = 0
    for count in (1, 1, 254, 1, 255, 290, 7, 650, *generator.choices(range(1, 60), k=12)):
        db.write_sync(append, count)
        if generator.random() < 0.5:
            db.write_sync(leave_gap)
            db.write_sync(append, 2)
        while seal(db):
            pass
        size = db.read_sync(sealer.head).tree_size  # type: ignore[union-attr]
        assert size > total
        total = size
    chain = check(db)
    assert chain.waiting == 0
    assert chain.seqs == sorted(chain.seqs), "appended by one, sealed in that order"
    assert {tile for tile, data in chain.tiles.items() if len(data) < 8192} == set(right_edge(total))
    assert max(block.tree_size - block.first_leaf for block in chain.blocks) == 300


def test_more_than_a_block_takes_is_due_at_once(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealer, "SEAL_LEAVES", 10)
    db.write_sync(append, 25)
    full = []
    while (made := db.read_sync(sealer.draft, CHAIN, KEY)) is not None:
        full.append(made.full)
        assert db.write_sync(sealer.seal, made)
    assert full == [True, True, False]


def test_time_never_goes_back(db: Database, clock: ManualClock) -> None:
    times = []
    for jump_s in (10, -3600, 0, 7200, -1):
        clock.jump(jump_s)
        db.write_sync(append, 1)
        assert seal(db)
        times.append(db.read_sync(sealer.head).time_ms)  # type: ignore[union-attr]
    assert times == sorted(times) and times[0] == times[1] == times[2] < times[3]
    check(db)


def test_a_draft_that_is_late_writes_nothing(db: Database) -> None:
    db.write_sync(append, 5)
    late = db.read_sync(sealer.draft, CHAIN, KEY)
    db.write_sync(append, 5)
    assert seal(db)
    before = check(db)
    assert late is not None
    assert not db.write_sync(sealer.seal, late)
    assert check(db).__dict__ == before.__dict__


def test_a_draft_of_the_next_height_on_another_block_writes_nothing(db: Database) -> None:
    """Its height is the right one and its leaves wait: only the previous hash says that it is of another chain."""
    db.write_sync(append, 3)
    assert seal(db)
    db.write_sync(append, 3)
    made = db.read_sync(sealer.draft, CHAIN, KEY)
    assert made is not None
    before = check(db)
    other = made._replace(block=made.block._replace(previous_hash="ab" * 32))
    assert not db.write_sync(sealer.seal, other)
    assert check(db).__dict__ == before.__dict__
    assert db.write_sync(sealer.seal, made), "the true one still fits"
    check(db)


def test_a_leaf_that_is_gone_is_no_block(db: Database) -> None:
    db.write_sync(append, 3)
    made = db.read_sync(sealer.draft, CHAIN, KEY)
    db.write_sync(lambda tx: tx.change(text("DELETE FROM leaves WHERE seq = (SELECT max(seq) FROM leaves)")))
    assert made is not None
    with pytest.raises(ForkRefused):
        db.write_sync(sealer.seal, made)
    assert len(check(db).blocks) == 1
    assert seal(db)
    assert len(check(db).hashes) == 2


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
def test_a_leaf_that_commits_late_goes_into_the_next_block(db: Database, database_url: str) -> None:
    with psycopg.connect(postgres_url(database_url)) as slow:
        slow.execute(
            "INSERT INTO leaves (kind, ref_id, hash, hash_head) VALUES (0, 'slow', %s, 0)", [b"\x01" * 32]
        )
        db.write_sync(append, 4)
        assert seal(db)
        assert check(db).waiting == 0, "it is not there yet"
        slow.commit()
    db.write_sync(append, 2)
    assert seal(db)
    chain = check(db)
    assert chain.waiting == 0 and chain.hashes[4] == b"\x01" * 32
    assert chain.seqs[4] < chain.seqs[0], "its seq is older, its place is not"


def in_threads(*acts: Callable[[], Any]) -> None:
    with ThreadPoolExecutor(len(acts)) as pool:
        for done in [pool.submit(act) for act in acts]:
            done.result(60)


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
@pytest.mark.parametrize("first_commits", [True, False])
def test_of_two_seals_of_one_height_the_second_waits_for_the_first(db: Database, first_commits: bool) -> None:
    db.write_sync(append, 3)
    first = db.read_sync(sealer.draft, CHAIN, KEY)
    db.write_sync(append, 3)
    second = db.read_sync(sealer.draft, CHAIN, KEY)
    assert first is not None and second is not None
    written, go_on = threading.Event(), threading.Event()

    def slowly(tx: Tx) -> None:
        assert sealer.seal(tx, first)
        written.set()
        assert go_on.wait(20)
        if not first_commits:
            raise LookupError("it gives up")

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(db.write_sync, slowly)
        assert written.wait(20)
        other = pool.submit(db.write_sync, sealer.seal, second)
        with pytest.raises(TimeoutError):
            other.result(0.1)
        go_on.set()
        assert other.result(20) is not first_commits
        assert isinstance(one.exception(20), LookupError) is not first_commits
    chain = check(db)
    assert (len(chain.blocks), len(chain.hashes)) == (2, 3 if first_commits else 6)


def test_coordinators_that_seal_at_once_neither_fork_nor_lose(db: Database, database_url: str) -> None:
    others = [Database.open(database_url) for _ in range(2)]
    written = threading.Event()
    sealed: list[int] = [0, 0]

    def write() -> None:
        for count in [1, 5, 40, 3] * 12:
            db.write_sync(append, count)
        written.set()

    def sealing(number: int) -> None:
        while True:
            last = written.is_set()
            done = seal(others[number])
            sealed[number] += done
            if last and not done and others[number].read_sync(sealer.draft, CHAIN, KEY) is None:
                return

    try:
        in_threads(write, lambda: sealing(0), lambda: sealing(1))
    finally:
        for other in others:
            other.close()
    chain = check(db)
    assert chain.waiting == 0 and len(chain.hashes) == 12 * 49
    assert len(chain.blocks) == 1 + sum(sealed)


def test_leaves_are_found_by_their_hash_on_every_shelf(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index's shelves are long; a place in the tree that lies on a later one is enough."""
    db.write_sync(append, 40)
    assert seal(db)
    db.write_sync(append, 1)
    far = 5 << 14
    db.write_sync(
        lambda tx: tx.change(text(f"UPDATE leaves SET leaf_index = leaf_index + {far} WHERE seq % 3 = 0"))
    )
    head = db.read_sync(sealer.head)
    assert head is not None
    monkeypatch.setattr(search, "head", lambda _tx: head._replace(tree_size=far + 40))
    for row in db.read_sync(rows, "SELECT ref_id, hash, leaf_index FROM leaves WHERE leaf_index IS NOT NULL"):
        hashed = bytes(row.hash)
        found = db.read_sync(search.by_hash, hashed)
        assert found is not None and (found.ref_id, found.leaf_index) == (row.ref_id, row.leaf_index)
        for chars in (4, 8, 16, 17, 64):
            assert found in db.read_sync(search.by_prefix, hashed.hex()[:chars].upper(), 10)
    assert db.read_sync(search.by_hash, b"\x00" * 32) is None
    assert db.read_sync(search.by_prefix, "f" * 64, 10) == []
    for bad in ("abc", "", "g" * 8, "0" * 65, "ab cd", "+abc", "٣٣٣٣"):
        with pytest.raises(ValueError):
            db.read_sync(search.by_prefix, bad, 10)


@pytest.mark.parametrize("databases", ["sqlite"], indirect=True)
def test_a_search_by_hash_uses_the_index(db: Database) -> None:
    def plan(tx: Tx) -> str:
        compiled = search.BETWEEN.on("sqlite")
        params = compiled.parameters({"low": 0, "high": 1, "last": 3, "most": 5})
        cursor = tx._cursor.execute(f"EXPLAIN QUERY PLAN {compiled.sql}", params)
        return str(cursor.fetchall())

    assert "ix_leaves_hash (<expr>=? AND hash_head>? AND hash_head<?)" in db.read_sync(plan)
