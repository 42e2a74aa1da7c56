"""What a coordinator that lies about governance writes, leaves and sums that fit each other: the audit finds it."""

from collections.abc import Callable

import pytest

from aitbc.audit.database import audit
from aitbc.coordinator.database import Tx
from aitbc.coordinator.flows.acts import governance as acts
from aitbc.coordinator.flows.shared import holds
from aitbc.coordinator.flows.shared.weighing import Weighed
from aitbc.coordinator.governance import service as governance
from aitbc.coordinator.governance.service import ProposalRow
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.models import TREASURY
from aitbc.coordinator.ledger.service import Hold
from aitbc.coordinator.parameters import service as parameters
from aitbc.core.transfer_ids import ALLOCATED, PROPOSAL, stored_id
from tests.support.flows import CHAIN
from tests.support.governance import AIT, FEE, Assembly

NOBODY = "019b7c1e-5a46-7000-8000-000000000001"


def stuffed(tx: Tx, row: ProposalRow) -> None:
    acts.vote(tx, row.id, Weighed("bob", 5_000 * AIT, {}), "for")


def for_another(tx: Tx, row: ProposalRow) -> None:
    acts.vote(tx, row.id, Weighed("bob", 1_000 * AIT, {"carol": 1_000 * AIT}), "for")


def decided_by_nobody(tx: Tx, _row: ProposalRow) -> None:
    parameters.set_value(tx, "fee_bps", 4_000, PROPOSAL.of(NOBODY), "because")


def allotted_by_nobody(tx: Tx, _row: ProposalRow) -> None:
    ledger.transfer(tx, ALLOCATED.of(NOBODY), "bob", TREASURY, AIT, ref=PROPOSAL.of(NOBODY))


def passed_too_early(tx: Tx, row: ProposalRow) -> None:
    row = governance.lock(tx, row.id)
    body = {
        **dict.fromkeys(("against_units", "abstain_units", "veto_units"), "0"),
        "for_units": "100000000000",
    }
    governance.change(tx, row, "passed", body=body, status="queued", due_ms=1)


def executed_without_effect(tx: Tx, row: ProposalRow) -> None:
    row = governance.lock(tx, row.id)
    governance.change(tx, row, "executed", body={"change": "99"}, status="queued")


def deposit_let_go(tx: Tx, row: ProposalRow) -> None:
    held = Hold(stored_id(row.deposit_hold_id), row.proposer_id, row.deposit_units, PROPOSAL.of(row.id))
    holds.give_back(tx, held)


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (stuffed, "bob voted with 500000000000 units, and its power was 100000000000"),
        (for_another, "carol had not let bob vote for it"),
        (decided_by_nobody, "did not decide it"),
        (allotted_by_nobody, "no executed proposal allots it"),
        (passed_too_early, "before the end of its vote"),
        (executed_without_effect, "it was executed while it was active"),
        (deposit_let_go, "its deposit is given back or lost"),
    ],
)
def test_a_lie_is_found(assembly: Assembly, lie: Callable[[Tx, ProposalRow], None], said: str) -> None:
    alice, _bob, _carol = (assembly.member(name) for name in ("alice", "bob", "carol"))
    assembly.age()
    row = assembly.opened(alice, FEE)
    assembly.vote(alice, row)
    assert assembly.db.read_sync(audit, CHAIN).ok
    assembly.db.write_sync(lie, assembly.now(row))
    report = assembly.db.read_sync(audit, CHAIN)
    assert said in str(report.wrong), report.problems
