"""A proposal's life: made with a deposit, voted on, decided by time, and carried out in one transaction.

What time does is done by whoever looks first, the loop or a caller: each step is taken under the proposal's lock, in
the state that the step needs. So a proposal is decided once and executed once, however many try.
"""

from typing import Any, NamedTuple

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import (
    AccountNotFound,
    NotTheProposer,
    NoVotingPower,
    PowerTooSmall,
    ProposalInvalid,
    ProposalNotCancellable,
    ProposalNotExecutable,
    TooManyProposals,
    VoteChangedTooOften,
    VotingClosed,
    VotingNotOpen,
)
from aitbc.coordinator.flows.shared import holds, proposals
from aitbc.coordinator.flows.shared.weighing import Weighed
from aitbc.coordinator.governance import delegations, power, tally
from aitbc.coordinator.governance import service as governance
from aitbc.coordinator.governance.delegations import DelegationRow
from aitbc.coordinator.governance.service import ProposalRow, VoteRow
from aitbc.coordinator.governance.tally import Tally
from aitbc.coordinator.ledger import closing
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.models import TREASURY
from aitbc.coordinator.ledger.service import Hold
from aitbc.coordinator.parameters import service as parameters
from aitbc.core.clock import rfc3339
from aitbc.core.ids import new_id
from aitbc.core.transfer_ids import ALLOCATED, PROPOSAL, new_transfer_id, stored_id

MAX_UNDECIDED = 5
"""Proposals of one account that wait for their decision at a time."""
MAX_TIMES = 20
"""How often one votes with the same power on the same proposal."""
RETRY_MS = 60_000
"""What cannot be executed is tried again so often."""
DUE_BATCH = 100


class Draft(NamedTuple):
    """What is proposed. `parameter` and `value` are of a parameter_change, the next two of a fund_allocation."""

    type: str
    title: str
    description: str
    parameter: str = ""
    value: int | None = None
    recipient_id: str = ""
    amount_units: int = 0


def create(tx: Tx, principal: Principal, draft: Draft, snapshot_ms: int) -> ProposalRow:
    """Makes a proposal, and holds its deposit. The books have to be closed up to the snapshot.

    Its rules are what the parameters say now, whatever becomes of these.
    Raises ProposalInvalid, InvalidRequest, PowerTooSmall, TooManyProposals, InsufficientFunds, KeyLimitExceeded.
    """
    if closing.closed_ms(tx) < snapshot_ms:
        raise RuntimeError("a snapshot has to be of a time for which the books are closed")
    _check_draft(draft)
    account_id, age_s = principal.account_id, parameters.get(tx, "governance_age_s")
    has, needed = (
        power.of(tx, account_id, snapshot_ms, age_s * 1000),
        parameters.get(tx, "governance_min_power"),
    )
    if has < needed:
        raise PowerTooSmall(needed_units=needed, power_units=has, age_s=age_s)
    if governance.undecided_of(tx, account_id) >= MAX_UNDECIDED:
        raise TooManyProposals(limit=MAX_UNDECIDED)
    row = _drafted(tx, account_id, draft, snapshot_ms, age_s * 1000)
    held = holds.take(tx, principal, stored_id(row.deposit_hold_id), row.deposit_units, PROPOSAL.of(row.id))
    row = row._replace(deposit_key_id=held.key_id, deposit_period_ms=held.period_ms)
    return governance.insert(tx, row, _proposed(row))


def _check_draft(draft: Draft) -> None:
    if draft.type == "parameter_change":
        parameters.check(draft.parameter, draft.value)
    elif draft.parameter or draft.value is not None:
        raise ProposalInvalid(reason="only a parameter_change names a parameter and its value")
    if draft.type == "fund_allocation":
        if not draft.recipient_id or draft.amount_units <= 0:
            raise ProposalInvalid(reason="a fund_allocation names a recipient, and an amount above 0")
    elif draft.recipient_id or draft.amount_units:
        raise ProposalInvalid(reason="only a fund_allocation names a recipient and an amount")


def _drafted(tx: Tx, account_id: str, draft: Draft, snapshot_ms: int, age_ms: int) -> ProposalRow:
    def rule(name: str) -> int:
        return parameters.get(tx, f"governance_{name}")

    starts_ms = tx.now_ms + rule("delay_s") * 1000
    eligible = power.eligible(tx, snapshot_ms)
    return ProposalRow(
        id=new_id(tx.now_ms),
        proposer_id=account_id,
        **draft._asdict(),
        status="pending",
        snapshot_ms=snapshot_ms,
        age_ms=age_ms,
        quorum_units=-(-eligible * rule("quorum_bps") // tally.BPS),
        threshold_bps=rule("threshold_bps"),
        starts_ms=starts_ms,
        ends_ms=starts_ms + rule("voting_s") * 1000,
        extension_ms=rule("extension_s") * 1000,
        extended=0,
        timelock_ms=rule("timelock_s") * 1000,
        window_ms=rule("window_s") * 1000,
        quorum_at_ms=0,
        execute_after_ms=0,
        execute_by_ms=0,
        for_units=0,
        against_units=0,
        abstain_units=0,
        veto_units=0,
        casts=0,
        events=0,
        deposit_units=rule("deposit"),
        deposit_hold_id=new_transfer_id(tx.booked_ms),
        deposit_key_id="",
        deposit_period_ms=0,
        reason="",
        due_ms=starts_ms,
        created_at_ms=tx.now_ms,
    )


PROPOSED = (
    "type",
    "title",
    "description",
    "parameter",
    "value",
    "recipient_id",
    "amount_units",
    "snapshot_ms",
    "age_ms",
    "quorum_units",
    "threshold_bps",
    "starts_ms",
    "ends_ms",
    "extension_ms",
    "timelock_ms",
    "window_ms",
    "deposit_units",
    "deposit_hold_id",
    "created_at_ms",
)
"""What the first event of a proposal says: all that was proposed, and its rules. Numbers are written as strings."""


def _proposed(row: ProposalRow) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in PROPOSED}
    return {name: str(value) if type(value) is int else value for name, value in values.items()}


def cancel(tx: Tx, principal: Principal, proposal_id: str) -> ProposalRow:
    """The proposer takes it back before its vote opens, and has the deposit again.

    Raises ProposalNotFound, NotTheProposer, ProposalNotCancellable.
    """
    row = _opened(tx, governance.lock(tx, proposal_id))
    if row.proposer_id != principal.account_id:
        raise NotTheProposer()
    if row.status != "pending":
        raise ProposalNotCancellable(status=row.status)
    holds.give_back(tx, _deposit(row))
    return governance.change(tx, row, "cancelled", by=principal.account_id, status="cancelled", due_ms=None)


def vote(tx: Tx, proposal_id: str, weighed: Weighed, choice: str) -> tuple[ProposalRow, list[VoteRow]]:
    """Votes with the account's power, and with that of its delegators who have not voted themselves.

    A vote can be changed until the end. Gives the proposal and what was cast; nothing where all is so already.
    Raises ProposalNotFound, VotingNotOpen, VotingClosed, NoVotingPower, VoteChangedTooOften.
    """
    row = _opened(tx, governance.lock(tx, proposal_id))
    if row.status == "pending":
        raise VotingNotOpen(opens_at=rfc3339(row.starts_ms))
    if row.status != "active" or tx.now_ms >= row.ends_ms:
        raise VotingClosed(status="over" if row.status == "active" else row.status)
    if not weighed.units:
        raise NoVotingPower(age_s=row.age_ms // 1000)
    sums = dict(zip(tally.Tally._fields, tally_of(row), strict=True))
    votes = []
    for account_id, units in ((weighed.account_id, weighed.own_units), *weighed.for_others.items()):
        before = governance.vote_of(tx, row.id, account_id)
        if not units or (before and before.by == account_id != weighed.account_id):
            continue
        times = before.times + 1 if before and before.by == weighed.account_id else 1
        if before and (before.choice, before.by) == (choice, weighed.account_id):
            continue
        if times > MAX_TIMES:
            raise VoteChangedTooOften(limit=MAX_TIMES)
        if before:
            sums[f"{before.choice}_units"] -= before.power_units
        sums[f"{choice}_units"] += units
        votes.append(VoteRow(row.id, account_id, weighed.account_id, choice, units, tx.now_ms, times))
    if votes:
        row = _reached(tx, governance.cast(tx, row, votes, **sums))
    return row, votes


def _reached(tx: Tx, row: ProposalRow) -> ProposalRow:
    """The vote ends no sooner than some time after its quorum was reached, so that others can still answer it."""
    if row.quorum_at_ms or tally_of(row).cast_units < row.quorum_units:
        return row
    ends_ms = max(row.ends_ms, tx.now_ms + row.extension_ms)
    body = {"ends_ms": str(ends_ms), "quorum_units": str(row.quorum_units)}
    return governance.change(
        tx,
        row,
        "quorum",
        body=body,
        quorum_at_ms=tx.now_ms,
        ends_ms=ends_ms,
        extended=int(ends_ms > row.ends_ms),
        due_ms=ends_ms,
    )


def execute(tx: Tx, principal: Principal, proposal_id: str) -> ProposalRow:
    """Does what was decided, once, and says so in the same transaction. Anybody may, once its timelock is over.

    Raises ProposalNotFound, ProposalNotExecutable.
    """
    row = _decided(tx, _opened(tx, governance.lock(tx, proposal_id)))
    why = ""
    if row.status != "queued":
        why = f"it is {row.status}"
    elif tx.now_ms < row.execute_after_ms:
        why = f"not before {rfc3339(row.execute_after_ms)}"
    elif tx.now_ms >= row.execute_by_ms:
        why = f"only before {rfc3339(row.execute_by_ms)}"
    why = why or proposals.obstacle(tx, row)
    if why:
        raise ProposalNotExecutable(reason=why)
    return _execute(tx, row, principal.account_id)


def _execute(tx: Tx, row: ProposalRow, by: str) -> ProposalRow:
    body: dict[str, Any] = {}
    if row.type == "parameter_change":
        assert row.value is not None
        made = parameters.set_value(tx, row.parameter, row.value, PROPOSAL.of(row.id), row.title)
        body = {"change": None if made is None else str(made.number)}  # None: it was so already
    else:
        transfer_id = ALLOCATED.of(row.id)
        ledger.open_account(tx, row.recipient_id)
        ledger.transfer(
            tx, transfer_id, TREASURY, row.recipient_id, row.amount_units, ref=PROPOSAL.of(row.id)
        )
        body = {"transfer": transfer_id}
    return governance.change(tx, row, "executed", by=by, body=body, status="executed", reason="", due_ms=None)


def advance(tx: Tx, proposal_id: str) -> ProposalRow:
    """What time does to a proposal: its vote opens, ends and is counted, what passed is executed or expires."""
    row = _decided(tx, _opened(tx, governance.lock(tx, proposal_id)))
    if row.status != "queued" or tx.now_ms < row.execute_after_ms:
        return row
    if tx.now_ms >= row.execute_by_ms:
        body = {"why": row.reason or "it was not executed in its time"}
        return governance.change(tx, row, "expired", body=body, status="expired", due_ms=None)
    why = proposals.obstacle(tx, row)
    if not why:
        return _execute(tx, row, "")
    governance.note(tx, row, why, min(tx.now_ms + RETRY_MS, row.execute_by_ms))
    return row


def _opened(tx: Tx, row: ProposalRow) -> ProposalRow:
    if row.status != "pending" or tx.now_ms < row.starts_ms:
        return row
    return governance.change(tx, row, "opened", status="active", due_ms=row.ends_ms)


def _decided(tx: Tx, row: ProposalRow) -> ProposalRow:
    """Counts a vote that has ended, and gives the deposit back or to the treasury."""
    if row.status != "active" or tx.now_ms < row.ends_ms:
        return row
    votes = tally_of(row)
    found = tally.outcome(votes, row.quorum_units, row.threshold_bps)
    body = {name: str(units) for name, units in votes._asdict().items()} | {"why": found.why}
    acts = found.result == "passed" and row.type != "text"
    after_ms = row.ends_ms + row.timelock_ms
    row = governance.change(
        tx,
        row,
        found.result,
        body=body,
        status="queued" if acts else found.result,
        due_ms=after_ms if acts else None,
        execute_after_ms=after_ms if acts else 0,
        execute_by_ms=after_ms + row.window_ms if acts else 0,
    )
    held = _deposit(row)
    if found.deposit_back:
        holds.give_back(tx, held)
    else:
        holds.pay(tx, held, TREASURY, held.units, 0)
    if not acts:
        return row
    body = {"execute_after_ms": str(row.execute_after_ms), "execute_by_ms": str(row.execute_by_ms)}
    return governance.change(tx, row, "queued", body=body)


def delegate(tx: Tx, principal: Principal, delegate_id: str) -> DelegationRow | None:
    """Lets another account vote for the caller's, from the next proposal on; '' nobody. None where it is nobody.

    Raises DelegationRefused, AccountNotFound.
    """
    if delegate_id:
        if delegate_id.startswith(power.SYSTEM_PREFIX):
            raise AccountNotFound(account_id=delegate_id)
        ledger.balance(tx, delegate_id)
    row = delegations.set_delegate(tx, principal.account_id, delegate_id)
    return row if row.delegate_id else None


def tally_of(row: ProposalRow) -> Tally:
    return Tally(row.for_units, row.against_units, row.abstain_units, row.veto_units)


def _deposit(row: ProposalRow) -> Hold:
    return Hold(
        stored_id(row.deposit_hold_id),
        row.proposer_id,
        row.deposit_units,
        PROPOSAL.of(row.id),
        row.deposit_key_id,
        row.deposit_period_ms,
    )
