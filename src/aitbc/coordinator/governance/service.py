"""Proposals and votes in the database: written under the proposal's lock, each change with its leaf of the log."""

from typing import Any, NamedTuple

from sqlalchemy import bindparam, func, or_, select, update
from sqlalchemy import text as sql
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.expression import ClauseElement

from aitbc.coordinator.chain import service as chain
from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import one_of, table_of
from aitbc.coordinator.errors import ProposalNotFound
from aitbc.coordinator.governance.models import DUE, TRANSITIONS, Proposal, ProposalEvent, Vote, VoteCast
from aitbc.core.canonical import encode
from aitbc.core.log.leaf import PROPOSAL, VOTE, proposal_leaf, vote_leaf

_table: Any = table_of(Proposal)
_p: Any = _table.c
_v: Any = table_of(Vote).c
_e: Any = table_of(ProposalEvent).c
_own = _p.id == bindparam("proposal")


class ProposalRow(NamedTuple):
    """Every column of `proposals`, in the table's order."""

    id: str
    proposer_id: str
    type: str
    title: str
    description: str
    parameter: str
    value: int | None
    recipient_id: str
    amount_units: int
    status: str
    snapshot_ms: int
    age_ms: int
    quorum_units: int
    threshold_bps: int
    starts_ms: int
    ends_ms: int
    extension_ms: int
    extended: int
    timelock_ms: int
    window_ms: int
    quorum_at_ms: int
    execute_after_ms: int
    execute_by_ms: int
    for_units: int
    against_units: int
    abstain_units: int
    veto_units: int
    casts: int
    events: int
    deposit_units: int
    deposit_hold_id: str
    deposit_key_id: str
    deposit_period_ms: int
    reason: str
    due_ms: int | None
    created_at_ms: int


class VoteRow(NamedTuple):
    """Every column of `votes`, in the table's order."""

    proposal_id: str
    account_id: str
    by: str
    choice: str
    power_units: int
    at_ms: int
    times: int


class EventRow(NamedTuple):
    """Every column of `proposal_events`, in the table's order."""

    id: str
    event: str
    at_ms: int
    by: str
    body: str


COLUMNS = list(_table.columns)
for _row, _of in ((ProposalRow, Proposal), (VoteRow, Vote), (EventRow, ProposalEvent)):
    if _row._fields != tuple(column.name for column in table_of(_of).columns):
        raise RuntimeError(f"{_row.__name__} and its table have drifted apart")

CHANGING = (
    "status",
    "ends_ms",
    "extended",
    "quorum_at_ms",
    "execute_after_ms",
    "execute_by_ms",
    "for_units",
    "against_units",
    "abstain_units",
    "veto_units",
    "casts",
    "events",
    "reason",
    "due_ms",
)
UNDECIDED = one_of("status", ("pending", "active"))
INSERT = insert_into(Proposal)
INSERT_EVENT = insert_into(ProposalEvent)
INSERT_CAST = insert_into(VoteCast)
SELECT = statement(select(*COLUMNS).where(_own), ProposalRow)
# An UPDATE that changes nothing: the row is this transaction's on both databases, and what it gives is the newest.
LOCK = statement(update(_table).where(_own).values(events=_p.events).returning(*COLUMNS), ProposalRow)
WRITE = statement(
    update(_table)
    .where(_own, _p.status == bindparam("before"), _p.events == bindparam("seen"))
    .values({name: bindparam(f"new_{name}", type_=_p[name].type) for name in CHANGING})
)
UNDECIDED_OF = statement(
    select(func.count().label("proposals")).where(_p.proposer_id == bindparam("proposer"), sql(UNDECIDED))
)
DUE_NOW = statement(
    select(_p.id)
    .where(sql(DUE), _p.due_ms <= bindparam("now"))
    .order_by(_p.due_ms, _p.id)
    .limit(bindparam("count"))
)
VOTE_OF = statement(
    select(*table_of(Vote).columns).where(
        _v.proposal_id == bindparam("proposal"), _v.account_id == bindparam("account")
    ),
    VoteRow,
)
VOTES_AFTER = statement(
    select(*table_of(Vote).columns)
    .where(_v.proposal_id == bindparam("proposal"), _v.account_id > bindparam("after"))
    .order_by(_v.account_id)
    .limit(bindparam("count")),
    VoteRow,
)
EVENTS_OF = statement(
    select(*table_of(ProposalEvent).columns).where(
        or_(*(_e.id == bindparam(f"id{number}") for number in range(8)))
    ),
    EventRow,
)
EVENTS_AT_ONCE = 8


def _keep_vote(dialect: str) -> ClauseElement:
    kind: Any = sqlite.insert if dialect == "sqlite" else postgresql.insert
    made = kind(table_of(Vote)).values({name: bindparam(name) for name in VoteRow._fields})
    new = made.excluded
    kept: ClauseElement = made.on_conflict_do_update(
        index_elements=["proposal_id", "account_id"],
        set_={name: new[name] for name in VoteRow._fields[2:]},
    )
    return kept


KEEP_VOTE = statement(_keep_vote)


def get(tx: Tx, proposal_id: str) -> ProposalRow:
    """Raises ProposalNotFound."""
    row: ProposalRow | None = tx.one(SELECT, proposal=proposal_id)
    if row is None:
        raise ProposalNotFound(proposal_id=proposal_id)
    return row


def lock(tx: Tx, proposal_id: str) -> ProposalRow:
    """The proposal as it is, which nobody else changes until this transaction ends. Raises ProposalNotFound."""
    row: ProposalRow | None = tx.one(LOCK, proposal=proposal_id)
    if row is None:
        raise ProposalNotFound(proposal_id=proposal_id)
    return row


def undecided_of(tx: Tx, proposer_id: str) -> int:
    """How many proposals of the account are not decided yet."""
    return int(tx.one(UNDECIDED_OF, proposer=proposer_id).proposals)


def due(tx: Tx, count: int) -> list[str]:
    """The ids of proposals whose time has come."""
    return [row.id for row in tx.all(DUE_NOW, now=tx.now_ms, count=count)]


def insert(tx: Tx, row: ProposalRow, body: dict[str, Any]) -> ProposalRow:
    """A new proposal, with its first event."""
    row = row._replace(events=1)
    tx.run(INSERT, **row._asdict())
    _record(tx, row, "created", row.proposer_id, body)
    return row


def change(
    tx: Tx, row: ProposalRow, event: str, *, by: str = "", body: dict[str, Any] | None = None, **changed: Any
) -> ProposalRow:
    """Writes what becomes of a locked proposal, and its event. RuntimeError where TRANSITIONS has no such step."""
    new = row._replace(events=row.events + 1, **changed)
    _write(tx, row, new)
    _record(tx, new, event, by, body or {})
    return new


def note(tx: Tx, row: ProposalRow, reason: str, due_ms: int) -> None:
    """Why a locked proposal could not be executed just now, and when that is tried again."""
    _write(tx, row, row._replace(reason=reason, due_ms=due_ms))


def cast(tx: Tx, row: ProposalRow, votes: list[VoteRow], **changed: Any) -> ProposalRow:
    """Writes votes on a locked proposal, each with its leaf, and the proposal with its new sums."""
    number = row.casts
    for vote in votes:
        number += 1
        tx.run(KEEP_VOTE, **vote._asdict())
        vote_id = f"vote:{row.id}:{number}"
        stated = (vote_id, vote.account_id, vote.by, vote.choice, vote.power_units, vote.at_ms)
        tx.add(INSERT_CAST, stated)
        chain.append(tx, VOTE, vote_id, vote_leaf(*stated))
    new = row._replace(casts=number, **changed)
    _write(tx, row, new)
    return new


def vote_of(tx: Tx, proposal_id: str, account_id: str) -> VoteRow | None:
    """How the account's power votes now."""
    row: VoteRow | None = tx.one(VOTE_OF, proposal=proposal_id, account=account_id)
    return row


def votes_after(tx: Tx, proposal_id: str, after: str, count: int) -> list[VoteRow]:
    """Votes by account, from the one behind `after` on."""
    return tx.all(VOTES_AFTER, proposal=proposal_id, after=after, count=count)


def events(tx: Tx, row: ProposalRow) -> list[EventRow]:
    """All that happened to a proposal, oldest first; few."""
    ids = [event_id(row.id, number + 1) for number in range(row.events)]
    found: dict[str, EventRow] = {}
    for at in range(0, len(ids), EVENTS_AT_ONCE):
        some = ids[at : at + EVENTS_AT_ONCE]
        some += [""] * (EVENTS_AT_ONCE - len(some))
        found |= {
            one.id: one
            for one in tx.all(EVENTS_OF, **{f"id{number}": one for number, one in enumerate(some)})
        }
    return [found[one] for one in ids]


def event_id(proposal_id: str, number: int) -> str:
    return f"proposal:{proposal_id}:{number}"


def _write(tx: Tx, row: ProposalRow, new: ProposalRow) -> None:
    if new.status != row.status and new.status not in TRANSITIONS[row.status]:
        raise RuntimeError(f"a proposal that is {row.status} cannot be {new.status}")
    values = {f"new_{name}": getattr(new, name) for name in CHANGING}
    if tx.run(WRITE, proposal=row.id, before=row.status, seen=row.events, **values) != 1:
        raise RuntimeError("a proposal was changed without its lock")


def _record(tx: Tx, row: ProposalRow, event: str, by: str, body: dict[str, Any]) -> None:
    stated = (event_id(row.id, row.events), event, tx.now_ms, by, encode(body).decode())
    tx.add(INSERT_EVENT, stated)
    chain.append(tx, PROPOSAL, stated[0], proposal_leaf(*stated))
