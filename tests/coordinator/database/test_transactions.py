"""The transaction boundary as both databases keep it."""

import asyncio
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from aitbc.coordinator.database import Database, Tx, insert_into
from aitbc.coordinator.errors import InvalidRequest, StorageUnavailable
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.models import Account
from tests.coordinator.database.accounts import names, opens, opens_and_fails
from tests.support.flows import in_loop

# --- durability, hooks, signals ---------------------------------------------------------------------------


def test_a_write_is_all_or_nothing(db: Database) -> None:
    async def main() -> None:
        assert await db.write(opens, "a") == "a"
        with pytest.raises(InvalidRequest):
            await db.write(opens_and_fails, "b")
        assert await db.read(lambda tx: ledger.balance(tx, "a").balance_units) == 0

    in_loop(db, main())


def test_write_sync_is_all_or_nothing(db: Database) -> None:
    assert db.write_sync(opens, "a") == "a"
    with pytest.raises(InvalidRequest):
        db.write_sync(opens_and_fails, "b")
    assert names(db) == {"a"}


def test_keywords_reach_the_function(db: Database) -> None:
    def both(tx: Tx, left: int, *, right: int) -> tuple[int, int]:
        return left, right

    assert db.write_sync(both, 1, right=2) == (1, 2)
    assert in_loop(db, db.write(both, 3, right=4)) == (3, 4)


def test_hooks_run_after_durability_and_never_after_a_rollback(db: Database) -> None:
    seen: list[Any] = []
    heard: list[Any] = []
    db.signals.listen(heard.append)

    def says(tx: Tx, name: str, fail: bool) -> None:
        opens(tx, name)
        tx.after_commit(lambda: seen.append((name, names(db) >= {name})))
        tx.signal(("opened", name))
        if fail:
            raise InvalidRequest("no")

    async def main() -> None:
        await db.write(says, "a", False)
        with pytest.raises(InvalidRequest):
            await db.write(says, "b", True)
        await asyncio.to_thread(db.write_sync, says, "c", False)
        with pytest.raises(InvalidRequest):
            await asyncio.to_thread(db.write_sync, says, "d", True)
        for _ in range(200):
            if len(heard) == 2:
                break
            await asyncio.sleep(0.005)

    in_loop(db, main())
    assert seen == [("a", True), ("c", True)]
    assert heard == [("opened", "a"), ("opened", "c")]


@pytest.mark.parametrize("seed", range(4))
def test_any_mixture_of_calls_leaves_exactly_what_succeeded(db: Database, seed: int) -> None:
    """Calls that share a transaction, some of which fail before or after they wrote, or break a rule."""
    mixed = random.Random(seed)
    heard: list[Any] = []
    hooks: list[str] = []
    db.signals.listen(heard.append)

    def call(tx: Tx, name: str, fate: str) -> str:
        tx.after_commit(hooks.append, name)
        tx.signal(("opened", name))
        if fate == "fails at once":
            raise InvalidRequest(name)
        opens(tx, name)
        if fate == "fails late":
            raise InvalidRequest(name)
        if fate == "breaks a rule":
            tx.change(text("UPDATE accounts SET held_units = -1"))
        return name

    fates = ["is good"] * 3 + ["fails at once", "fails late", "breaks a rule"]
    calls = [(f"a{n}", mixed.choice(fates)) for n in range(60)]

    async def main() -> None:
        answers = []
        for start in range(0, 60, 20):
            some = [db.write(call, name, fate) for name, fate in calls[start : start + 20]]
            answers += await asyncio.gather(*some, return_exceptions=True)
        for (name, fate), answer in zip(calls, answers, strict=True):
            if fate == "is good":
                assert answer == name
            elif fate == "breaks a rule":
                assert isinstance(answer, Exception)
                assert "held_not_negative" in str(answer)
            else:
                assert isinstance(answer, InvalidRequest)
                assert answer.message == name
        for _ in range(200):
            if len(heard) == len(good):
                break
            await asyncio.sleep(0.005)
        assert await db.read(lambda tx: {r.id for r in tx.query(text("SELECT id FROM accounts"))}) == set(
            good
        )

    good = [name for name, fate in calls if fate == "is good"]
    in_loop(db, main())
    assert sorted(hooks) == sorted(good), "once each"
    assert sorted(heard) == sorted(("opened", name) for name in good)


def test_a_hook_that_fails_undoes_nothing_and_hides_no_other(db: Database) -> None:
    seen: list[str] = []

    def says(tx: Tx) -> str:
        tx.after_commit(lambda: 1 // 0)
        tx.after_commit(seen.append, "second")
        return opens(tx, "a")

    assert in_loop(db, db.write(says)) == "a"
    assert seen == ["second"]


def test_a_listener_that_fails_keeps_nobody_waiting(db: Database) -> None:
    heard: list[Any] = []

    def broken(signal: Any) -> None:
        raise ValueError("a signal of another version")

    db.signals.listen(broken)
    db.signals.listen(heard.append)

    def says(tx: Tx) -> str:
        tx.signal(("opened", "a"))
        return opens(tx, "a")

    async def main() -> None:
        assert await asyncio.wait_for(db.write(says), 5) == "a"
        assert await asyncio.wait_for(db.write(opens, "b"), 5) == "b"
        for _ in range(200):
            if heard:
                break
            await asyncio.sleep(0.005)

    in_loop(db, main())
    assert heard == [("opened", "a")]


def test_waiters_are_woken_by_their_own_key_only(db: Database) -> None:
    def says(tx: Tx, key: str) -> None:
        tx.signal(("job", key))

    async def main() -> None:
        woken = db.signals.expect(("job", "1"))
        other = db.signals.expect(("job", "2"))
        await db.write(says, "1")
        assert await db.signals.wait_for(woken, 5)
        assert not await db.signals.wait_for(other, 0.01)
        db.signals.forget(("job", "2"), other)
        assert not db.signals._waiters, "nothing is kept for those who have gone"
        waiting = asyncio.create_task(db.signals.wait(("job", "3"), 30))
        await asyncio.sleep(0)
        db.signals.close()
        assert await waiting is False, "closing ends every wait"
        assert await db.signals.wait(("job", "4"), 30) is False

    in_loop(db, main())


# --- snapshots and other connections ------------------------------------------------------------------------


def test_a_read_is_one_snapshot(db: Database) -> None:
    def looks_twice(tx: Tx) -> tuple[int, int]:
        count = text("SELECT COUNT(*) AS n FROM accounts")
        first = tx.query(count)[0].n
        writer = threading.Thread(target=db.write_sync, args=(opens, "later"))
        writer.start()
        writer.join()
        return first, tx.query(count)[0].n

    db.write_sync(opens, "a")
    assert in_loop(db, db.read(looks_twice)) == (1, 1)


def test_a_read_cannot_write(db: Database) -> None:
    with pytest.raises(StorageUnavailable):
        db.read_sync(opens, "a")
    assert not names(db)
    assert db.write_sync(opens, "a") == "a", "and the connection is good afterwards"


def test_threads_write_beside_a_running_loop(db: Database) -> None:
    async def main() -> None:
        threads = [asyncio.to_thread(db.write_sync, opens, f"t{n}") for n in range(8)]
        tasks = [db.write(opens, f"l{n}") for n in range(50)]
        await asyncio.gather(*threads, *tasks)
        found = await db.read(lambda tx: tx.query(text("SELECT COUNT(*) AS n FROM accounts"))[0].n)
        assert found == 58

    in_loop(db, main())


OTHER_PROCESS = """
import sys
from aitbc.coordinator.database import Database
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.models import Account
database = Database.open(sys.argv[1])
for n in range(20):
    database.write_sync(ledger.open_account, f"p{n}")
print(len(database.read_sync(lambda tx: [ledger.balance(tx, "before")])))
database.close()
"""


def test_another_process_writes_beside_a_running_loop(db: Database, database_url: str) -> None:
    async def main() -> None:
        await db.write(opens, "before")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", OTHER_PROCESS, database_url, stdout=subprocess.PIPE
        )
        done = asyncio.create_task(process.communicate())
        count = 0
        while not done.done():
            await db.write(opens, f"l{count}")
            count += 1
            await asyncio.sleep(0.002)
        assert (await done)[0] == b"1\n"
        assert process.returncode == 0
        found = await db.read(lambda tx: {row.id for row in tx.query(text("SELECT id FROM accounts"))})
        assert found == {"before"} | {f"l{n}" for n in range(count)} | {f"p{n}" for n in range(20)}

    in_loop(db, main())


def test_a_racing_increment_loses_no_step(db: Database) -> None:
    db.write_sync(opens, "a")

    def add(tx: Tx) -> None:
        tx.change(text("UPDATE accounts SET balance_units = balance_units + 1 WHERE id = 'a'"))

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(db.write_sync, add) for _ in range(60)]:
            done.result()
    assert db.read_sync(ledger.balance, "a").balance_units == 60


# --- savepoints -------------------------------------------------------------------------------------------


def test_a_savepoint_undoes_its_block_alone(db: Database) -> None:
    heard: list[Any] = []
    hooks: list[str] = []
    db.signals.listen(heard.append)

    def batch(tx: Tx, fates: str) -> list[str]:
        outcomes = []
        for n, fate in enumerate(fates):
            try:
                with tx.savepoint():
                    ledger.open_account(tx, f"{fate}{n}")
                    tx.after_commit(hooks.append, f"{fate}{n}")
                    tx.signal((fate, n))
                    if fate == "x":
                        raise InvalidRequest("no")
                    if fate == "!":
                        tx.query(text("SELECT * FROM there_is_no_such_table"))
                outcomes.append("kept")
            except Exception:  # noqa: BLE001 - an item's failure, of whatever kind, is its own
                outcomes.append("gone")
        return outcomes

    expected = ["kept", "gone", "kept", "gone", "kept"]
    assert in_loop(db, db.write(batch, "axa!a")) == expected
    assert hooks == ["a0", "a2", "a4"]
    assert heard == [("a", 0), ("a", 2), ("a", 4)]


def test_a_batch_that_fails_as_a_whole_keeps_no_item(db: Database) -> None:
    def batch(tx: Tx) -> None:
        with tx.savepoint():
            ledger.open_account(tx, "a")
        raise InvalidRequest("no")

    with pytest.raises(InvalidRequest):
        in_loop(db, db.write(batch))


def test_a_conflict_found_half_way_through_a_batch_loses_nothing(db: Database) -> None:
    """Whoever has the held back rows written early need not look at how that went."""
    for name in ("a", "b"):
        db.write_sync(opens, name)
    add_account = insert_into(Account, on_conflict_ignore=True)
    fresh = {"kind": "user", "balance_units": 0, "held_units": 0, "created_at_ms": 0}
    line = {
        "kind": "transfer",
        "debit_id": "a",
        "credit_id": "b",
        "amount_units": 0,
        "hold_id": None,
        "ref": "",
    }

    def batch(tx: Tx) -> list[str]:
        def act(name: str) -> str:
            tx.add(add_account, id="shared", **fresh)
            tx.add(ledger.INSERT_TRANSFER, id=name, created_at_ms=0, **line)
            if name == "second":
                tx.flush()
            return name

        return [str(done) for done in tx.each(["first", "second", "third"], act)]

    assert db.write_sync(batch) == ["first", "second", "third"]
    lines = db.read_sync(lambda tx: tx.query(text("SELECT id FROM transfers ORDER BY id")))
    assert [row.id for row in lines] == ["first", "second", "third"]
    assert names(db) == {"a", "b", "shared"}
