"""Governance: proposals, votes, voting power, delegations and the network's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from aitbc.core.money import ait_number, parse_ait
from aitbc.sdk.answers import id_path, read_items, read_one
from aitbc.sdk.errors import UnexpectedAnswer
from aitbc.sdk.fields import Fields
from aitbc.sdk.models import Page
from aitbc.sdk.requests import Money
from aitbc.sdk.transport import Answer, Call, Flow, send


@dataclass(frozen=True)
class Proposal:
    """A proposal. Money and power are Decimal in AIT; `votes` by for, against, abstain and veto.

    status: pending, active, passed, rejected, expired, cancelled, queued or executed.
    """

    proposal_id: str
    proposer: str
    type: str
    title: str
    status: str
    parameter: str | None
    value: int | None
    recipient: str | None
    amount: Decimal | None
    votes: Mapping[str, Decimal]
    quorum_needed: Decimal
    quorum_cast: Decimal
    deposit: Decimal
    voting_starts_at: datetime
    voting_ends_at: datetime
    executable_at: datetime | None
    reason: str | None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> Proposal:
        get = Fields("proposal", data)
        quorum = Fields("proposal's quorum", get.mapping("quorum"))
        return cls(
            proposal_id=get.text("proposal_id"),
            proposer=get.text("proposer"),
            type=get.text("type"),
            title=get.text("title"),
            status=get.text("status"),
            parameter=get.opt_text("parameter"),
            value=get.opt_integer("value"),
            recipient=get.opt_text("recipient"),
            amount=get.opt_money("amount"),
            votes=_tally(get, "votes"),
            quorum_needed=quorum.money("needed"),
            quorum_cast=quorum.money("cast"),
            deposit=get.money("deposit"),
            voting_starts_at=get.time("voting_starts_at"),
            voting_ends_at=get.time("voting_ends_at"),
            executable_at=get.opt_time("executable_at"),
            reason=get.opt_text("reason"),
            raw=get.data,
        )


@dataclass(frozen=True)
class VoteCast:
    """A vote as it was cast: with which power, and what all votes come to now."""

    proposal_id: str
    choice: str
    power: Decimal
    tally: Mapping[str, Decimal]
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> VoteCast:
        get = Fields("vote", data)
        return cls(
            proposal_id=get.text("proposal_id"),
            choice=get.text("choice"),
            power=get.money("power"),
            tally=_tally(get, "tally"),
            raw=get.data,
        )


@dataclass(frozen=True)
class VotingPower:
    """An account's voting power: its own, and that of those who let it vote for them."""

    user_id: str
    power: Decimal
    own: Decimal
    delegated: Decimal
    delegate: str | None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> VotingPower:
        get = Fields("voting power", data)
        return cls(
            user_id=get.text("user_id"),
            power=get.money("power"),
            own=get.money("own"),
            delegated=get.money("delegated"),
            delegate=get.opt_text("delegate"),
            raw=get.data,
        )


@dataclass(frozen=True)
class Delegation:
    """Who votes for whom; `delegate` None: nobody."""

    delegator: str
    delegate: str | None
    since: datetime | None

    @classmethod
    def from_json(cls, data: Any) -> Delegation:
        get = Fields("delegation", data)
        return cls(get.text("delegator"), get.opt_text("delegate"), get.opt_time("since"))


@dataclass(frozen=True)
class Delegations:
    """Of one account: whom it lets vote for it, and who lets it vote for them."""

    user_id: str
    delegate: Delegation | None
    delegators: tuple[Delegation, ...]

    @classmethod
    def from_json(cls, data: Any) -> Delegations:
        get = Fields("delegations", data)
        to = get.mapping("delegate")
        return cls(
            get.text("user_id"),
            None if to is None else Delegation.from_json(to),
            tuple(Delegation.from_json(item) for item in get.items("delegators") or ()),
        )


@dataclass(frozen=True)
class Parameter:
    """A parameter of the network; values are integers in its `unit`."""

    name: str
    value: int
    unit: str
    minimum: int
    maximum: int
    default: int
    meaning: str
    changed_by: str | None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> Parameter:
        get = Fields("parameter", data)
        changed = get.mapping("last_changed")
        return cls(
            name=get.text("name"),
            value=get.integer("value"),
            unit=get.text("unit"),
            minimum=get.integer("minimum"),
            maximum=get.integer("maximum"),
            default=get.integer("default"),
            meaning=get.text("meaning"),
            changed_by=None if changed is None else Fields("parameter's change", changed).text("by"),
            raw=get.data,
        )


def propose(
    title: str,
    *,
    type: str = "text",
    description: str = "",
    parameter: str | None = None,
    value: int | None = None,
    recipient: str | None = None,
    amount: Money | None = None,
    idempotency_key: str | None = None,
) -> Flow[Proposal]:
    """Make a proposal; its deposit is held. `type`: parameter_change, fund_allocation or text.

    Raises `PermissionDenied` with too little voting power, `PaymentRequired`, `InvalidRequest`.
    """
    body: dict[str, Any] = {"type": type, "title": title, "description": description}
    units = None if amount is None else parse_ait(amount)
    given = {"parameter": parameter, "value": value, "recipient": recipient}
    body |= {name: one for name, one in given.items() if one is not None}
    if units is not None:
        body["amount"] = ait_number(units)
    return _change("/v1/governance/proposals", body, Proposal, idempotency_key)


def proposals(
    *, status: str | None = None, limit: int = 20, cursor: str | None = None
) -> Flow[Page[Proposal]]:
    """Proposals, newest first; at most 100 at a time. `cursor`: `next_cursor` of the page before."""
    query = {"status": status, "limit": limit, "cursor": cursor}
    return send(Call("GET", "/v1/governance/proposals", _proposals, query=query))


def proposal(proposal_id: str) -> Flow[Proposal]:
    """A proposal; `raw` has what it would change and all that happened to it."""
    return send(
        Call("GET", id_path("/v1/governance/proposals/{}", proposal_id), read_one(Proposal.from_json))
    )


def cancel_proposal(proposal_id: str, *, idempotency_key: str | None = None) -> Flow[Proposal]:
    """Take one's own proposal back before its vote opens. Raises `Conflict` where it is too late."""
    return _change(
        id_path("/v1/governance/proposals/{}/cancel", proposal_id), None, Proposal, idempotency_key
    )


def vote(proposal_id: str, choice: str, *, idempotency_key: str | None = None) -> Flow[VoteCast]:
    """Vote `for`, `against`, `abstain` or `veto`; until the end a vote can be changed by voting again.

    Raises `Conflict` where there is no vote now, `PermissionDenied` without voting power.
    """
    body = {"proposal_id": proposal_id, "choice": choice}
    return _change("/v1/governance/vote", body, VoteCast, idempotency_key)


def execute_proposal(proposal_id: str, *, idempotency_key: str | None = None) -> Flow[Proposal]:
    """Execute what passed, once its timelock is over. Raises `Conflict` where that cannot be."""
    return _change(id_path("/v1/governance/execute/{}", proposal_id), None, Proposal, idempotency_key)


def voting_power(user_id: str, *, proposal_id: str | None = None) -> Flow[VotingPower]:
    """An account's voting power on a proposal, or on one that was made now."""
    path = id_path("/v1/governance/voting-power/{}", user_id)
    query = {"proposal_id": proposal_id}
    return send(Call("GET", path, read_one(VotingPower.from_json), query=query))


def delegate(to: str | None, *, idempotency_key: str | None = None) -> Flow[Delegation]:
    """Let another account vote for yours from the next proposal on; None: nobody. Raises `Conflict`."""
    return _change("/v1/governance/delegate", {"delegate": to}, Delegation, idempotency_key)


def delegations(user_id: str) -> Flow[Delegations]:
    """Whom an account lets vote for it, and who lets it vote for them."""
    path = id_path("/v1/governance/delegations/{}", user_id)
    return send(Call("GET", path, read_one(Delegations.from_json)))


def network_parameters() -> Flow[list[Parameter]]:
    """The network's parameters: what each is, may be and means, and who changed it last."""
    read = read_items(Parameter.from_json, "parameters")
    return send(Call("GET", "/v1/governance/parameters", read))


def _change(path: str, body: Any, model: Any, idempotency_key: str | None) -> Flow[Any]:
    return send(
        Call(
            "POST",
            path,
            read_one(model.from_json),
            body=body,
            creates=True,
            idempotency_key=idempotency_key,
        )
    )


def _tally(get: Fields, name: str) -> dict[str, Decimal]:
    votes = Fields(f"{get.what}'s {name}", get.mapping(name))
    return {choice: votes.money(choice) for choice in ("for", "against", "abstain", "veto")}


def _proposals(answer: Answer) -> Page[Proposal]:
    get = Fields("proposals", answer.data)
    items = get.items("proposals")
    if items is None:
        raise UnexpectedAnswer("a list was expected")
    return Page(tuple(Proposal.from_json(item) for item in items), None, get.opt_text("next_cursor"))
