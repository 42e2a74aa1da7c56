"""Everything that is done to a proposal, and a delegation, with what must be true once it has been done."""

from __future__ import annotations

from aitbc.coordinator.database import Tx
from aitbc.coordinator.flows.acts import governance as acts
from aitbc.coordinator.flows.acts.governance import Draft
from aitbc.coordinator.flows.acts.idempotency import once
from aitbc.coordinator.flows.shared import weighing
from aitbc.coordinator.governance import delegations
from aitbc.coordinator.governance import service as governance
from aitbc.coordinator.governance.service import ProposalRow, VoteRow
from aitbc.coordinator.idempotency.service import Answer, IdempotencyKey
from aitbc.coordinator.ledger.models import TREASURY
from aitbc.coordinator.parameters import service as parameters
from aitbc.core.transfer_ids import PROPOSAL
from tests.coordinator.faults.acts import Act, Scene
from tests.support.flows import Market
from tests.support.governance import FEE, TEXT, Assembly

UNITS = 10_000
"""What each account of a scene has, base units."""
DEPOSIT = 1_000
PART = 600
"""What is allotted out of one lost deposit."""
RULES = {
    "age_s": 1,
    "quorum_bps": 100,  # of all the scenes of a market, in each of which only two accounts vote
    "deposit": DEPOSIT,
    "min_power": DEPOSIT,
    "delay_s": 60,
    "voting_s": 3_600,
    "extension_s": 3_600,
}


class ProposalScene(Scene):
    """A client with a key that has a limit, and another client that lets it vote for both."""

    row: ProposalRow
    weighed: weighing.Weighed

    def __init__(self, market: Market) -> None:
        super().__init__(market)
        self.assembly = Assembly(market, **RULES)
        self.other = market.client(f"other-{self.tag}", UNITS)
        self.assembly.delegate(self.other, self.client.account_id)
        market.clock.advance(2)
        self.snapshot_ms = self.assembly.close()
        self.treasury = self.units(TREASURY)

    def proposed(self, draft: Draft = TEXT) -> ProposalScene:
        self.row = self.assembly.propose(self.client, draft)
        self.weighed = self.market.db.read_sync(weighing.weigh_for, self.client.account_id, self.row.id)
        return self

    def due(self) -> ProposalScene:
        """Its vote may begin, and nobody has looked yet."""
        self.assembly.at(self.row.starts_ms)
        return self

    def voted(self) -> ProposalScene:
        """By the client, for both accounts."""
        self.due()
        self.market.db.write_sync(acts.vote, self.row.id, self.weighed, "for")
        return self

    def over(self) -> ProposalScene:
        """The time of its vote is over, and nobody has looked yet."""
        self.assembly.at(self.proposal().ends_ms)
        return self

    def queued(self) -> ProposalScene:
        """It has passed, and its timelock is over."""
        self.voted().over()
        self.assembly.step(self.row)
        self.assembly.at(self.proposal().execute_after_ms)
        return self

    def with_treasury(self) -> ProposalScene:
        """The treasury has a deposit that was lost."""
        lost = self.assembly.propose(self.other)
        self.assembly.at(lost.ends_ms)
        assert self.assembly.step(lost).status == "expired"
        self.treasury = self.units(TREASURY)
        return self

    def fee(self) -> Draft:
        """A fee that no other scene nearby has."""
        return FEE._replace(value=1_001 + Scene.numbers % 3_000)

    def part(self) -> Draft:
        """For an account that is not there yet."""
        return Draft("fund_allocation", "A part", "", recipient_id=f"writer-{self.tag}", amount_units=PART)

    def proposal(self) -> ProposalRow:
        return self.assembly.now(self.row)

    def votes(self) -> list[VoteRow]:
        return self.market.db.read_sync(governance.votes_after, self.row.id, "", 10)

    def units(self, account_id: str) -> int:
        return self.market.balance(account_id).balance_units

    def money(self) -> tuple[int, int, int]:
        """(what the client has, what of it is held, what the treasury has more than before)."""
        has = self.units(self.client.account_id)
        return has, self.held(), self.units(TREASURY) - self.treasury


def propose_once(tx: Tx, scene: ProposalScene) -> Answer:
    key = IdempotencyKey(f"scope-{scene.tag}", "key", "0" * 64)

    def act(tx: Tx) -> Answer:
        row = acts.create(tx, scene.client, scene.fee(), scene.snapshot_ms)
        return Answer(201, row.id.encode())

    return once(tx, key, act, lambda answer: answer)


def was_proposed_once(scene: ProposalScene) -> bool:
    made = scene.market.db.read_sync(governance.undecided_of, scene.client.account_id)
    return made == 1 and scene.money() == (UNITS, DEPOSIT, 0)


def has_votes(scene: ProposalScene, choice: str, casts: int) -> bool:
    """Of both accounts, and they reached the quorum once."""
    row, votes = scene.proposal(), scene.votes()
    return (
        (row.status, row.casts, row.events, row.quorum_at_ms > 0) == ("active", casts, 3, True)
        and sum(acts.tally_of(row)) == getattr(row, f"{choice}_units") == 2 * UNITS
        and {(vote.choice, vote.power_units) for vote in votes} == {(choice, UNITS)}
        and len(votes) == 2
    )


def has_delegated(scene: ProposalScene) -> bool:
    found = scene.market.db.read_sync(delegations.of, scene.client.account_id)
    return found is not None and (found.number, found.delegate_id) == (1, scene.other.account_id)


def became(scene: ProposalScene, status: str, events: int, *, deposit_back: bool) -> bool:
    row = scene.proposal()
    money = (UNITS, 0, 0) if deposit_back else (UNITS - DEPOSIT, 0, DEPOSIT)
    return (row.status, row.events) == (status, events) and scene.money() == money


def has_changed_the_fee(scene: ProposalScene) -> bool:
    change = scene.market.db.read_sync(parameters.newest, "fee_bps")
    return (
        became(scene, "executed", 6, deposit_back=True)
        and change is not None
        and (change.value_after, change.by) == (scene.row.value, PROPOSAL.of(scene.row.id))
    )


def has_allotted(scene: ProposalScene) -> bool:
    row = scene.proposal()
    return (
        (row.status, row.events) == ("executed", 6)
        and scene.units(row.recipient_id) == PART
        and scene.money() == (UNITS, 0, -PART)
    )


def changing_the_fee(market: Market) -> ProposalScene:
    scene = ProposalScene(market)
    return scene.proposed(scene.fee())


def allotting(market: Market) -> ProposalScene:
    scene = ProposalScene(market).with_treasury()
    return scene.proposed(scene.part())


GOVERNANCE_ACTS: dict[str, Act] = {
    "propose": Act(ProposalScene, lambda s: (propose_once, s), was_proposed_once),
    "vote": Act(
        lambda m: ProposalScene(m).proposed().due(),
        lambda s: (acts.vote, s.row.id, s.weighed, "for"),
        lambda s: has_votes(s, "for", 2),
    ),
    "change_vote": Act(
        lambda m: ProposalScene(m).proposed().voted(),
        lambda s: (acts.vote, s.row.id, s.weighed, "veto"),
        lambda s: has_votes(s, "veto", 4),
    ),
    "delegate": Act(
        ProposalScene,
        lambda s: (acts.delegate, s.client, s.other.account_id),
        has_delegated,
    ),
    "cancel_proposal": Act(
        lambda m: ProposalScene(m).proposed(),
        lambda s: (acts.cancel, s.client, s.row.id),
        lambda s: became(s, "cancelled", 2, deposit_back=True),
        ("PROPOSAL_NOT_CANCELLABLE",),
    ),
    "proposal_passes": Act(
        lambda m: changing_the_fee(m).voted().over(),
        lambda s: (acts.advance, s.row.id),
        lambda s: became(s, "queued", 5, deposit_back=True),
    ),
    "proposal_misses_its_quorum": Act(
        lambda m: changing_the_fee(m).over(),
        lambda s: (acts.advance, s.row.id),
        lambda s: became(s, "expired", 3, deposit_back=False),
    ),
    "execute_parameter_change": Act(
        lambda m: changing_the_fee(m).queued(),
        lambda s: (acts.execute, s.other, s.row.id),
        has_changed_the_fee,
        ("PROPOSAL_NOT_EXECUTABLE",),
    ),
    "execute_fund_allocation": Act(
        lambda m: allotting(m).queued(),
        lambda s: (acts.advance, s.row.id),
        has_allotted,
    ),
}
