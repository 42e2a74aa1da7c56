"""Callers that go away, databases that close, errors on their way out."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.errors import AitbcError, StorageUnavailable
from aitbc.coordinator.ledger import service as ledger
from tests.coordinator.database.accounts import names, opens
from tests.support.flows import in_loop


def test_a_cancelled_caller_disturbs_nobody(db: Database) -> None:
    """Its call is done whole or not at all; its neighbours are answered."""

    async def main() -> None:
        tasks = [asyncio.create_task(db.write(opens, f"a{n}")) for n in range(30)]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for n, answer in enumerate(answers):
            assert isinstance(answer, asyncio.CancelledError) if n % 3 == 0 else answer == f"a{n}"
        assert await db.write(opens, "after") == "after"

    in_loop(db, main())


def test_stopping_finishes_what_was_queued(db: Database, database_url: str) -> None:
    async def main() -> list[Any]:
        await db.start()
        tasks = [asyncio.create_task(db.write(opens, f"a{n}")) for n in range(40)]
        await asyncio.sleep(0)
        await db.stop()
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == [f"a{n}" for n in range(40)]
    again = Database.open(database_url)
    assert names(again) == {f"a{n}" for n in range(40)}
    again.close()


def test_a_stopped_database_says_so(db: Database) -> None:
    async def main() -> None:
        await db.start()
        await db.write(opens, "a")
        await db.stop()
        with pytest.raises(StorageUnavailable):
            await db.write(opens, "b")
        with pytest.raises(StorageUnavailable):
            await db.read(ledger.balance, "a")

    asyncio.run(main())
    with pytest.raises(StorageUnavailable):
        db.write_sync(opens, "c")


def test_an_unknown_kind_of_database_is_refused() -> None:
    with pytest.raises(ValueError, match="sqlite:///"):
        Database.open("mysql://localhost/x")
    with pytest.raises(ValueError, match="name a file"):
        Database.open("sqlite:///:memory:")


def test_errors_keep_their_kind(db: Database) -> None:
    """What a flow raises is what its caller catches, through either way in."""

    def fails(tx: Tx) -> None:
        raise AitbcError("as it was", detail=1)

    with pytest.raises(AitbcError) as raised:
        db.write_sync(fails)
    assert raised.value.details == {"detail": 1}
    with pytest.raises(AitbcError) as raised:
        in_loop(db, db.write(fails))
    assert raised.value.message == "as it was"


def test_an_error_that_was_swallowed_is_never_reported_as_a_commit(db: Database) -> None:
    """PostgreSQL answers COMMIT of a failed transaction with a silent rollback."""

    def swallows(tx: Tx) -> str:
        ledger.open_account(tx, "a")
        try:
            tx.query(text("SELECT * FROM there_is_no_such_table"))
        except Exception:  # noqa: BLE001 - what no domain function may do
            return "done"
        return "unreachable"

    try:
        db.write_sync(swallows)
    except Exception:  # noqa: BLE001 - whichever: it was not reported as done
        assert "a" not in names(db)
    else:
        assert "a" in names(db)
