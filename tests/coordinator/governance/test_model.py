"""A proposal's life and tally against a model of plain dicts: whoever proposes, votes, delegates, pays and waits, in
whatever order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from aitbc.audit.database import audit
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import AitbcError
from aitbc.coordinator.flows.acts import governance as acts
from aitbc.coordinator.flows.acts.governance import Draft
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.models import MINT, TREASURY
from aitbc.core.transfer_ids import new_transfer_id
from tests.support.flows import CHAIN, Market
from tests.support.governance import AIT, Assembly
from tests.support.transfers import signed_of

BOUNDED = settings(
    max_examples=20,
    stateful_step_count=40,
    deadline=None,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
NAMES = ("ann", "ben", "cat", "dan")
HOUR_MS = 3_600_000
AGE_MS = 24 * HOUR_MS
DELAY_MS = VOTING_MS = TIMELOCK_MS = 2 * HOUR_MS
EXTENSION_MS, WINDOW_MS = HOUR_MS, 24 * HOUR_MS
DEPOSIT, ALLOTTED = 10 * AIT, 15 * AIT
CHECKED = "proposals, votes with their power, and what was decided"

names = st.sampled_from(NAMES)
choices = st.sampled_from(["for", "for", "against", "abstain", "veto"])
ANY = st.integers(0, 1_000)


@dataclass
class Motion:
    """A proposal, as it should be."""

    proposer: str
    kind: str
    made_ms: int
    quorum: int
    power: dict[str, int]
    delegate: dict[str, str]
    status: str = "pending"
    ends_ms: int = 0
    reached: bool = False
    votes: dict[str, tuple[str, str]] = field(default_factory=dict)  # by account: who cast it, how

    def __post_init__(self) -> None:
        self.ends_ms = self.made_ms + DELAY_MS + VOTING_MS

    def sums(self) -> dict[str, int]:
        sums = dict.fromkeys(("for", "against", "abstain", "veto"), 0)
        for account, (_by, choice) in self.votes.items():
            sums[choice] += self.power[account]
        return sums

    def outcome(self) -> str:
        sums = self.sums()
        cast = sum(sums.values())
        if cast < max(1, self.quorum):
            return "expired"
        if 3 * sums["veto"] >= cast:
            return "rejected"
        return "passed" if sums["for"] > sums["against"] + sums["veto"] else "rejected"


class Model:
    """Balances as they were at every moment, delegations, and motions."""

    def __init__(self) -> None:
        self.balances: dict[str, list[tuple[int, int]]] = {}  # by account: since when, how much
        self.held: dict[str, int] = {}
        self.treasury = 0
        self.delegates: dict[str, str] = {}
        self.motions: dict[str, Motion] = {}

    def has(self, name: str) -> int:
        return self.balances[name][-1][1]

    def add(self, name: str, now_ms: int, units: int) -> None:
        self.balances[name].append((now_ms, self.has(name) + units))

    def power(self, name: str, now_ms: int) -> int:
        since = now_ms - AGE_MS
        line = dict(self.balances[name])  # the last of each moment
        before = [units for at, units in line.items() if at <= since]
        return min(
            [before[-1] if before else 0, *(units for at, units in line.items() if since < at <= now_ms)]
        )

    def advance(self, motion: Motion, now_ms: int, *, decide: bool = True) -> None:
        if motion.status == "pending" and now_ms >= motion.made_ms + DELAY_MS:
            motion.status = "active"
        if not decide or motion.status != "active" or now_ms < motion.ends_ms:
            return
        result = motion.outcome()
        vetoed = 3 * motion.sums()["veto"] >= sum(motion.sums().values())
        self.held[motion.proposer] -= DEPOSIT
        if result == "expired" or (result == "rejected" and vetoed):
            self.add(motion.proposer, now_ms, -DEPOSIT)
            self.treasury += DEPOSIT
        motion.status = "queued" if result == "passed" and motion.kind != "text" else result

    def execute(self, motion: Motion, now_ms: int) -> bool:
        """Whether it can be done now; then it is."""
        due = motion.ends_ms + TIMELOCK_MS
        if motion.status != "queued" or not due <= now_ms < due + WINDOW_MS:
            return False
        if motion.kind == "fund_allocation":
            if self.treasury < ALLOTTED:
                return False
            self.treasury -= ALLOTTED
        motion.status = "executed"
        return True


def pay(tx: Tx, debit: str, credit: str, units: int) -> None:
    ledger.transfer(tx, new_transfer_id(tx.booked_ms), debit, credit, units, ref=signed_of())


class Machine(RuleBasedStateMachine):
    """Each rule does one thing to both; the invariant compares what they say of every motion."""

    assembly: Assembly
    number = 0

    @initialize(amounts=st.lists(st.integers(0, 60), min_size=4, max_size=4))
    def begin(self, amounts: list[int]) -> None:
        Machine.number += 1
        self.model = Model()
        self.who = {}
        for name, ait in zip(NAMES, amounts, strict=True):
            full = f"{name}-{Machine.number}"
            self.who[name] = self.assembly.member(full, 40 + ait)
            self.model.balances[name] = [(self.now, (40 + ait) * AIT)]
            self.model.held[name] = 0
        self.model.treasury = self.assembly.market.balance(TREASURY).balance_units
        self.assembly.clock.advance(25 * 3_600)

    @property
    def now(self) -> int:
        return self.assembly.clock.now_ms()

    def tick(self) -> None:
        """So that no two acts share a moment, which the books may be closed up to."""
        self.assembly.clock.advance(0.01)

    def both(self, act: Callable[[], Any], expected: bool) -> Any:
        """Does it; it succeeds exactly where the model says so."""
        try:
            done = act()
        except AitbcError as error:
            assert not expected, error.message
            return None
        assert expected, "it was to be refused"
        return done if done is not None else True

    @rule(hours=st.sampled_from([0.5, 1, 1, 2, 2, 3, 30]))
    def wait(self, hours: float) -> None:
        self.assembly.clock.advance(hours * 3_600)

    @rule(debit=names, credit=names, ait=st.integers(1, 40))
    def move(self, debit: str, credit: str, ait: int) -> None:
        if debit == credit:
            return
        self.tick()
        fits = self.model.has(debit) - self.model.held[debit] >= ait * AIT
        accounts = self.who[debit].account_id, self.who[credit].account_id
        if self.both(lambda: self.assembly.db.write_sync(pay, *accounts, ait * AIT), fits):
            self.model.add(debit, self.now, -ait * AIT)
            self.model.add(credit, self.now, ait * AIT)

    @rule(name=names, to=st.none() | names)
    def delegate(self, name: str, to: str | None) -> None:
        self.tick()
        before = self.model.delegates.get(name)
        if to == name or (to is None and before is None):
            return
        try:
            self.assembly.delegate(self.who[name], "" if to is None else self.who[to].account_id)
        except AitbcError as error:
            assert "times" in error.message
            return
        self.model.delegates[name] = to or ""

    @rule(name=names, kind=st.sampled_from(["text", "parameter_change", "fund_allocation"]), value=ANY)
    def propose(self, name: str, kind: str, value: int) -> None:
        self.tick()
        model, draft = self.model, Draft(kind, "A motion", "")
        if kind == "parameter_change":
            draft = draft._replace(parameter="fee_bps", value=value)
        if kind == "fund_allocation":
            draft = draft._replace(recipient_id="writer", amount_units=ALLOTTED)
        undecided = [
            m for m in model.motions.values() if m.proposer == name and m.status in ("pending", "active")
        ]
        fits = (
            model.power(name, self.now) >= 20 * AIT
            and model.has(name) - model.held[name] >= DEPOSIT
            and len(undecided) < acts.MAX_UNDECIDED
        )
        mint = self.assembly.market.balance(MINT).balance_units
        made = self.both(lambda: self.assembly.propose(self.who[name], draft), fits)
        if made:
            model.held[name] += DEPOSIT
            power = {one: model.power(one, self.now) for one in NAMES}
            quorum = -(-(-mint - model.treasury) * 100 // 10_000)
            model.motions[made.id] = Motion(name, kind, self.now, quorum, power, dict(model.delegates))

    def pick(self, number: int) -> tuple[str, Motion] | None:
        motions = list(self.model.motions.items())
        return motions[number % len(motions)] if motions else None

    @rule(name=names, number=ANY, choice=choices)
    def vote(self, name: str, number: int, choice: str) -> None:
        picked = self.pick(number)
        if picked is None:
            return
        self.tick()
        proposal_id, motion = picked
        open_now = motion.made_ms + DELAY_MS <= self.now < motion.ends_ms and motion.status in (
            "pending",
            "active",
        )
        others = [one for one in NAMES if motion.delegate.get(one) == name]
        able = open_now and sum(motion.power[one] for one in (name, *others)) > 0
        row = self.assembly.now(Row(proposal_id))  # type: ignore[arg-type]
        if self.both(lambda: self.assembly.vote(self.who[name], row, choice), able) is None:
            return
        self.model.advance(motion, self.now, decide=False)
        for one in (name, *others):
            by, _choice = motion.votes.get(one, ("", ""))
            if motion.power[one] and (one == name or by != one):
                motion.votes[one] = (name, choice)
        if not motion.reached and sum(motion.sums().values()) >= motion.quorum:
            motion.reached = True
            motion.ends_ms = max(motion.ends_ms, self.now + EXTENSION_MS)

    @rule(name=names, number=ANY)
    def cancel(self, name: str, number: int) -> None:
        picked = self.pick(number)
        if picked is None:
            return
        self.tick()
        proposal_id, motion = picked
        able = motion.proposer == name and motion.status == "pending" and self.now < motion.made_ms + DELAY_MS
        if self.both(lambda: self.assembly.db.write_sync(acts.cancel, self.who[name], proposal_id), able):
            motion.status = "cancelled"
            self.model.held[name] -= DEPOSIT

    @rule(name=names, number=ANY)
    def execute(self, name: str, number: int) -> None:
        picked = self.pick(number)
        if picked is None:
            return
        self.tick()
        proposal_id, motion = picked
        was = motion.status
        counted = Motion(**{**vars(motion), "votes": dict(motion.votes)})
        counted.ends_ms = motion.ends_ms
        trial = Model()
        trial.held, trial.treasury = {motion.proposer: 0}, self.model.treasury
        trial.balances = {motion.proposer: [(0, 0)]}
        trial.advance(counted, self.now)
        able = trial.execute(counted, self.now)
        act = lambda: self.assembly.db.write_sync(acts.execute, self.who[name], proposal_id)  # noqa: E731
        if self.both(act, able):
            self.model.advance(motion, self.now)
            assert self.model.execute(motion, self.now)
        else:
            assert motion.status == was, "what is refused changes nothing"

    @rule(number=ANY)
    def step(self, number: int) -> None:
        picked = self.pick(number)
        if picked is None:
            return
        self.tick()
        proposal_id, motion = picked
        self.assembly.step(Row(proposal_id))  # type: ignore[arg-type]
        self.model.advance(motion, self.now)
        self.model.execute(motion, self.now)
        if motion.status == "queued" and self.now >= motion.ends_ms + TIMELOCK_MS + WINDOW_MS:
            motion.status = "expired"

    @invariant()
    def they_agree(self) -> None:
        for proposal_id, motion in getattr(self, "model", Model()).motions.items():
            row = self.assembly.now(Row(proposal_id))  # type: ignore[arg-type]
            sums = {choice: getattr(row, f"{choice}_units") for choice in motion.sums()}
            assert (row.status, row.ends_ms, sums) == (motion.status, motion.ends_ms, motion.sums())
            assert row.quorum_units == motion.quorum and bool(row.quorum_at_ms) == motion.reached
        if hasattr(self, "model"):
            for name, who in self.who.items():
                money = self.assembly.market.balance(who.account_id)
                assert (money.balance_units, money.held_units) == (
                    self.model.has(name),
                    self.model.held[name],
                )
            assert self.assembly.market.balance(TREASURY).balance_units == self.model.treasury

    def teardown(self) -> None:
        if hasattr(self, "model"):
            report = self.assembly.db.read_sync(audit, CHAIN)
            assert CHECKED in report.checked, report.problems


@dataclass
class Row:
    """What the assembly needs of a proposal."""

    id: str


@pytest.fixture
def machine(market: Market) -> Iterator[type[Machine]]:
    Machine.assembly = Assembly(
        market,
        delay_s=DELAY_MS // 1000,
        voting_s=VOTING_MS // 1000,
        extension_s=EXTENSION_MS // 1000,
        timelock_s=TIMELOCK_MS // 1000,
        window_s=WINDOW_MS // 1000,
        age_s=AGE_MS // 1000,
        deposit=DEPOSIT,
        min_power=20 * AIT,
        quorum_bps=100,
    )
    yield Machine
    del Machine.assembly


def test_a_proposals_life_agrees_with_its_model(machine: type[Machine]) -> None:
    examples = 25 if machine.assembly.db.dialect == "sqlite" else 8
    run_state_machine_as_test(machine, settings=settings(BOUNDED, max_examples=examples))
