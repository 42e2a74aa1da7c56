"""Proposals, votes, voting power, delegations and parameters, as everybody sees them."""

from typing import Any, NamedTuple

from sqlalchemy import select

from aitbc.coordinator.database import Tx
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.flows.shared import proposals, weighing
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.flows.shared.proposals import DryRun
from aitbc.coordinator.flows.shared.weighing import Weighed
from aitbc.coordinator.governance import delegations
from aitbc.coordinator.governance import service as governance
from aitbc.coordinator.governance.delegations import DelegationRow
from aitbc.coordinator.governance.models import Proposal
from aitbc.coordinator.governance.service import COLUMNS, EventRow, ProposalRow, VoteRow
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.parameters import service as parameters
from aitbc.coordinator.parameters.service import Standing

_p: Any = table_of(Proposal).c


class ProposalView(NamedTuple):
    """A proposal, what it would change now, and all that happened to it, oldest first."""

    row: ProposalRow
    dry_run: DryRun
    events: list[EventRow]


class ProposalPage(NamedTuple):
    """Proposals, newest first; `next_cursor` None at the end."""

    rows: list[ProposalRow]
    next_cursor: str | None


class VotePage(NamedTuple):
    """Votes by account; `next_cursor` None at the end."""

    rows: list[VoteRow]
    next_cursor: str | None


class PowerView(NamedTuple):
    """With what power an account votes, who votes for it, and how it voted on the proposal that was named."""

    weighed: Weighed
    snapshot_ms: int
    age_ms: int
    delegation: DelegationRow | None
    vote: VoteRow | None


class Register(NamedTuple):
    """Whom an account lets vote for it now, and who lets it vote for them, who did so first first."""

    account_id: str
    to: DelegationRow | None
    delegators: list[DelegationRow]


def show(tx: Tx, ctx: FlowContext, proposal_id: str) -> ProposalView:
    """One proposal. Raises ProposalNotFound."""
    return view(tx, ctx, governance.get(tx, proposal_id))


def view(tx: Tx, ctx: FlowContext, row: ProposalRow) -> ProposalView:
    """A proposal that was read already."""
    return ProposalView(row, proposals.dry_run(tx, ctx, row), governance.events(tx, row))


def listed(tx: Tx, *, status: str | None, limit: int, cursor: str | None) -> ProposalPage:
    """A page of proposals, newest first. `cursor`: the last id of the page before."""
    query = select(*COLUMNS).order_by(_p.id.desc()).limit(limit + 1)
    if status is not None:
        query = query.where(_p.status == status)
    if cursor is not None:
        query = query.where(_p.id < cursor)
    rows = [ProposalRow._make(row) for row in tx.query(query)]
    return ProposalPage(rows[:limit], rows[limit - 1].id if len(rows) > limit else None)


def votes(tx: Tx, proposal_id: str, *, limit: int, cursor: str | None) -> VotePage:
    """How each account votes now. Raises ProposalNotFound."""
    governance.get(tx, proposal_id)
    rows = governance.votes_after(tx, proposal_id, cursor or "", limit + 1)
    return VotePage(rows[:limit], rows[limit - 1].account_id if len(rows) > limit else None)


def power(tx: Tx, account_id: str, proposal_id: str | None) -> PowerView:
    """An account's power on a proposal, or on one that was made now. Raises ProposalNotFound, AccountNotFound."""
    ledger.balance(tx, account_id)
    if proposal_id is None:
        snapshot_ms, age_ms = weighing.snapshot_now(tx)
        weighed = weighing.weigh(tx, account_id, snapshot_ms, age_ms)
        return PowerView(weighed, snapshot_ms, age_ms, delegations.of(tx, account_id), None)
    row = governance.get(tx, proposal_id)
    return PowerView(
        weighing.weigh(tx, account_id, row.snapshot_ms, row.age_ms),
        row.snapshot_ms,
        row.age_ms,
        delegations.of(tx, account_id, row.snapshot_ms),
        governance.vote_of(tx, row.id, account_id),
    )


def register(tx: Tx, account_id: str) -> Register:
    """The public register of delegations, of one account. Raises AccountNotFound."""
    ledger.balance(tx, account_id)
    return Register(account_id, delegations.of(tx, account_id), delegations.delegators(tx, account_id))


def network_parameters(tx: Tx, ctx: FlowContext) -> list[Standing]:
    """Every parameter as it is on this coordinator, and what made it so."""
    return [
        one._replace(value=proposals.value_now(tx, ctx, one.definition.name))
        for one in parameters.standing(tx)
    ]
