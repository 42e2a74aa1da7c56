"""A proposal from its deposit to what it changes, and every way in which it can end before."""

import pytest

from aitbc.coordinator.errors import (
    InsufficientFunds,
    InvalidRequest,
    KeyLimitExceeded,
    NotTheProposer,
    PowerTooSmall,
    ProposalInvalid,
    ProposalNotCancellable,
    ProposalNotExecutable,
    ProposalNotFound,
    TooManyProposals,
    VotingClosed,
    VotingNotOpen,
)
from aitbc.coordinator.flows.acts import governance as acts
from aitbc.coordinator.flows.acts.governance import MAX_UNDECIDED, Draft
from aitbc.coordinator.flows.views import governance as views
from aitbc.coordinator.flows.views import statement
from aitbc.coordinator.ledger.models import TREASURY
from aitbc.core.money import UNITS_PER_AIT
from tests.support.flows import MODEL, Market, Provider
from tests.support.governance import AIT, DAY_S, FEE, TEXT, Assembly

PRICE = 1_000_000  # per 1000 tokens
DEPOSIT = 100 * AIT


def events(assembly: Assembly, row: object) -> list[str]:
    view = assembly.db.read_sync(views.show, assembly.market.ctx, row.id)  # type: ignore[attr-defined]
    return [one.event for one in view.events]


def share_of_a_job(market: Market) -> float:
    """Which share of a job's price the treasury gets."""
    client, miner = market.client("buyer"), market.miner("rig", models={MODEL: PRICE})
    job = market.submit(client, cap=2 * PRICE, max_tokens=500, prompt="x" * 500)
    market.take(miner)
    return completed(market, miner, job.id)


def completed(market: Market, miner: Provider, job_id: str) -> float:
    before = market.balance(TREASURY).balance_units
    receipt = market.complete(miner, job_id, "y" * 500, (500, 500))
    return (market.balance(TREASURY).balance_units - before) / receipt.price_units


def test_a_proposal_raises_the_fee_and_the_next_job_pays_it(market: Market, assembly: Assembly) -> None:
    alice, bob = assembly.member("alice"), assembly.member("bob", 200)
    assembly.age()
    row = assembly.propose(alice, FEE)
    assert row.status == "pending" and market.balance("alice").held_units == DEPOSIT
    assembly.at(row.starts_ms)
    assembly.vote(alice, row)
    assembly.vote(bob, row, "against")
    assert assembly.ended(row).status == "queued"
    assert market.balance("alice").held_units == 0, "the deposit is back"
    with pytest.raises(ProposalNotExecutable, match="not before"):
        market.db.write_sync(acts.execute, bob, row.id)
    assert share_of_a_job(market) == 0.1, "the timelock runs, the old fee holds"

    assembly.at(assembly.now(row).execute_after_ms - 1_000)
    client, miner = market.client("buyer"), market.miner("rig", models={MODEL: PRICE})
    running = market.submit(client, cap=2 * PRICE, max_tokens=500, prompt="x" * 500)
    market.take(miner)
    assembly.at(assembly.now(row).execute_after_ms)
    market.heartbeat(miner)
    done = market.db.write_sync(acts.execute, bob, row.id)
    assert done.status == "executed" and assembly.parameter("fee_bps") == 2_000
    assert completed(market, miner, running.id) == 0.1, "a running job pays the old fee"
    assert share_of_a_job(market) == 0.2, "the next job pays the new one"
    assert events(assembly, row) == ["created", "opened", "quorum", "passed", "queued", "executed"]
    with pytest.raises(ProposalNotExecutable, match="executed"):
        market.db.write_sync(acts.execute, bob, row.id)
    market.check()


def test_the_default_price_and_the_lease_time_change_too(market: Market, assembly: Assembly) -> None:
    alice = assembly.member("alice")
    assembly.age()
    rows = [
        assembly.propose(alice, Draft("parameter_change", "Cheaper", "", "default_price_per_1k_tokens", 7)),
        assembly.propose(alice, Draft("parameter_change", "Longer", "", "lease_s", 600)),
    ]
    run = assembly.db.read_sync(views.show, market.ctx, rows[1].id).dry_run
    assert (run.what, run.before, run.after, run.obstacle) == ("lease_s", 60, 600, "")
    assembly.at(rows[1].starts_ms)
    for row in rows:
        assembly.vote(alice, row)
    for row in rows:
        assembly.ended(row)
    buyer, miner = market.client("buyer"), market.miner("rig")
    market.submit(buyer)
    (before,) = market.take(miner)
    assert before.lease_expires_at_ms == market.clock.now_ms() + 60_000
    market.complete(miner, before.id)
    assembly.at(assembly.now(rows[1]).execute_after_ms - 1_000)
    market.submit(buyer)
    (running,) = market.take(miner)
    assembly.at(assembly.now(rows[1]).execute_after_ms)
    for row in rows:
        assert assembly.step(row).status == "executed"
    market.heartbeat(miner)
    assert market.job(running.id).lease_expires_at_ms == market.clock.now_ms() + 60_000, "it runs already"
    market.complete(miner, running.id)
    market.submit(buyer)
    (after,) = market.take(miner)
    assert after.lease_expires_at_ms == market.clock.now_ms() + 600_000
    market.clock.advance(10)
    market.heartbeat(miner)
    assert market.job(after.id).lease_expires_at_ms == market.clock.now_ms() + 600_000
    assert assembly.parameter("default_price_per_1k_tokens") == 7
    market.complete(miner, after.id)
    market.check()


def test_the_treasury_pays_what_was_allotted(market: Market, assembly: Assembly) -> None:
    alice = assembly.member("alice")
    assembly.age()
    draft = Draft("fund_allocation", "For the docs", "", recipient_id="writer", amount_units=DEPOSIT)
    row = assembly.opened(alice, draft)
    assembly.vote(alice, row)
    row = assembly.ended(row)
    assert row.status == "queued"
    with pytest.raises(ProposalNotExecutable):
        assembly.at(row.execute_after_ms)
        market.db.write_sync(acts.execute, alice, row.id)
    late = assembly.step(row)
    assert late.status == "queued" and "treasury" in assembly.now(row).reason
    lost = assembly.propose(alice)  # nobody votes on it, so its deposit fills the treasury
    assert assembly.ended(lost).status == "expired"
    assert market.balance(TREASURY).balance_units == DEPOSIT
    assert assembly.step(row).status == "executed"
    assert market.balance("writer").balance_units == DEPOSIT
    assert market.balance(TREASURY).balance_units == 0
    market.check()


def test_what_cannot_be_executed_expires_after_its_window(market: Market, assembly: Assembly) -> None:
    alice = assembly.member("alice")
    assembly.age()
    draft = Draft("fund_allocation", "A palace", "", recipient_id="king", amount_units=10**12)
    row = assembly.opened(alice, draft)
    assembly.vote(alice, row)
    row = assembly.executed(assembly.ended(row))
    assert row.status == "queued"
    assembly.at(row.execute_by_ms)
    with pytest.raises(ProposalNotExecutable):
        market.db.write_sync(acts.execute, alice, row.id)
    assert assembly.step(row).status == "expired"
    assert market.balance("alice").balance_units == 1_000 * AIT, "its deposit was given back when it passed"
    market.check()


@pytest.mark.parametrize(
    ("votes", "status", "lost"),
    [
        ({"alice": "for"}, "passed", False),
        ({"alice": "against"}, "rejected", False),
        ({"alice": "for", "bob": "against"}, "rejected", False),  # half is not more than half
        ({"alice": "for", "bob": "abstain"}, "passed", False),
        ({"alice": "for", "bob": "veto"}, "rejected", True),
        ({"alice": "for", "carol": "for", "bob": "veto"}, "rejected", True),  # a third is enough
        ({"dave": "for"}, "expired", True),
        ({}, "expired", True),
    ],
)
def test_how_a_vote_ends(
    market: Market, assembly: Assembly, votes: dict[str, str], status: str, lost: bool
) -> None:
    members = {name: assembly.member(name) for name in ("alice", "bob", "carol")}
    members["dave"] = assembly.member("dave", 100)
    assembly.set("governance_quorum_bps", 1_000)  # of 3100: 310
    assembly.age()
    row = assembly.opened(members["carol"])
    for name, choice in votes.items():
        assembly.vote(members[name], row, choice)
    assert assembly.ended(row).status == status
    held = market.balance("carol")
    assert (held.balance_units, held.held_units) == (1_000 * AIT - (DEPOSIT if lost else 0), 0)
    assert market.balance(TREASURY).balance_units == (DEPOSIT if lost else 0)
    assert assembly.step(row) == assembly.now(row), "time does nothing more to it"
    with pytest.raises(VotingClosed):
        assembly.vote(members["alice"], row)
    market.check()


def test_before_and_after_there_is_no_vote(assembly: Assembly) -> None:
    alice = assembly.member("alice")
    assembly.age()
    row = assembly.propose(alice)
    assembly.at(row.starts_ms - 1)
    with pytest.raises(VotingNotOpen):
        assembly.vote(alice, row)
    assembly.at(row.starts_ms)
    assembly.vote(alice, row)
    assembly.at(row.ends_ms - 1)
    assembly.vote(alice, row, "against")
    assembly.at(assembly.now(row).ends_ms)
    with pytest.raises(VotingClosed):
        assembly.vote(alice, row)
    assert assembly.now(row).against_units == 1_000 * AIT


def test_a_quorum_that_is_reached_late_extends_the_vote_once(assembly: Assembly) -> None:
    alice, bob = assembly.member("alice"), assembly.member("bob")
    assembly.age()
    row = assembly.opened(alice)
    assembly.at(row.ends_ms - 1_000)
    assembly.vote(alice, row)
    later = assembly.now(row)
    assert later.extended == 1 and later.ends_ms == row.ends_ms - 1_000 + 7_200_000
    assembly.at(later.ends_ms - 1)
    assembly.vote(bob, row, "against")
    assert assembly.now(row).ends_ms == later.ends_ms, "once"
    assert assembly.ended(row).status == "rejected"


def test_an_early_quorum_extends_nothing(assembly: Assembly) -> None:
    alice = assembly.member("alice")
    assembly.age()
    row = assembly.opened(alice)
    assembly.vote(alice, row)
    assert (assembly.now(row).ends_ms, assembly.now(row).extended) == (row.ends_ms, 0)


def test_only_the_proposer_takes_it_back_and_only_before_the_vote(market: Market, assembly: Assembly) -> None:
    alice, bob = assembly.member("alice"), assembly.member("bob")
    assembly.age()
    row, other = assembly.propose(alice, FEE), assembly.propose(alice, FEE)
    with pytest.raises(NotTheProposer):
        market.db.write_sync(acts.cancel, bob, row.id)
    assert market.db.write_sync(acts.cancel, alice, row.id).status == "cancelled"
    assert market.balance("alice").held_units == DEPOSIT, "of the other"
    with pytest.raises(ProposalNotCancellable):
        market.db.write_sync(acts.cancel, alice, row.id)
    assembly.at(other.starts_ms)
    with pytest.raises(ProposalNotCancellable):
        market.db.write_sync(acts.cancel, alice, other.id)
    with pytest.raises(ProposalNotFound):
        market.db.write_sync(acts.cancel, alice, "nothing")
    market.check()


def test_a_copy_of_a_proposal_blocks_nobody(assembly: Assembly) -> None:
    alice, mallory = assembly.member("alice"), assembly.member("mallory")
    assembly.age()
    copies = [assembly.propose(mallory, FEE) for _ in range(MAX_UNDECIDED)]
    row = assembly.propose(alice, FEE)
    assert row.id not in {one.id for one in copies}
    for one in copies:
        assembly.db.write_sync(acts.cancel, mallory, one.id)
    assembly.at(row.starts_ms)
    assembly.vote(alice, row)
    assembly.vote(mallory, row, "against")
    assembly.vote(mallory, row, "for")
    assert assembly.executed(assembly.ended(row)).status == "executed"


@pytest.mark.parametrize(
    ("draft", "refusal"),
    [
        (FEE._replace(parameter="gravity"), InvalidRequest),
        (FEE._replace(value=5_001), InvalidRequest),
        (FEE._replace(value=-1), InvalidRequest),
        (FEE._replace(value=None), InvalidRequest),
        (FEE._replace(amount_units=1), ProposalInvalid),
        (TEXT._replace(parameter="fee_bps"), ProposalInvalid),
        (TEXT._replace(value=1), ProposalInvalid),
        (TEXT._replace(type="fund_allocation"), ProposalInvalid),
        (TEXT._replace(type="fund_allocation", recipient_id="bob"), ProposalInvalid),
        (TEXT._replace(recipient_id="bob"), ProposalInvalid),
    ],
)
def test_what_cannot_be_proposed(
    market: Market, assembly: Assembly, draft: Draft, refusal: type[Exception]
) -> None:
    alice = assembly.member("alice")
    assembly.age()
    with pytest.raises(refusal):
        assembly.propose(alice, draft)
    assert market.balance("alice").held_units == 0


def test_who_cannot_propose(market: Market, assembly: Assembly) -> None:
    poor, rich = assembly.member("poor", 99), assembly.member("rich", 100)
    limited = market.client("limited", 1_000 * AIT, limit=DEPOSIT - 1)
    assembly.age()
    new = assembly.member("new")
    for who in (poor, new):
        with pytest.raises(PowerTooSmall):
            assembly.propose(who)
    assembly.set("governance_deposit", 101 * UNITS_PER_AIT)
    with pytest.raises(InsufficientFunds):
        assembly.propose(rich)
    with pytest.raises(KeyLimitExceeded):
        assembly.propose(limited)
    assembly.set("governance_deposit", 0)
    for _ in range(MAX_UNDECIDED):
        row = assembly.propose(rich)
    with pytest.raises(TooManyProposals):
        assembly.propose(rich)
    market.db.write_sync(acts.cancel, rich, row.id)
    assembly.propose(rich)
    market.check()


def test_its_rules_are_those_of_when_it_was_made(assembly: Assembly) -> None:
    alice = assembly.member("alice")
    assembly.age()
    row = assembly.opened(alice, FEE)
    for name in ("quorum_bps", "threshold_bps"):
        assembly.set(f"governance_{name}", 9_000)
    assembly.set("governance_timelock_s", 30 * DAY_S)
    assembly.vote(alice, row)
    assert assembly.executed(assembly.ended(row)).status == "executed"
    assert assembly.now(row).execute_after_ms == row.ends_ms + 3_600_000


def test_governance_governs_itself(assembly: Assembly) -> None:
    alice = assembly.member("alice")
    assembly.age()
    row = assembly.opened(alice, Draft("parameter_change", "All of us", "", "governance_quorum_bps", 10_000))
    assembly.vote(alice, row)
    assembly.executed(assembly.ended(row))
    assert assembly.propose(alice).quorum_units == 1_000 * AIT


def test_a_lost_deposit_stands_in_both_statements(assembly: Assembly) -> None:
    alice = assembly.member("alice")
    assembly.age()
    row = assembly.ended(assembly.opened(alice))
    to_ms = assembly.close()
    for account, amount in (("alice", -DEPOSIT), (TREASURY, DEPOSIT)):
        page = assembly.db.read_sync(statement.read, account, 0, to_ms, 10, None)
        last = page.rows[-1]
        assert (last.amount_units, last.role, last.job_id) == (amount, "account", None)
        assert last.reference == f"proposal {row.id}"
