"""Governance in the database: proposals and votes against what their events and casts make of them, each vote's power
against the ledger, deposits, and what was executed.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from aitbc.audit.ballots import CHOICES, NUMBERS, TEXTS, Ballots, Cast, Life
from aitbc.audit.books import MINT, TREASURY
from aitbc.audit.findings import Progress, Report, Wrong
from aitbc.audit.lows import balance_before, least
from aitbc.audit.registers import Work
from aitbc.coordinator.database import Tx, statement
from aitbc.core.transfer_ids import ALLOCATED, PROPOSAL

PROPOSALS = statement(text("SELECT * FROM proposals ORDER BY id"))
VOTES = statement(
    text(
        "SELECT account_id, by, choice, power_units, at_ms, times FROM votes WHERE proposal_id = :proposal"
        " ORDER BY account_id"
    )
)
STRAY_VOTE = statement(
    text(
        "SELECT v.proposal_id FROM votes v WHERE NOT EXISTS (SELECT 1 FROM proposals p WHERE p.id = v.proposal_id)"
        " LIMIT 1"
    )
)
NUMBERED = statement(text("SELECT id, delegator_id, number FROM delegations ORDER BY id"))
DEPOSIT = statement(
    text(
        "SELECT h.debit_id, h.amount_units, h.ref, e.kind, e.credit_id, e.amount_units AS paid_units FROM transfers h"
        " LEFT JOIN transfers e ON e.hold_id = h.id AND (e.kind = 'post' OR e.kind = 'void')"
        " WHERE h.id = :hold AND h.kind = 'hold'"
    )
)
ALLOTTED = statement(
    text(
        "SELECT id, debit_id, credit_id, amount_units, ref FROM transfers WHERE kind = 'transfer'"
        f" AND substr(id, 1, {len(ALLOCATED.prefix)}) = '{ALLOCATED.prefix}' ORDER BY id"
    )
)
BY_PROPOSALS = statement(
    text(
        "SELECT number, name, value_after, by FROM parameter_changes"
        f" WHERE substr(by, 1, {len(PROPOSAL.prefix)}) = '{PROPOSAL.prefix}' ORDER BY number"
    )
)


def check_governance(tx: Tx, ballots: Ballots, work: Work, report: Report, progress: Progress) -> None:
    """Every proposal with its votes and deposit, and everything that proposals did. Raises Wrong.

    Takes the deposits out of what `work` has open, and counts them against their keys.
    """
    progress.stage("governance", len(ballots.lives))
    left = dict(ballots.lives)
    for row in tx.all(PROPOSALS):
        report.at = ("proposal", row.id)
        life = left.pop(row.id, None)
        if life is None:
            raise Wrong("proposal", row.id, "nothing in the log says that it was made")
        fault = _row_fault(row, life) or _deposit_fault(tx, row, life, work)
        if fault:
            raise Wrong("proposal", row.id, fault)
        _check_quorum(tx, life)
        _check_votes(tx, life)
        progress.step(1)
    for name in left:
        raise Wrong("proposal", name, "it is in the log, and not there")
    if stray := tx.one(STRAY_VOTE):
        raise Wrong("proposal", stray.proposal_id, "there are votes on it, and it is not there")
    for row in tx.all(NUMBERED):
        report.at = ("delegation", row.id)
        if row.id != f"delegation:{row.number}:{row.delegator_id}":
            raise Wrong("delegation", row.id, f"its number is {row.number}")
    _check_done(tx, ballots.lives, report)


def _row_fault(row: Any, life: Life) -> str:
    made: dict[str, Any] = {name: life.terms[name] for name in (*NUMBERS, *TEXTS, "value")}
    made |= {
        "proposer_id": life.proposer,
        "status": life.status,
        "extended": life.extended,
        "quorum_at_ms": life.quorum_at_ms,
        "execute_after_ms": life.execute_after_ms,
        "execute_by_ms": life.execute_by_ms,
        "casts": life.casts,
        "events": life.events,
        **{f"{name}_units": life.sums[name] for name in CHOICES},
    }
    for name, value in made.items():
        if getattr(row, name) != value:
            return f"its {name} is {getattr(row, name)!r}, its history makes it {value!r}"
    due = {"pending": row.starts_ms, "active": row.ends_ms}.get(row.status)
    if row.status != "queued" and row.due_ms != due:
        return f"it is due at {row.due_ms} instead of {due}"
    if row.status == "queued" and row.due_ms is None:
        return "it is queued, and nobody looks at it"
    return ""


def _deposit_fault(tx: Tx, row: Any, life: Life, work: Work) -> str:
    hold = tx.one(DEPOSIT, hold=row.deposit_hold_id)
    ref = PROPOSAL.prefix + row.id
    if hold is None or (hold.debit_id, hold.amount_units, hold.ref) != (
        row.proposer_id,
        row.deposit_units,
        ref,
    ):
        return f"hold {row.deposit_hold_id} is not its deposit of {row.deposit_units} units"
    is_open = life.status in ("pending", "active")
    if is_open != (hold.kind is None):
        return f"it is {life.status}, and its deposit is {'given back or lost' if hold.kind else 'held'}"
    counts = row.deposit_units
    if is_open:
        work.open_holds.pop(row.deposit_hold_id, None)
    elif life.deposit_lost:
        if (hold.kind, hold.credit_id, hold.paid_units) != ("post", TREASURY, row.deposit_units):
            return "its deposit is lost, and the treasury does not have it"
    elif hold.kind != "void":
        return "its deposit was to be given back"
    else:
        counts = 0
    key = work.keys.get(row.deposit_key_id)
    if key is not None:
        if key.account_id != row.proposer_id:
            return f"its deposit counts against key {key.id}, which is {key.account_id}'s"
        if key.id in work.spent and row.deposit_period_ms and row.deposit_period_ms == key.period_start_ms:
            work.spent[key.id] += counts
    return ""


def _check_quorum(tx: Tx, life: Life) -> None:
    """The quorum is no more than all that could vote."""
    before = life.terms["snapshot_ms"]
    made, kept = (balance_before(tx, one, before) for one in (MINT, TREASURY))
    if not 0 <= life.terms["quorum_units"] <= -made - kept:
        what = f"its quorum is {life.terms['quorum_units']} units, and {-made - kept} could vote"
        raise Wrong("proposal", life.id, what)


def _check_votes(tx: Tx, life: Life) -> None:
    """How each account votes now, and that it had so much all the time that counts. Raises Wrong."""
    left = dict(life.votes)
    snapshot_ms = life.terms["snapshot_ms"]
    for row in tx.all(VOTES, proposal=life.id):
        cast = left.pop(row.account_id, None)
        if cast != Cast(row.by, row.choice, row.power_units, row.at_ms, row.times):
            raise Wrong("proposal", life.id, f"the vote of {row.account_id} is not the one that it cast last")
        has = least(tx, row.account_id, max(0, snapshot_ms - life.terms["age_ms"]), snapshot_ms)
        if row.power_units != has or row.account_id.startswith("system:"):
            what = f"{row.account_id} voted with {row.power_units} units, and its power was {has}"
            raise Wrong("proposal", life.id, what)
    for account in left:
        raise Wrong("proposal", life.id, f"the vote of {account} is gone")


def _check_done(tx: Tx, lives: dict[str, Life], report: Report) -> None:
    """What proposals did was decided, and what was decided and executed was done. Raises Wrong."""
    transfers = {life.transfer: life for life in lives.values() if life.transfer}
    for row in tx.all(ALLOTTED):
        report.at = ("transfer", row.id)
        life = transfers.pop(row.id, None)
        if life is None:
            raise Wrong("transfer", row.id, "no executed proposal allots it")
        made = (row.id, row.debit_id, row.credit_id, row.amount_units, row.ref)
        if made != (
            ALLOCATED.prefix + life.id,
            TREASURY,
            life.terms["recipient_id"],
            life.terms["amount_units"],
            PROPOSAL.prefix + life.id,
        ):
            raise Wrong("transfer", row.id, f"it is not what proposal {life.id} allots")
    for life in transfers.values():
        raise Wrong("proposal", life.id, "it was executed, and its transfer is not there")
    changes = {life.change: life for life in lives.values() if life.change is not None}
    for row in tx.all(BY_PROPOSALS):
        report.at = ("parameter", row.number)
        life = changes.pop(int(row.number), None)
        if life is None or row.by != PROPOSAL.prefix + life.id:
            raise Wrong("parameter", row.number, f"{row.by} did not decide it")
        if (row.name, row.value_after) != (life.terms["parameter"], life.terms["value"]):
            raise Wrong("parameter", row.number, f"proposal {life.id} decided something else")
    for life in changes.values():
        raise Wrong("proposal", life.id, "it was executed, and its change is not there")
