"""Sealing fails at every statement and at its commit, and coordinators are killed while they seal.

Afterwards the chain is what a recomputation from scratch says, and no two checkpoints disagree.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from aitbc.coordinator.chain import sealer
from aitbc.coordinator.config import Settings
from aitbc.coordinator.database import Database
from aitbc.coordinator.errors import StorageUnavailable
from aitbc.coordinator.jobs.matching.idle_miners import IdleMiners
from aitbc.coordinator.process.loops.sealing import seal_once
from aitbc.coordinator.process.runtime import Runtime
from aitbc.core.clock import SystemClock
from aitbc.keyfile import derive_key
from tests.coordinator.chain.logs import Published, append, seal
from tests.coordinator.faults.injection import COMMIT_AFTER, COMMIT_BEFORE, Faults
from tests.support.flows import CHAIN, KEY, context, found, in_loop
from tests.support.server import ServerProcess

pytestmark = pytest.mark.faults
MOST_STATEMENTS = 30


@pytest.fixture
def published(db: Database) -> Published:
    """A chain whose next block completes a tile, and so grows two levels and begins a new tile."""
    db.write_sync(found)
    db.write_sync(append, 500)
    assert seal(db)
    return Published(db)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_every_statement_of_a_seal_fails_once(db: Database, published: Published, after: bool) -> None:
    before = published.look()
    for at in range(1, MOST_STATEMENTS):
        db.write_sync(append, 30)  # so that what is tried again is never the same block
        made = db.read_sync(sealer.draft, CHAIN, KEY)
        with Faults(db, at, after=after) as faults:
            try:
                assert db.write_sync(faults.armed(sealer.seal), made)
            except StorageUnavailable:
                assert faults.fired == 1
        chain = published.look()
        if not faults.fired:
            break
        assert (chain.hashes, chain.tiles) == (before.hashes, before.tiles), "nothing was half done"
    assert at > 5, "it has statements that can fail"
    assert chain.waiting == 0 and len(chain.blocks) == 3
    assert not seal(db)


def test_a_read_that_fails_makes_no_draft(db: Database, published: Published) -> None:
    db.write_sync(append, 10)
    for at in range(1, MOST_STATEMENTS):
        with Faults(db, at) as faults:
            try:
                made = db.read_sync(faults.armed(sealer.draft), CHAIN, KEY)
            except StorageUnavailable:
                continue
        break
    assert at > 3 and made is not None
    assert db.write_sync(sealer.seal, made)
    assert published.look().waiting == 0


def test_a_commit_that_fails_before_or_after_it_persists(db: Database, published: Published) -> None:
    for at in (COMMIT_BEFORE, COMMIT_AFTER):
        db.write_sync(append, 3)
        made = db.read_sync(sealer.draft, CHAIN, KEY)
        blocks = len(published.look().blocks)
        assert made is not None
        with Faults(db, at) as faults, pytest.raises(StorageUnavailable):
            db.write_sync(sealer.seal, made)
        assert faults.fired == 1
        assert len(published.look().blocks) == blocks + (at == COMMIT_AFTER)
        # Tried again with what it had, and then as the loop does, with more leaves.
        assert db.write_sync(sealer.seal, made) == (at == COMMIT_BEFORE)
        db.write_sync(append, 3)
        assert seal(db)
        assert published.look().waiting == 0


@pytest.mark.parametrize("databases", ["sqlite"], indirect=True)
def test_in_a_group_commit_a_seal_that_fails_spares_its_neighbours(
    db: Database, published: Published
) -> None:
    settings = Settings(database_url="sqlite:///unused.db", api_keys="")
    runtime = Runtime(settings, db, context(), SystemClock(), IdleMiners())

    async def main() -> None:
        for at in range(1, MOST_STATEMENTS):
            await db.write(append, 2)
            made = await db.read(sealer.draft, CHAIN, KEY)
            with Faults(db, at, after=True) as faults:
                first, failed, last = await asyncio.gather(
                    db.write(append, 1),
                    db.write(faults.armed(sealer.seal), made),
                    db.write(append, 1),
                    return_exceptions=True,
                )
            assert first is None and last is None
            if not faults.fired:
                assert failed is True
                break
            assert isinstance(failed, StorageUnavailable)
        assert published.look().waiting == 2, "the neighbours came after the draft"
        assert not await seal_once(runtime)
        assert published.look().waiting == 0

    in_loop(db, main())


@contextmanager
def appending(db: Database) -> Iterator[Callable[[], int]]:
    """Appends leaves all the while; gives how many there are."""
    stop = threading.Event()
    counts = [0]

    def work() -> None:
        while not stop.is_set():
            db.write_sync(append, 20)
            counts[0] += 20
            time.sleep(0.02)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield lambda: counts[0]
    finally:
        stop.set()
        thread.join(30)


def wait_for(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_coordinators_killed_while_they_seal_continue_the_chain(
    db: Database, database_url: str, start_server: Callable[..., ServerProcess]
) -> None:
    """On PostgreSQL two of them seal one log, and only one is killed."""
    settings = {"BLOCK_INTERVAL_S": "0.01", "SECRET_KEY": "a secret of the tests"}
    server = start_server(settings)
    if db.dialect == "postgresql":
        start_server(settings)

    def height() -> int:
        head = db.read_sync(sealer.head)
        assert head is not None
        return head.height

    key = derive_key(settings["SECRET_KEY"], f"aitbc/coordinator/{CHAIN}")
    published = Published(db, key)
    with appending(db) as count:
        for kill in range(1 if db.dialect == "postgresql" else 2):
            goal = height() + 5
            wait_for(lambda goal=goal: height() >= goal)  # type: ignore[misc]
            time.sleep(0.013 * kill)
            server.kill9()
            published.look()
            server.start()
    wait_for(lambda: db.read_sync(sealer.draft, CHAIN, KEY) is None)
    chain = published.look()
    assert chain.waiting == 0 and len(chain.hashes) == count()
    assert "Traceback" not in server.log.read_text()
