"""Proposals as they stand, and the append-only history of all that happened to them, of votes and of delegations."""

from sqlalchemy import CheckConstraint, Index
from sqlalchemy import text as sql
from sqlmodel import SQLModel

from aitbc.coordinator.database.append_only import append_only
from aitbc.coordinator.database.columns import big, listed, small, text

TYPES = ("parameter_change", "fund_allocation", "text")
CHOICES = ("for", "against", "abstain", "veto")
TRANSITIONS: dict[str, tuple[str, ...]] = {
    "pending": ("active", "cancelled"),
    "active": ("passed", "queued", "rejected", "expired"),
    "queued": ("executed", "expired"),
    "passed": (),
    "rejected": (),
    "expired": (),
    "cancelled": (),
    "executed": (),
}
"""What the guarded updates allow. A text that passed has nothing to execute, and stays `passed`."""

STATUSES = tuple(TRANSITIONS)
DUE = "due_ms IS NOT NULL"


class Proposal(SQLModel, table=True):
    """A proposal as it stands now. Derived from its events and votes, which are for good.

    parameter, value        of a parameter_change, in the parameter's own unit; '' and NULL of the others
    recipient_id, amount_units   of a fund_allocation; '' and 0 of the others
    snapshot_ms             what accounts held before it, for `age_ms` without a gap, is their power
    quorum_units            how much has to vote: a share of all that could, as it was at the snapshot
    starts_ms, ends_ms      of its vote, the end not with it; it ends later once where the quorum is reached late
    quorum_at_ms            when the quorum was reached (0: not)
    execute_after_ms, execute_by_ms   of one that is queued (0 before)
    *_units                 of votes: the power of who votes so now
    casts, events           how many votes were cast, and how many events it has: the next number of each
    deposit_*               the hold of the proposer's deposit, with the key's limit that it counts against
    reason                  why it could not be executed when that was last tried ('' : it was not)
    due_ms                  when it has to be looked at by itself; NULL once it has ended
    """

    __tablename__ = "proposals"
    __table_args__ = (
        listed("type", "type", TYPES),
        listed("status", "status", STATUSES),
        CheckConstraint(
            "for_units >= 0 AND against_units >= 0 AND abstain_units >= 0 AND veto_units >= 0",
            name="not_negative",
        ),
        CheckConstraint("starts_ms <= ends_ms AND extended >= 0 AND extended <= 1", name="times"),
        Index("ix_proposals_status", "status", "id"),
        Index("ix_proposals_proposer", "proposer_id", "status"),
        Index("ix_proposals_due", "due_ms", sqlite_where=sql(DUE), postgresql_where=sql(DUE)),
    )

    id: str = text(primary_key=True)
    proposer_id: str = text(foreign_key="accounts.id")
    type: str = text()
    title: str = text()
    description: str = text()
    parameter: str = text("")
    value: int | None = big(None, nullable=True)
    recipient_id: str = text("")
    amount_units: int = big(0)
    status: str = text()
    snapshot_ms: int = big()
    age_ms: int = big()
    quorum_units: int = big()
    threshold_bps: int = big()
    starts_ms: int = big()
    ends_ms: int = big()
    extension_ms: int = big()
    extended: int = small(0)
    timelock_ms: int = big()
    window_ms: int = big()
    quorum_at_ms: int = big(0)
    execute_after_ms: int = big(0)
    execute_by_ms: int = big(0)
    for_units: int = big(0)
    against_units: int = big(0)
    abstain_units: int = big(0)
    veto_units: int = big(0)
    casts: int = big(0)
    events: int = big(0)
    deposit_units: int = big()
    deposit_hold_id: str = text()
    deposit_key_id: str = text("")
    deposit_period_ms: int = big(0)
    reason: str = text("")
    due_ms: int | None = big(None, nullable=True)
    created_at_ms: int = big()


class ProposalEvent(SQLModel, table=True):
    """Something that happened to a proposal, and a leaf of the log.

    id    `proposal:<proposal>:<number>`, numbers from 1
    by    the account that did it; '' where time did
    body  RFC 8785 text of an object: all that was proposed and under which rules, or how it ended
    """

    __tablename__ = "proposal_events"
    __table_args__ = ({"sqlite_with_rowid": False},)

    id: str = text(primary_key=True)
    event: str = text()
    at_ms: int = big()
    by: str = text()
    body: str = text()


class VoteCast(SQLModel, table=True):
    """A vote of an account, and a leaf of the log. The newest of an account counts.

    id           `vote:<proposal>:<number>`, numbers from 1
    by           who cast it: the account, or its delegate
    power_units  what the account held at the proposal's snapshot
    """

    __tablename__ = "votes_cast"
    __table_args__ = (CheckConstraint("power_units >= 0", name="power"), {"sqlite_with_rowid": False})

    id: str = text(primary_key=True)
    account_id: str = text()
    by: str = text()
    choice: str = text()
    power_units: int = big()
    at_ms: int = big()


class Vote(SQLModel, table=True):
    """How an account's power votes on a proposal now: its newest row of `votes_cast`.

    times  how often it was cast by the same one
    """

    __tablename__ = "votes"
    __table_args__ = (
        listed("choice", "choice", CHOICES),
        Index("ix_votes_account", "account_id", "proposal_id"),
        {"sqlite_with_rowid": False},
    )

    proposal_id: str = text(primary_key=True, foreign_key="proposals.id")
    account_id: str = text(primary_key=True)
    by: str = text()
    choice: str = text()
    power_units: int = big()
    at_ms: int = big()
    times: int = small(1)


class Delegation(SQLModel, table=True):
    """Whom an account lets vote for it from a moment on, and a leaf of the log. The newest of an account is in force.

    id           `delegation:<number>:<delegator>`, numbers from 1 for each delegator
    delegate_id  '': nobody any more
    """

    __tablename__ = "delegations"
    __table_args__ = (
        Index("ux_delegations_number", "delegator_id", "number", unique=True),
        Index("ix_delegations_delegate", "delegate_id", "at_ms"),
    )

    id: str = text(primary_key=True)
    delegator_id: str = text()
    number: int = big()
    delegate_id: str = text()
    at_ms: int = big()


append_only(ProposalEvent)
append_only(VoteCast)
append_only(Delegation)
