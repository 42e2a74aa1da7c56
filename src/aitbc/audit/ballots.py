"""What the log says of governance: each proposal's life, step by step, its votes and who votes for whom.

Pure, and in the log's order: the operator's audit feeds it rows, an outsider's the entries.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from aitbc.audit.findings import Wrong

CHOICES = ("for", "against", "abstain", "veto")
NUMBERS = (
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
    "created_at_ms",
)
TEXTS = ("type", "title", "description", "parameter", "recipient_id", "deposit_hold_id")
TYPES = ("parameter_change", "fund_allocation", "text")
MAX_TIMES = 20
BPS = 10_000


class Cast(NamedTuple):
    """How an account's power votes: its newest vote. `times`: how often by the same one."""

    by: str
    choice: str
    power_units: int
    at_ms: int
    times: int


class Given(NamedTuple):
    """A delegation: to whom ('' nobody), from when on."""

    delegate: str
    at_ms: int


class Life:
    """One proposal as its events and votes make it."""

    def __init__(self, proposal_id: str) -> None:
        self.id = proposal_id
        self.status = ""
        self.proposer = ""
        self.terms: dict[str, Any] = {}
        self.events = self.casts = 0
        self.extended = self.quorum_at_ms = self.execute_after_ms = self.execute_by_ms = 0
        self.decided = ""  # what its vote came to
        self.change: int | None = None  # the parameter's change that it made
        self.transfer = ""
        self.sums = dict.fromkeys(CHOICES, 0)
        self.votes: dict[str, Cast] = {}

    @property
    def cast_units(self) -> int:
        return sum(self.sums.values())

    @property
    def deposit_lost(self) -> bool:
        """Whether the treasury has its deposit."""
        return self.decided == "expired" or (self.decided == "rejected" and self._vetoed())

    def _vetoed(self) -> bool:
        return self.sums["veto"] * 3 >= self.cast_units

    def outcome(self) -> str:
        """What its votes come to."""
        if self.cast_units < max(1, self.terms["quorum_units"]):
            return "expired"
        if self._vetoed():
            return "rejected"
        decided = self.cast_units - self.sums["abstain"]
        return "passed" if self.sums["for"] * BPS > self.terms["threshold_bps"] * decided else "rejected"

    def step(self, event: str, at_ms: int, by: str, body: dict[str, Any]) -> str:
        """One event; what is wrong with it, '' where nothing is."""
        self.events += 1
        if (event == "created") != (self.events == 1):
            return "it does not begin with what was proposed"
        act = getattr(self, f"_{event}", None)
        if act is None:
            return f"nothing is known of {event[:32]!r}"
        fault: str = act(at_ms, by, body)
        return fault

    def _created(self, at_ms: int, by: str, body: dict[str, Any]) -> str:
        terms: dict[str, Any] = {name: int(body[name]) for name in NUMBERS}
        terms |= {name: body[name] for name in TEXTS}
        terms["value"] = None if body["value"] is None else int(body["value"])
        if len(body) != len(terms) or terms["type"] not in TYPES or not by:
            return "it is not what a proposal says"
        if not terms["created_at_ms"] == at_ms <= terms["starts_ms"] <= terms["ends_ms"]:
            return "its times do not follow each other"
        self.terms, self.proposer, self.status = terms, by, "pending"
        return ""

    def _opened(self, at_ms: int, by: str, body: dict[str, Any]) -> str:
        if self.status != "pending" or at_ms < self.terms["starts_ms"] or by or body:
            return f"its vote opened while it was {self.status}, or too early"
        self.status = "active"
        return ""

    def _cancelled(self, at_ms: int, by: str, body: dict[str, Any]) -> str:
        if self.status != "pending" or by != self.proposer or at_ms >= self.terms["starts_ms"] or body:
            return f"it was cancelled while it was {self.status}, too late, or by another"
        self.status = "cancelled"
        return ""

    def _quorum(self, at_ms: int, by: str, body: dict[str, Any]) -> str:
        needed, before = self.terms["quorum_units"], self.terms["ends_ms"]
        if self.status != "active" or self.quorum_at_ms or self.cast_units < needed or by:
            return f"its quorum of {needed} units was not reached just then"
        ends_ms = max(before, at_ms + self.terms["extension_ms"])
        if body != {"ends_ms": str(ends_ms), "quorum_units": str(needed)} or at_ms >= before:
            return f"its vote does not end at {ends_ms} for that"
        self.quorum_at_ms, self.extended = at_ms, int(ends_ms > before)
        self.terms["ends_ms"] = ends_ms
        return ""

    def _passed(self, at_ms: int, by: str, body: dict[str, Any]) -> str:
        return self._ended("passed", at_ms, by, body)

    def _rejected(self, at_ms: int, by: str, body: dict[str, Any]) -> str:
        return self._ended("rejected", at_ms, by, body)

    def _ended(self, result: str, at_ms: int, by: str, body: dict[str, Any]) -> str:
        if self.status != "active" or at_ms < self.terms["ends_ms"] or by:
            return f"it {result} while it was {self.status}, or before the end of its vote"
        said = {name: body.get(f"{name}_units") for name in CHOICES}
        if said != {name: str(units) for name, units in self.sums.items()}:
            return f"it says {said}, its votes come to {self.sums}"
        if self.outcome() != result:
            return f"it says {result}, its votes make it {self.outcome()}"
        self.status = self.decided = result
        if result == "passed" and self.terms["type"] != "text":
            self.status = "queued"
            self.execute_after_ms = self.terms["ends_ms"] + self.terms["timelock_ms"]
            self.execute_by_ms = self.execute_after_ms + self.terms["window_ms"]
        return ""

    def _queued(self, at_ms: int, by: str, body: dict[str, Any]) -> str:
        times = (str(self.execute_after_ms), str(self.execute_by_ms))
        said = (body.get("execute_after_ms"), body.get("execute_by_ms"))
        if self.status != "queued" or said != times or by:
            return f"it was queued while it was {self.status}, or for another time"
        return ""

    def _expired(self, at_ms: int, by: str, body: dict[str, Any]) -> str:
        if self.status == "active":
            return self._ended("expired", at_ms, by, body)
        if self.status != "queued" or at_ms < self.execute_by_ms or by:
            return f"it expired while it was {self.status}, or too early"
        self.status = "expired"
        return ""

    def _executed(self, at_ms: int, by: str, body: dict[str, Any]) -> str:
        if self.status != "queued" or not self.execute_after_ms <= at_ms < self.execute_by_ms:
            return f"it was executed while it was {self.status}, or at another time than it may be"
        if self.terms["type"] == "parameter_change":
            self.change = None if body["change"] is None else int(body["change"])
        else:
            self.transfer = body["transfer"]
        self.status = "executed"
        return ""

    def vote(self, account: str, by: str, choice: str, units: int, at_ms: int) -> str:
        """One vote; what is wrong with it, '' where nothing is."""
        self.casts += 1
        if self.status != "active" or not self.terms["starts_ms"] <= at_ms < self.terms["ends_ms"]:
            return f"it was cast while the proposal was {self.status}, or outside its time"
        if choice not in CHOICES or type(units) is not int or units <= 0:
            return "it is no choice, or has no power"
        before = self.votes.get(account)
        if before is not None and before.by == account != by:
            return f"{by} voted for {account}, which had voted itself"
        times = before.times + 1 if before is not None and before.by == by else 1
        if times > MAX_TIMES:
            return f"it was cast {times} times"
        if before is not None:
            self.sums[before.choice] -= before.power_units
        self.sums[choice] += units
        self.votes[account] = Cast(by, choice, units, at_ms, times)
        return ""


class Ballots:
    """Takes events, votes and delegations in the order of the log."""

    def __init__(self) -> None:
        self.lives: dict[str, Life] = {}
        self.given: dict[str, list[Given]] = {}

    def event(self, event_id: str, event: str, at_ms: int, by: str, body: str) -> None:
        """Raises Wrong."""
        proposal, number = _named(event_id, "proposal")
        life = self.lives.setdefault(proposal, Life(proposal))
        if number != life.events + 1:
            raise Wrong("proposal", event_id, f"the event before it has the number {life.events}")
        try:
            document = json.loads(body)
            fault = life.step(event, at_ms, by, document)
        except (KeyError, TypeError, ValueError) as error:
            fault = f"it cannot be read: {error}"
        if fault:
            raise Wrong("proposal", event_id, fault)

    def vote(self, vote_id: str, account: str, by: str, choice: str, units: int, at_ms: int) -> None:
        """Raises Wrong."""
        proposal, number = _named(vote_id, "vote")
        life = self.lives.get(proposal)
        if life is None or number != life.casts + 1:
            raise Wrong("vote", vote_id, "there is no such proposal, or the vote before it is missing")
        fault = life.vote(account, by, choice, units, at_ms)
        if not fault and by != account and self.delegate(account, life.terms["snapshot_ms"]) != by:
            fault = f"{account} had not let {by} vote for it at the snapshot"
        if fault:
            raise Wrong("vote", vote_id, fault)

    def delegation(self, delegation_id: str, delegator: str, delegate: str, at_ms: int) -> None:
        """Raises Wrong."""
        given = self.given.setdefault(delegator, [])
        if delegation_id != f"delegation:{len(given) + 1}:{delegator}":
            raise Wrong(
                "delegation", delegation_id, f"the delegator's one before has the number {len(given)}"
            )
        if delegate == delegator or (given and (at_ms < given[-1].at_ms or given[-1].delegate == delegate)):
            raise Wrong(
                "delegation", delegation_id, "it is to itself, changes nothing, or is before the last one"
            )
        given.append(Given(delegate, at_ms))

    def delegate(self, account: str, before_ms: int) -> str:
        """Who voted for the account as of a moment; '' nobody."""
        found = [one.delegate for one in self.given.get(account, ()) if one.at_ms < before_ms]
        return found[-1] if found else ""


def _named(name: str, prefix: str) -> tuple[str, int]:
    """The proposal and the number in an id. Raises Wrong."""
    parts = name.split(":")
    if len(parts) != 3 or parts[0] != prefix or not parts[2].isascii() or not parts[2].isdigit():
        raise Wrong(prefix, name, "its id is of another form")
    number = int(parts[2])
    if name != f"{prefix}:{parts[1]}:{number}":
        raise Wrong(prefix, name, "its id is of another form")
    return parts[1], number
