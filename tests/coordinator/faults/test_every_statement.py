"""Every statement of every flow fails once, before and after it ran, and so does every commit.

Afterwards nothing is half done, the books are right, and trying again gives the right end.
"""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.errors import AitbcError, StorageUnavailable
from aitbc.coordinator.ledger import service as ledger
from tests.coordinator.faults.acts import ACTS as OF_JOBS
from tests.coordinator.faults.acts import Act, Scene
from tests.coordinator.faults.bitcoin_acts import BITCOIN_ACTS
from tests.coordinator.faults.governance_acts import GOVERNANCE_ACTS
from tests.coordinator.faults.injection import COMMIT_AFTER, COMMIT_BEFORE, Faults
from tests.coordinator.faults.rental_acts import RENTAL_ACTS
from tests.support.flows import Market, in_loop

ACTS = {**OF_JOBS, **RENTAL_ACTS, **BITCOIN_ACTS, **GOVERNANCE_ACTS}
pytestmark = [pytest.mark.faults, pytest.mark.parametrize("name", ACTS)]
MOST_STATEMENTS = 60


def everything(tx: Tx) -> dict[str, Any]:
    """Every row of every table (on PostgreSQL a hash of them, so that one question is enough)."""
    if tx.dialect == "sqlite":
        tables = tx.query(text("SELECT name FROM sqlite_master WHERE type = 'table'"))
        return {row.name: [tuple(r) for r in tx.query(text(f"SELECT * FROM {row.name}"))] for row in tables}
    tables = tx.query(text("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'"))
    hashes = " UNION ALL ".join(
        f"SELECT '{row.name}' AS name, md5(string_agg(t::text, ',' ORDER BY t::text)) AS hash FROM {row.name} t"
        for row in tables
    )
    return {row.name: row.hash for row in tx.query(text(hashes))}


def retried(act: Act, scene: Scene) -> None:
    """The call once more, as its caller would make it; it may find that it was done after all."""
    fn, *args = act.call(scene)
    try:
        scene.market.db.write_sync(fn, *args)
    except AitbcError as error:
        assert error.code in act.again
    assert act.done(scene)


def test_a_failing_statement_leaves_nothing_behind(market: Market, name: str) -> None:
    act = ACTS[name]
    for after in (False, True):
        scene = act.prepare(market)
        before = market.db.read_sync(everything)
        fn, *args = act.call(scene)
        for at in range(1, MOST_STATEMENTS):
            with Faults(market.db, at, after=after) as faults:
                try:
                    market.db.write_sync(faults.armed(fn), *args)
                except StorageUnavailable:
                    assert faults.fired == 1
            if not faults.fired:
                assert act.done(scene), "tried again without a fault it is done as if nothing had happened"
                break
            assert market.db.read_sync(everything) == before
        assert at > 2, "it has statements that can fail"
        retried(act, scene)
    market.check()


def test_a_commit_that_fails_is_all_or_nothing(market: Market, name: str) -> None:
    act = ACTS[name]
    for at in (COMMIT_BEFORE, COMMIT_AFTER):
        scene = act.prepare(market)
        before = market.db.read_sync(everything)
        fn, *args = act.call(scene)
        with Faults(market.db, at) as faults, pytest.raises(StorageUnavailable):
            market.db.write_sync(faults.armed(fn), *args)
        assert faults.fired == 1
        market.check()
        if at == COMMIT_BEFORE:
            assert market.db.read_sync(everything) == before
        elif name != "register":  # whose `done` takes the job
            assert act.done(scene), "it was durable, only nobody heard so"
        retried(act, scene)
    market.check()


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
def test_a_conflict_at_any_statement_is_tried_again_by_itself(market: Market, name: str) -> None:
    act = ACTS[name]
    for at in (COMMIT_BEFORE, *range(1, MOST_STATEMENTS)):
        scene = act.prepare(market)
        fn, *args = act.call(scene)
        with Faults(market.db, at, after=True, conflict=True) as faults:
            faults.commit = once_only(faults)  # type: ignore[method-assign]
            market.db.write_sync(faults.armed(fn), *args)
        assert act.done(scene)
        if not faults.fired:
            break
    assert at > 2, "its commit and its statements can meet one"
    market.check()


def once_only(faults: Faults) -> Any:
    commit = faults.commit

    def run(execute: Any) -> Any:
        return execute() if faults.fired else commit(execute)

    return run


@pytest.mark.parametrize("databases", ["sqlite"], indirect=True)
def test_in_a_group_commit_the_neighbours_are_spared(market: Market, name: str) -> None:
    """The fault comes again when the batch is run again, so the call fails; the others do not notice."""
    act, database = ACTS[name], market.db

    async def main() -> None:
        for after in (False, True):
            scene = act.prepare(market)
            before = everything_but_accounts(database)
            fn, *args = act.call(scene)
            for at in range(1, MOST_STATEMENTS):
                with Faults(database, at, after=after) as faults:
                    first, failed, last = await asyncio.gather(
                        database.write(ledger.open_account, f"left-{scene.tag}-{at}"),
                        database.write(faults.armed(fn), *args),
                        database.write(ledger.open_account, f"right-{scene.tag}-{at}"),
                        return_exceptions=True,
                    )
                assert (first, last) == (True, True)
                if not faults.fired:
                    assert act.done(scene)
                    break
                assert isinstance(failed, StorageUnavailable)
                assert everything_but_accounts(database) == before
        market.check()

    in_loop(database, main())


def everything_but_accounts(database: Database) -> dict[str, Any]:
    found = database.read_sync(everything)
    found["accounts"] = [row for row in found["accounts"] if not row[0].startswith(("left-", "right-"))]
    return found
