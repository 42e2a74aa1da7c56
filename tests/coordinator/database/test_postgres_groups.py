"""PostgreSQL's group commit: calls that wait share a transaction, and none of them feels another's failure."""

import asyncio
from collections import Counter
from typing import Any

import psycopg
import pytest
from psycopg import errors as pg
from sqlalchemy import text

from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.database.pipe import Pipe
from aitbc.coordinator.errors import InvalidRequest, StorageUnavailable
from aitbc.coordinator.ledger import service as ledger
from tests.support.flows import in_loop

pytestmark = pytest.mark.parametrize("databases", ["postgresql"], indirect=True)


class Calls:
    """Calls that open an account each, and count how often they ran."""

    def __init__(self, db: Database, database_url: str) -> None:
        self.db = db
        self.url = database_url
        self.runs: Counter[str] = Counter()
        self.hooks: list[str] = []
        self.groups: list[int] = []
        db.backend.on_batch = self.groups.append

    def good(self, tx: Tx, name: str) -> str:
        self.runs[name] += 1
        ledger.open_account(tx, name)
        tx.after_commit(self.hooks.append, name)
        return name

    def fails_early(self, tx: Tx, name: str) -> str:
        self.runs[name] += 1
        tx.after_commit(self.hooks.append, name)
        raise InvalidRequest(name)

    def fails_late(self, tx: Tx, name: str) -> str:
        self.good(tx, name)
        raise InvalidRequest(name)

    def breaks_a_check(self, tx: Tx, name: str) -> str:
        self.good(tx, name)
        tx.change(text("UPDATE accounts SET held_units = -1"))
        return name

    def swallows(self, tx: Tx, name: str) -> str:
        self.good(tx, name)
        try:
            tx.change(text("UPDATE accounts SET held_units = -1"))
        except psycopg.Error:
            return name
        raise AssertionError

    def names(self) -> set[str]:
        with psycopg.connect(self.url) as connection:
            return {row[0] for row in connection.execute("SELECT id FROM accounts")}

    def together(self, *calls: Any, then: Any = None) -> list[Any]:
        """The outcomes of calls written at once, each given as (function, name), and of one written later."""

        async def main() -> list[Any]:
            writes = (self.db.write(act, name) for act, name in calls)
            found = await asyncio.gather(*writes, return_exceptions=True)
            return found if then is None else [*found, await self.db.write(*then)]

        return in_loop(self.db, main())


@pytest.fixture
def calls(db: Database, database_url: str) -> Calls:
    return Calls(db, database_url)


def test_calls_that_wait_share_a_transaction(calls: Calls) -> None:
    wanted = [f"a{n}" for n in range(40)]
    assert calls.together(*((calls.good, name) for name in wanted)) == wanted
    assert calls.names() == set(wanted) == set(calls.hooks)
    assert sum(calls.groups) == 40
    assert len(calls.groups) < 20
    assert set(calls.runs.values()) == {1}


def test_a_call_that_fails_early_does_not_disturb_the_others(calls: Calls) -> None:
    found = calls.together((calls.good, "a"), (calls.fails_early, "no"), (calls.good, "b"))
    assert [type(one) for one in found] == [str, InvalidRequest, str]
    assert calls.names() == {"a", "b"} == set(calls.hooks)
    assert set(calls.runs.values()) == {1}


@pytest.mark.parametrize(
    ("kind", "error"),
    [("fails_late", InvalidRequest), ("breaks_a_check", pg.CheckViolation), ("swallows", RuntimeError)],
)
def test_a_call_that_spoils_the_group_is_undone_alone(calls: Calls, kind: str, error: type) -> None:
    bad = getattr(calls, kind)
    good = [(calls.good, f"a{n}") for n in range(10)]
    found = calls.together(*good[:5], (bad, "no"), *good[5:])
    assert [type(one) for one in found] == [*[str] * 5, error, *[str] * 5]
    assert calls.names() == {name for _, name in good}
    assert sorted(calls.hooks) == sorted(calls.names()), "hooks ran once, and only what was committed"


def test_a_silent_rollback_of_a_group_is_no_commit(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL answers the COMMIT of a failed transaction with ROLLBACK, and no error.

    Here nothing notices before that the transaction has failed: the word that it answers decides. A group of
    one, since a savepoint's end would tell as well.
    """
    monkeypatch.setattr(Pipe, "failed", property(lambda _pipe: False))
    found = calls.together((calls.swallows, "no"), then=(calls.good, "c"))
    assert [type(one) for one in found] == [RuntimeError, str], "and the connection goes on"
    assert calls.names() == {"c"} == set(calls.hooks)
    assert calls.runs["no"] == 2, "in its group, and then by itself"


def test_a_connection_lost_before_the_commit_is_tried_again(calls: Calls, database_url: str) -> None:
    def is_cut_off(tx: Tx, name: str) -> str:
        pid = tx.query(text("SELECT pg_backend_pid() AS pid"))[0].pid
        if calls.runs["cut"] == 0:
            calls.runs["cut"] += 1
            with psycopg.connect(database_url, autocommit=True) as admin:
                admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        return calls.good(tx, name)

    assert calls.together((calls.good, "a"), (is_cut_off, "b"), (calls.good, "c")) == ["a", "b", "c"]
    assert calls.names() == {"a", "b", "c"}


def test_a_connection_lost_while_committing_is_never_tried_again(calls: Calls, database_url: str) -> None:
    def is_cut_off_at_the_end(tx: Tx, name: str) -> str:
        calls.good(tx, name)
        pid = tx.query(text("SELECT pg_backend_pid() AS pid"))[0].pid
        with psycopg.connect(database_url, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        return name

    found = calls.together((is_cut_off_at_the_end, "a"), then=(calls.good, "b"))
    assert isinstance(found[0], StorageUnavailable)
    assert found[1] == "b"
    assert calls.runs["a"] == 1
    assert calls.hooks == ["b"]
    assert calls.names() == {"b"}


def test_stopping_finishes_what_waits(calls: Calls) -> None:
    async def main() -> list[str]:
        await calls.db.start()
        writes = [asyncio.create_task(calls.db.write(calls.good, f"a{n}")) for n in range(20)]
        await asyncio.sleep(0)
        await calls.db.stop()
        with pytest.raises(StorageUnavailable):
            await calls.db.write(calls.good, "late")
        return await asyncio.gather(*writes)

    assert asyncio.run(main()) == [f"a{n}" for n in range(20)]
