"""Many at once: twenty threads, two coordinators on one database. What was decided is done once."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aitbc.audit.database import audit
from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.errors import AitbcError
from aitbc.coordinator.flows.acts import governance as acts
from aitbc.coordinator.flows.acts.governance import MAX_UNDECIDED, Draft
from aitbc.coordinator.flows.shared import weighing
from aitbc.coordinator.governance import service as governance
from aitbc.coordinator.ledger.models import TREASURY
from aitbc.coordinator.parameters import service as parameters
from aitbc.coordinator.process.loops import deciding
from tests.support.flows import CHAIN, Market, in_loop, runtime_over
from tests.support.governance import AIT, FEE, Assembly


def code_of(act: Callable[[], Any]) -> str:
    try:
        act()
    except AitbcError as error:
        return error.code
    return "done"


def test_twenty_votes_at_once_are_one(assembly: Assembly, market: Market) -> None:
    alice, bob = assembly.member("alice"), assembly.member("bob")
    assembly.delegate(bob, "alice")
    assembly.age()
    row = assembly.opened(alice)
    with ThreadPoolExecutor(20) as threads:
        choices = ("for", "against", "abstain", "veto")
        list(threads.map(lambda number: assembly.vote(alice, row, choices[number % 4]), range(16)))
        list(threads.map(lambda _: assembly.vote(bob, row, "veto"), range(4)))
    now = assembly.now(row)
    assert now.for_units + now.against_units + now.abstain_units + now.veto_units == 2_000 * AIT
    assert now.veto_units >= 1_000 * AIT
    market.check()


def test_twenty_proposals_at_once_are_as_many_as_are_allowed(assembly: Assembly, market: Market) -> None:
    alice = assembly.member("alice")
    assembly.age()
    with ThreadPoolExecutor(20) as threads:
        codes = list(threads.map(lambda _: code_of(lambda: assembly.propose(alice)), range(20)))
    assert codes.count("done") == MAX_UNDECIDED and set(codes) == {"done", "TOO_MANY_PROPOSALS"}
    assert market.balance("alice").held_units == MAX_UNDECIDED * 100 * AIT


@pytest.mark.parametrize("kind", ["parameter", "treasury"])
def test_twenty_executions_at_once_are_one(assembly: Assembly, market: Market, kind: str) -> None:
    alice = assembly.member("alice")
    assembly.age()
    draft = Draft("fund_allocation", "A part", "", recipient_id="writer", amount_units=60 * AIT)
    lost = assembly.opened(alice)
    assert assembly.ended(lost).status == "expired", (
        "the treasury has its deposit, enough for one but not for two"
    )
    row = assembly.opened(alice, FEE if kind == "parameter" else draft)
    assembly.vote(alice, row)
    row = assembly.ended(row)
    assembly.at(row.execute_after_ms)
    tries = [lambda: market.db.write_sync(acts.execute, alice, row.id), lambda: assembly.step(row) and None]
    with ThreadPoolExecutor(20) as threads:
        codes = list(threads.map(code_of, [tries[number % 2] for number in range(20)]))
    assert set(codes) <= {"done", "PROPOSAL_NOT_EXECUTABLE"}
    assert codes.count("done") <= 11, "of those that say so one did it, and the loop's say nothing"
    assert assembly.now(row).status == "executed" and assembly.now(row).events == 6
    if kind == "parameter":
        standing = assembly.db.read_sync(parameters.standing)
        numbers = [one.changed.number for one in standing if one.changed]
        changed = assembly.db.read_sync(parameters.newest, "fee_bps")
        assert changed is not None and changed.number == max(numbers) == len(numbers) + 1, "once"
    else:
        assert market.balance("writer").balance_units == 60 * AIT
        assert market.balance(TREASURY).balance_units == 40 * AIT
    market.check()


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
def test_two_coordinators_decide_and_execute_once(
    assembly: Assembly, market: Market, database_url: str
) -> None:
    """Each runs its loop on one database at the same time, at every step of forty proposals."""
    members = [assembly.member(f"m{number}") for number in range(8)]
    assembly.age()
    rows = [assembly.propose(who, FEE._replace(value=1_000 + at)) for at, who in enumerate(members * 5)]
    other = Market(Database.open(database_url, market.clock), market.clock, fee_bps=None)
    assembly.set("governance_deposit", 0)

    async def both() -> list[tuple[str, int]]:
        await other.db.start()
        try:
            runtimes = [runtime_over(market), runtime_over(other)]
            ids = [row.id for row in rows]
            for moment in ("starts_ms", "ends_ms", "execute_after_ms"):
                assembly.at(await market.db.read(latest_of, ids, moment))
                await asyncio.gather(*(deciding.run_once(one) for one in runtimes * 2))
                if moment == "starts_ms":
                    for proposal_id in ids:
                        weighed = await market.db.read(weighing.weigh_for, "m0", proposal_id)
                        await market.db.write(acts.vote, proposal_id, weighed, "for")
            found = [await market.db.read(governance.get, proposal_id) for proposal_id in ids]
            assert (await market.db.read(audit, CHAIN)).problems == []
            return [(one.status, one.events) for one in found]
        finally:
            await other.db.stop()

    assert in_loop(market.db, both()) == [("executed", 6)] * len(rows)


def latest_of(tx: Tx, proposal_ids: list[str], name: str) -> int:
    return max(getattr(governance.get(tx, one), name) for one in proposal_ids)
