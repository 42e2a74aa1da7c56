"""Voting power: the least that was held all the time that counts, by whomever it is borrowed, moved or marked."""

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import NoVotingPower, VoteChangedTooOften
from aitbc.coordinator.flows.acts.governance import MAX_TIMES
from aitbc.coordinator.governance import power
from aitbc.coordinator.ledger import closing, lows, marks
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.models import MINT, TREASURY
from aitbc.core.transfer_ids import new_transfer_id
from tests.support.flows import Market
from tests.support.governance import AIT, DAY_S, Assembly
from tests.support.transfers import signed_of


def move(tx: Tx, debit: str, credit: str, units: int) -> None:
    ledger.transfer(tx, new_transfer_id(tx.booked_ms), debit, credit, units, ref=signed_of())


def moved(assembly: Assembly, debit: str, credit: str, ait: int) -> None:
    assembly.db.write_sync(move, debit, credit, ait * AIT)


def test_borrowed_and_moved_tokens_vote_for_nothing(assembly: Assembly) -> None:
    alice, bob = assembly.member("alice"), assembly.member("bob")
    mallory = assembly.member("mallory", 0)
    assembly.age()
    moved(assembly, "bob", "mallory", 900)  # borrowed just before
    assembly.clock.advance(1)
    row = assembly.opened(alice)
    assert assembly.power(mallory, row) == 0
    assert assembly.power(bob, row) == 100 * AIT, "what was lent does not vote either"
    with pytest.raises(NoVotingPower):
        assembly.vote(mallory, row)
    moved(assembly, "alice", "mallory", 900)  # moved after the snapshot, when alice has voted
    assembly.vote(alice, row)
    assert assembly.power(mallory, row) == 0
    assert assembly.now(row).for_units == 1_000 * AIT, "she held it at the snapshot"


def test_what_was_away_for_a_moment_does_not_count(assembly: Assembly) -> None:
    alice, bob = assembly.member("alice"), assembly.member("bob")
    assembly.age(4)
    moved(assembly, "alice", "bob", 400)
    assembly.clock.advance(0.001)
    moved(assembly, "bob", "alice", 400)
    assembly.age(3.5)
    row = assembly.propose(bob)
    assert (assembly.power(alice, row), assembly.power(bob, row)) == (600 * AIT, 1_000 * AIT)
    assembly.age(4)
    assert assembly.power(alice) == 1_000 * AIT, "a week later it does"


def test_what_comes_and_goes_within_a_millisecond_counts_for_nothing(assembly: Assembly) -> None:
    alice, bob = assembly.member("alice"), assembly.member("bob", 0)
    assembly.age()
    moved(assembly, "alice", "bob", 400)
    moved(assembly, "bob", "alice", 400)
    row = assembly.propose(alice)
    assert (assembly.power(alice, row), assembly.power(bob, row)) == (1_000 * AIT, 0)


def test_held_money_votes(assembly: Assembly, market: Market) -> None:
    alice = assembly.member("alice")
    assembly.age()
    row, other = assembly.propose(alice), assembly.propose(alice)
    assert market.balance("alice").held_units == 200 * AIT
    assert assembly.power(alice, row) == assembly.power(alice, other) == 1_000 * AIT


def test_the_system_has_no_power_and_the_treasury_is_not_counted(assembly: Assembly) -> None:
    alice = assembly.member("alice")
    assembly.member("treasurer", 500)
    moved(assembly, "treasurer", TREASURY, 500)
    assembly.age()
    row = assembly.propose(alice)
    for account in (MINT, TREASURY, "system:escrow", "nobody"):
        assert assembly.db.read_sync(power.of, account, row.snapshot_ms, 0) == 0
    assert row.quorum_units == 100 * AIT, "a tenth of what is not in the treasury"


def test_a_vote_can_be_changed_but_not_for_ever(assembly: Assembly, market: Market) -> None:
    alice = assembly.member("alice")
    assembly.age()
    row = assembly.opened(alice)
    for number in range(MAX_TIMES):
        choice = ("for", "against", "abstain", "veto")[number % 4]
        assembly.vote(alice, row, choice)
        now = assembly.now(row)
        sums = {name: getattr(now, f"{name}_units") for name in ("for", "against", "abstain", "veto")}
        assert sums == {**dict.fromkeys(sums, 0), choice: 1_000 * AIT}
        assert assembly.vote(alice, row, choice) == [], "it is so already"
    with pytest.raises(VoteChangedTooOften):
        assembly.vote(alice, row, "for")
    market.check()


def test_delegation_goes_one_step_and_ones_own_vote_counts_first(assembly: Assembly, market: Market) -> None:
    alice, bob, carol = (assembly.member(name) for name in ("alice", "bob", "carol"))
    assembly.delegate(alice, "bob")
    assembly.delegate(bob, "carol")
    assembly.age()
    row = assembly.opened(carol)
    assert [vote.account_id for vote in assembly.vote(carol, row)] == ["carol", "bob"], "not alice"
    assert [vote.account_id for vote in assembly.vote(bob, row, "against")] == ["bob", "alice"]
    assert [vote.account_id for vote in assembly.vote(alice, row, "abstain")] == ["alice"]
    assert assembly.vote(bob, row, "veto")[0].account_id == "bob", "for itself alone"
    assert assembly.vote(carol, row) == [], "bob has voted, and carol as she does"
    now = assembly.now(row)
    assert (now.for_units, now.against_units, now.abstain_units, now.veto_units) == (
        1_000 * AIT,
        0,
        1_000 * AIT,
        1_000 * AIT,
    )
    market.check()


def test_a_delegation_counts_from_the_next_proposal_on(assembly: Assembly, market: Market) -> None:
    alice, bob = assembly.member("alice"), assembly.member("bob")
    assembly.age()
    before = assembly.opened(bob)
    assembly.delegate(alice, "bob")
    assert len(assembly.vote(bob, before)) == 1
    after = assembly.opened(bob)
    assembly.delegate(alice, "")
    assert len(assembly.vote(bob, after)) == 2, "as it was at the snapshot"
    assert len(assembly.vote(bob, assembly.opened(bob))) == 1
    market.check()


NUMBERS = itertools.count()
DAYS = st.integers(0, 20)
MOVES = st.lists(st.tuples(DAYS, st.booleans(), st.integers(1, 50)), max_size=40)


@pytest.mark.parametrize("databases", ["sqlite"], indirect=True)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(MOVES, DAYS, DAYS)
def test_it_is_the_least_of_every_moment(
    assembly: Assembly, moves: list[tuple[int, bool, int]], age: int, end: int
) -> None:
    """Against a model that adds up day by day, with marks and without."""
    name = f"a-{next(NUMBERS)}"
    assembly.market.client("bank", 10**6)
    assembly.market.client(name, 0)
    start = assembly.clock.now_ms()
    balance, history = 0, []
    for day in range(21):
        for _day, incoming, units in (one for one in moves if one[0] == day):
            units = units if incoming else min(units, balance)
            assembly.db.write_sync(move, *(("bank", name) if incoming else (name, "bank")), units)
            balance += units if incoming else -units
        history.append(balance)
        assembly.clock.advance(DAY_S)
    snapshot = start + end * DAY_S * 1000 + 1
    first = max(0, end - age)
    # The window begins a millisecond into the day from which it counts, or before all if it is longer.
    window = history[first : end + 1] if end - age >= 0 else [0, *history[: end + 1]]
    assert assembly.db.read_sync(power.of, name, snapshot, age * DAY_S * 1000) == min(window)

    def mark(tx: Tx) -> None:
        now_ms = tx.now_ms
        closed = closing.close(tx, now_ms, now_ms)
        made = marks.of_account(tx, name, closed, 100, every=2)
        tx.many(marks.INSERT_MARK, [one._asdict() for one in made])

    assembly.db.write_sync(mark)
    assert assembly.db.read_sync(power.of, name, snapshot, age * DAY_S * 1000) == min(window)


def test_old_marks_say_nothing_of_the_least_and_are_passed_over(assembly: Assembly) -> None:
    assembly.member("alice")
    assembly.member("bob")

    def old_marks(tx: Tx, unknown: bool) -> Any:
        made = marks.of_account(tx, "alice", closing.close(tx, tx.now_ms, tx.now_ms), 100, every=3)
        assert len(made) > 1
        rows = [one._replace(low_units=None) if unknown else one for one in made]
        tx.many(marks.INSERT_MARK, [row._asdict() for row in rows])

    for number in range(24):
        assembly.clock.advance(1)
        moved(assembly, *(("alice", "bob") if number % 2 == 0 else ("bob", "alice")), 100 + number)
    assembly.clock.advance(1)
    now_ms = assembly.clock.now_ms()
    expected = assembly.db.read_sync(lows.lowest, "alice", now_ms - 5_500, now_ms)
    assembly.db.write_sync(old_marks, True)
    assert assembly.db.read_sync(lows.lowest, "alice", now_ms - 5_500, now_ms) == expected
