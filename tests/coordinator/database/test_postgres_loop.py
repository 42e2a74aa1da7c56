"""PostgreSQL and the event loop: it serves others while the database is slow, and nobody is left waiting."""

import asyncio
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import uvloop
from sqlalchemy import text

from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.database.pipe import Pipe
from aitbc.coordinator.errors import StorageUnavailable
from tests.coordinator.database.accounts import names, opens
from tests.coordinator.database.groups import end_backend, own_pid
from tests.support.flows import in_loop

pytestmark = pytest.mark.parametrize("databases", ["postgresql"], indirect=True)

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.SelectorEventLoop, uvloop.new_event_loop]


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, db: Database) -> Callable[..., Any]:
    """Runs a coroutine with the database started, in a loop of either kind; `db` is stopped with it."""

    return partial(in_loop, db, loop_factory=request.param)


def sleeps(tx: Tx, name: str, seconds: float = 0.3) -> str:
    tx.query(text(f"SELECT pg_sleep({seconds})"))
    return opens(tx, name)


async def ticks(done: "asyncio.Future[Any]") -> int:
    """How often the loop came round until `done`."""
    count = 0
    while not done.done():
        await asyncio.sleep(0.01)
        count += 1
    return count


# --- waiting ------------------------------------------------------------------------------------------------


def test_the_loop_serves_others_while_the_database_is_slow(run: Any, db: Database) -> None:
    async def main() -> None:
        slow = asyncio.create_task(db.write(sleeps, "a"))
        assert await ticks(slow) > 10
        assert slow.result() == "a"

    run(main())


def test_calls_that_come_meanwhile_share_the_transaction(
    run: Any, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aitbc.coordinator.database.groups.BATCH_S", 5)
    groups: list[int] = []
    db.backend.on_batch = groups.append

    async def main() -> None:
        first = asyncio.create_task(db.write(sleeps, "a"))
        await asyncio.sleep(0.1)
        assert await db.write(opens, "b") == "b"
        assert first.done()

    run(main())
    assert groups == [2]


def names_later(db: Database) -> set[str]:
    """Of a database that was stopped."""
    again = Database.open(db.backend.url)  # type: ignore[union-attr]
    try:
        return names(again)
    finally:
        again.close()


# --- connections --------------------------------------------------------------------------------------------


def test_a_connection_lost_while_the_loop_waits(run: Any, db: Database, database_url: str) -> None:
    pids: list[int] = []

    def call(tx: Tx, name: str) -> str:
        pids.append(own_pid(tx))
        return sleeps(tx, name)

    async def main() -> None:
        under_way = [asyncio.create_task(db.write(call, name)) for name in "ab"]
        await asyncio.sleep(0.1)
        await asyncio.to_thread(end_backend, database_url, pids[0])
        assert await asyncio.gather(*under_way) == ["a", "b"], "each is run again"
        assert await db.write(opens, "c") == "c"

    run(main())
    assert names_later(db) == {"a", "b", "c"}


def test_a_connection_lost_while_idle_is_replaced(run: Any, db: Database, database_url: str) -> None:
    async def main() -> None:
        lost = await db.write(own_pid)
        await asyncio.to_thread(end_backend, database_url, lost)
        assert await db.write(own_pid) != lost

    run(main())


def test_a_connection_lost_while_the_commit_is_waited_for(run: Any, db: Database, database_url: str) -> None:
    """Nobody knows whether it was done, so it is never run again."""
    runs: list[int] = []

    def call(tx: Tx) -> None:
        runs.append(own_pid(tx))
        tx.change(text("CREATE TEMPORARY TABLE slow (n int) ON COMMIT DROP"))
        tx.change(
            text(
                "CREATE FUNCTION pg_temp.wait() RETURNS trigger LANGUAGE plpgsql"
                " AS 'BEGIN PERFORM pg_sleep(20); RETURN NULL; END'"
            )
        )
        tx.change(
            text(
                "CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED"
                " FOR EACH ROW EXECUTE FUNCTION pg_temp.wait()"
            )
        )
        opens(tx, "a")
        tx.change(text("INSERT INTO slow VALUES (1)"))

    async def main() -> None:
        under_way = asyncio.create_task(db.write(call))
        await asyncio.sleep(0.3)
        await asyncio.to_thread(end_backend, database_url, runs[0])
        with pytest.raises(StorageUnavailable):
            await under_way
        await db.write(opens, "b")

    run(main())
    assert len(runs) == 1
    assert names_later(db) == {"b"}


def test_a_database_that_is_down_is_503_until_it_is_back(
    run: Any, db: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connecting takes its time on another thread."""
    connect = Pipe.connect

    def late(url: str, **options: Any) -> Pipe:
        time.sleep(0.3)
        return connect(url, **options)

    monkeypatch.setattr(Pipe, "connect", late)
    there = db.backend.url  # type: ignore[union-attr]

    async def main() -> None:
        monkeypatch.setattr(db.backend, "url", "postgresql://nobody@/absent?host=/nonexistent")
        asked = asyncio.gather(*(db.write(opens, name) for name in "ab"), return_exceptions=True)
        assert await ticks(asked) > 10
        assert [type(answer) for answer in asked.result()] == [StorageUnavailable] * 2
        monkeypatch.setattr(db.backend, "url", there)
        assert await db.write(opens, "c") == "c"

    run(main())
    assert names_later(db) == {"c"}


# --- callers ------------------------------------------------------------------------------------------------


def test_a_caller_that_is_cancelled_while_its_call_runs(run: Any, db: Database) -> None:
    async def main() -> None:
        under_way = asyncio.create_task(db.write(sleeps, "a"))
        behind = [asyncio.create_task(db.write(opens, name)) for name in "bc"]
        await asyncio.sleep(0.1)
        under_way.cancel()
        behind[0].cancel()
        assert await behind[1] == "c"
        await db.write(opens, "d")
        with pytest.raises(asyncio.CancelledError):
            await under_way

    run(main())
    assert names_later(db) == {"a", "c", "d"}, "what had begun is done, what had not is not"


def test_whatever_breaks_everybody_hears(run: Any, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: Any) -> None:
        raise ValueError("a mistake of ours")

    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr("aitbc.coordinator.database.postgres.Group", broken)
            found = await asyncio.gather(*(db.write(opens, name) for name in "ab"), return_exceptions=True)
            assert [type(one) for one in found] == [StorageUnavailable] * 2
        with monkeypatch.context() as patch:
            patch.setattr(db.backend, "on_batch", broken)
            assert await db.write(opens, "c") == "c", "it was committed"
        assert await db.write(opens, "d") == "d"

    run(main())


# --- the end, and other loops -------------------------------------------------------------------------------


def test_stopping_finishes_what_is_under_way(run: Any, db: Database) -> None:
    async def main() -> None:
        calls = [asyncio.create_task(db.write(sleeps, name)) for name in "abc"]
        await asyncio.sleep(0.1)
        await db.stop()
        assert await asyncio.gather(*calls) == ["a", "b", "c"]
        with pytest.raises(StorageUnavailable):
            await db.write(opens, "late")

    run(main())


def test_the_end_does_not_wait_for_a_database_that_hangs(run: Any, db: Database) -> None:
    async def main() -> None:
        calls = [asyncio.create_task(db.write(sleeps, name, 25)) for name in "ab"]
        calls.append(asyncio.create_task(db.read(lambda tx: tx.query(text("SELECT pg_sleep(25)")))))
        await asyncio.sleep(0.3)
        started = time.monotonic()
        await db.stop()
        assert time.monotonic() - started < 3
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(one) for one in found] == [StorageUnavailable] * 3

    run(main())
    # Nor does whoever is started next: the database notices that we are gone, and gives our locks back.
    started = time.monotonic()
    after = Database.open(db.backend.url)  # type: ignore[union-attr]
    after.write_sync(opens, "after")
    after.close()
    assert time.monotonic() - started < 10
    assert names_later(db) == {"after"}


def test_one_loop_after_another(db: Database) -> None:
    """The first is closed without a word, the second while a call is under way."""

    async def first() -> str:
        return await db.write(opens, "a")

    async def leaves() -> None:
        under_way = asyncio.create_task(db.write(sleeps, "b", 1))
        await asyncio.sleep(0.1)
        under_way.cancel()

    for make in LOOPS:
        with asyncio.Runner(loop_factory=make) as runner:
            assert runner.run(first()) == "a"
        db.write_sync(lambda tx: tx.change(text("DELETE FROM accounts")))
        with asyncio.Runner(loop_factory=make) as runner:
            runner.run(leaves())
    assert in_loop(db, db.write(opens, "c")) == "c"
    assert "c" in names_later(db)


def test_loops_side_by_side(db: Database) -> None:
    """Both are answered, and hear when it is stopped."""
    found: list[Any] = []
    go_on = threading.Event()

    async def other() -> None:
        found.append(await asyncio.gather(*(db.write(opens, name) for name in "abc")))
        go_on.set()
        await asyncio.sleep(0.5)
        try:
            await db.write(opens, "late")
        except StorageUnavailable as error:
            found.append(error)

    async def main() -> None:
        assert await asyncio.gather(*(db.write(opens, name) for name in "def")) == ["d", "e", "f"]
        assert await asyncio.to_thread(go_on.wait, 10)

    thread = threading.Thread(target=lambda: asyncio.run(other()))
    thread.start()
    in_loop(db, main())
    thread.join(10)
    assert found[0] == ["a", "b", "c"]
    assert isinstance(found[1], StorageUnavailable)
    assert names_later(db) == set("abcdef")


def test_closing_without_a_loop(db: Database) -> None:
    asyncio.run(db.write(opens, "a"))
    db.close()
    with pytest.raises(StorageUnavailable):
        asyncio.run(db.write(opens, "b"))


def test_closing_inside_the_loop(db: Database) -> None:
    """What was under way is finished first."""

    async def main() -> None:
        under_way = asyncio.create_task(db.write(sleeps, "a", 0.1))
        await asyncio.sleep(0.05)
        db.close()
        assert await under_way == "a"

    asyncio.run(main())
