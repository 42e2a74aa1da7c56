"""With what power an account votes on a proposal: its own, and that of those who let it vote for them."""

from typing import NamedTuple

from aitbc.coordinator.database import Tx
from aitbc.coordinator.governance import delegations, power
from aitbc.coordinator.governance import service as governance
from aitbc.coordinator.ledger import closing
from aitbc.coordinator.parameters import service as parameters


class Weighed(NamedTuple):
    """With what power an account votes on a proposal: its own, and that of those who let it vote for them.

    Base units, by account. As the snapshot has it, so it never changes.
    """

    account_id: str
    own_units: int
    for_others: dict[str, int]

    @property
    def units(self) -> int:
        return self.own_units + sum(self.for_others.values())


def weigh(tx: Tx, account_id: str, snapshot_ms: int, age_ms: int) -> Weighed:
    """At a snapshot; final where the books are closed up to it. What it costs grows with the delegators."""

    def of(one: str) -> int:
        return power.of(tx, one, snapshot_ms, age_ms)

    others = [one.delegator_id for one in delegations.delegators(tx, account_id, snapshot_ms)]
    return Weighed(account_id, of(account_id), {one: of(one) for one in others})


def weigh_for(tx: Tx, account_id: str, proposal_id: str) -> Weighed:
    """On a proposal. Raises ProposalNotFound."""
    row = governance.get(tx, proposal_id)
    return weigh(tx, account_id, row.snapshot_ms, row.age_ms)


def snapshot_now(tx: Tx) -> tuple[int, int]:
    """(snapshot, age) in ms, as a proposal would have them that was made now; after all that is booked so far."""
    return max(tx.now_ms, closing.closed_ms(tx)) + 1, parameters.get(tx, "governance_age_s") * 1000
