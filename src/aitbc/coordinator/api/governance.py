"""Governance: /v1/governance."""

from functools import partial
from typing import Annotated

import orjson
from fastapi import Query
from starlette.responses import Response

from aitbc.coordinator.api.native.amounts import ait
from aitbc.coordinator.api.native.dialect import CHANGE, CREATE, IDEMPOTENT, NATIVE, PUBLIC, PUBLIC_ONE
from aitbc.coordinator.api.native.render import reply
from aitbc.coordinator.api.plumbing.auth import Client
from aitbc.coordinator.api.plumbing.once import Form, perform
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import Router
from aitbc.coordinator.api.schemas import governance as schemas
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import AccountNotFound
from aitbc.coordinator.flows.acts import governance as acts
from aitbc.coordinator.flows.acts.governance import Draft
from aitbc.coordinator.flows.shared import weighing
from aitbc.coordinator.flows.views import governance as views
from aitbc.coordinator.flows.views.governance import PowerView, ProposalView, Register
from aitbc.coordinator.governance.delegations import DelegationRow
from aitbc.coordinator.governance.service import ProposalRow, VoteRow
from aitbc.coordinator.ledger import closing
from aitbc.coordinator.parameters.service import Standing
from aitbc.core.clock import rfc3339

router = Router(NATIVE, tags=["Governance"])


@router.post(
    "/v1/governance/proposals",
    summary="Create a proposal",
    status_code=201,
    response_model=schemas.Proposal,
    responses=CREATE,
    openapi_extra=IDEMPOTENT,
)
async def create_proposal(request: ApiRequest, principal: Client, body: schemas.NewProposal) -> Response:
    """Holds the deposit, and counts voting power as it is at this moment. `change` says what it would do."""
    runtime = request.runtime
    draft = Draft(
        body.type,
        body.title,
        body.description,
        body.parameter,
        body.value,
        body.recipient or "",
        body.amount or 0,
    )
    snapshot_ms = await runtime.db.write(closing.close, None, runtime.steady.now_ms())

    def act(tx: Tx) -> ProposalView:
        return views.view(tx, runtime.context, acts.create(tx, principal, draft, snapshot_ms))

    return await perform(request, principal, act, Form(201, _shown))


@router.get(
    "/v1/governance/proposals",
    summary="List proposals",
    response_model=schemas.ProposalPage,
    responses=PUBLIC,
)
async def list_proposals(request: ApiRequest, query: Annotated[schemas.ProposalList, Query()]) -> Response:
    """Newest first; `status` for those that are so now."""
    page = await request.runtime.db.read(
        views.listed, status=query.status, limit=query.limit, cursor=query.cursor
    )
    shown = [listed_json(row) for row in page.rows]
    return reply(schemas.ProposalPage(proposals=shown, next_cursor=page.next_cursor))


@router.get(
    "/v1/governance/proposals/{proposal_id}",
    summary="Proposal details",
    response_model=schemas.Proposal,
    responses=PUBLIC_ONE,
)
async def get_proposal(request: ApiRequest, proposal_id: str) -> Response:
    """With what it would change now, its votes' sums and all that happened to it."""
    runtime = request.runtime
    return reply(proposal_json(await runtime.db.read(views.show, runtime.context, proposal_id)))


@router.get(
    "/v1/governance/proposals/{proposal_id}/votes",
    summary="Votes on a proposal",
    response_model=schemas.VotePage,
    responses=PUBLIC_ONE,
)
async def list_votes(
    request: ApiRequest, proposal_id: str, query: Annotated[schemas.VoteList, Query()]
) -> Response:
    """How each account's power votes now, in the order of the accounts' names."""
    page = await request.runtime.db.read(views.votes, proposal_id, limit=query.limit, cursor=query.cursor)
    return reply(schemas.VotePage(votes=[vote_json(row) for row in page.rows], next_cursor=page.next_cursor))


@router.post(
    "/v1/governance/proposals/{proposal_id}/cancel",
    summary="Take back one's own proposal",
    response_model=schemas.Proposal,
    responses=CHANGE,
    openapi_extra=IDEMPOTENT,
)
async def cancel_proposal(request: ApiRequest, principal: Client, proposal_id: str) -> Response:
    """Before its vote opens; the deposit is given back."""
    runtime = request.runtime

    def act(tx: Tx) -> ProposalView:
        return views.view(tx, runtime.context, acts.cancel(tx, principal, proposal_id))

    return await perform(request, principal, act, Form(200, _shown))


@router.post(
    "/v1/governance/vote",
    summary="Vote on a proposal",
    response_model=schemas.VoteCast,
    responses=CHANGE,
    openapi_extra=IDEMPOTENT,
)
async def vote(request: ApiRequest, principal: Client, body: schemas.CastVote) -> Response:
    """With what the account held at the proposal's snapshot, and what those held who let it vote for them.

    Until the end a vote can be changed by voting again."""
    database = request.runtime.db
    # It never changes, so it is looked up before the transaction that others wait for.
    weighed = await database.read(weighing.weigh_for, principal.account_id, body.proposal_id)
    act = partial(acts.vote, proposal_id=body.proposal_id, weighed=weighed, choice=body.choice)

    def shown(cast: tuple[ProposalRow, list[VoteRow]]) -> bytes:
        row, votes = cast
        return orjson.dumps(
            schemas.VoteCast(
                proposal_id=row.id,
                choice=body.choice,
                power=ait(weighed.units),
                votes=[vote_json(one) for one in votes],
                tally=_tally_json(row),
                quorum=_quorum_json(row),
                voting_ends_at=rfc3339(row.ends_ms),
            )
        )

    return await perform(request, principal, act, Form(200, shown))


@router.get(
    "/v1/governance/voting-power/{user_id}",
    summary="Voting power of a user",
    response_model=schemas.VotingPower,
    responses=PUBLIC_ONE,
)
async def voting_power(
    request: ApiRequest, user_id: str, query: Annotated[schemas.PowerQuery, Query()]
) -> Response:
    """On a proposal, or on one that was made now: the least that the account had in the `age_s` before."""
    found = await request.runtime.db.read(views.power, _account(user_id), query.proposal_id)
    return reply(_power_json(found))


@router.get(
    "/v1/governance/parameters",
    summary="Governance parameters",
    response_model=schemas.Parameters,
    responses=PUBLIC,
)
async def list_parameters(request: ApiRequest) -> Response:
    """The network's parameters, which proposals can change: what each is, may be and means, and who changed it."""
    runtime = request.runtime
    found = await runtime.db.read(views.network_parameters, runtime.context)
    return reply(schemas.Parameters(parameters=[_parameter_json(one) for one in found]))


@router.post(
    "/v1/governance/execute/{proposal_id}",
    summary="Execute an approved proposal",
    response_model=schemas.Proposal,
    responses=CHANGE,
    openapi_extra=IDEMPOTENT,
)
async def execute_proposal(request: ApiRequest, principal: Client, proposal_id: str) -> Response:
    """Once its timelock is over; the coordinator does so by itself, too. What changes holds from the next job on."""
    runtime = request.runtime

    def act(tx: Tx) -> ProposalView:
        return views.view(tx, runtime.context, acts.execute(tx, principal, proposal_id))

    return await perform(request, principal, act, Form(200, _shown))


@router.post(
    "/v1/governance/delegate",
    summary="Let another account vote for you",
    response_model=schemas.Delegation,
    responses=CHANGE,
    openapi_extra=IDEMPOTENT,
)
async def delegate(request: ApiRequest, principal: Client, body: schemas.Delegate) -> Response:
    """From the next proposal on, where you do not vote yourself; null ends it. Public."""
    act = partial(acts.delegate, principal=principal, delegate_id=body.delegate or "")

    def shown(row: DelegationRow | None) -> bytes:
        if row is None:
            return orjson.dumps(schemas.Delegation(delegator=principal.account_id, delegate=None, since=None))
        return orjson.dumps(_delegation_json(row))

    return await perform(request, principal, act, Form(200, shown))


@router.get(
    "/v1/governance/delegations/{user_id}",
    summary="Who votes for whom",
    response_model=schemas.Register,
    responses=PUBLIC_ONE,
)
async def delegations(request: ApiRequest, user_id: str) -> Response:
    """The public register: whom the account lets vote for it, and who lets it vote for them."""
    return reply(_register_json(await request.runtime.db.read(views.register, _account(user_id))))


def _account(text: str) -> str:
    try:
        return schemas.account_id(text)
    except ValueError:
        raise AccountNotFound(account_id=text) from None


def _shown(view: ProposalView) -> bytes:
    return orjson.dumps(proposal_json(view))


def proposal_json(view: ProposalView) -> schemas.Proposal:
    """A proposal with all that is known of it."""
    run = view.dry_run
    return {
        **listed_json(view.row),
        "change": {
            "what": run.what or None,
            "before": run.before,
            "after": run.after,
            "unit": run.unit or None,
            "possible": not run.obstacle,
            "obstacle": run.obstacle or None,
        },
        "events": [
            {
                "id": one.id,
                "event": one.event,
                "at": rfc3339(one.at_ms),
                "by": one.by or None,
                "body": orjson.loads(one.body),
            }
            for one in view.events
        ],
    }


def listed_json(row: ProposalRow) -> schemas.ListedProposal:
    """A proposal as lists show it."""
    allots = row.type == "fund_allocation"
    return {
        "proposal_id": row.id,
        "id": row.id,
        "proposer": row.proposer_id,
        "type": row.type,
        "title": row.title,
        "description": row.description,
        "parameter": row.parameter or None,
        "value": row.value,
        "recipient": row.recipient_id or None,
        "amount": ait(row.amount_units) if allots else None,
        "status": row.status,
        "votes": _tally_json(row),
        "quorum": _quorum_json(row),
        "threshold_bps": row.threshold_bps,
        "deposit": ait(row.deposit_units),
        "created_at": rfc3339(row.created_at_ms),
        "snapshot_at": rfc3339(row.snapshot_ms),
        "age_s": row.age_ms // 1000,
        "voting_starts_at": rfc3339(row.starts_ms),
        "voting_ends_at": rfc3339(row.ends_ms),
        "extended": bool(row.extended),
        "executable_at": rfc3339(row.execute_after_ms) if row.execute_after_ms else None,
        "executable_until": rfc3339(row.execute_by_ms) if row.execute_by_ms else None,
        "reason": row.reason or None,
    }


def vote_json(row: VoteRow) -> schemas.Vote:
    """How an account's power votes."""
    return {
        "proposal_id": row.proposal_id,
        "account": row.account_id,
        "by": row.by,
        "choice": row.choice,
        "power": ait(row.power_units),
        "at": rfc3339(row.at_ms),
    }


def _tally_json(row: ProposalRow) -> schemas.Tally:
    tally = acts.tally_of(row)
    return {name.removesuffix("_units"): ait(units) for name, units in tally._asdict().items()}


def _quorum_json(row: ProposalRow) -> schemas.Quorum:
    reached = rfc3339(row.quorum_at_ms) if row.quorum_at_ms else None
    return {
        "needed": ait(row.quorum_units),
        "cast": ait(acts.tally_of(row).cast_units),
        "reached_at": reached,
    }


def _power_json(found: PowerView) -> schemas.VotingPower:
    weighed = found.weighed
    return {
        "user_id": weighed.account_id,
        "power": ait(weighed.units),
        "own": ait(weighed.own_units),
        "delegated": ait(weighed.units - weighed.own_units),
        "delegators": len(weighed.for_others),
        "delegate": None if found.delegation is None else found.delegation.delegate_id,
        "snapshot_at": rfc3339(found.snapshot_ms),
        "age_s": found.age_ms // 1000,
        "vote": None if found.vote is None else vote_json(found.vote),
    }


def _delegation_json(row: DelegationRow) -> schemas.Delegation:
    return {"delegator": row.delegator_id, "delegate": row.delegate_id, "since": rfc3339(row.at_ms)}


def _register_json(found: Register) -> schemas.Register:
    return {
        "user_id": found.account_id,
        "delegate": None if found.to is None else _delegation_json(found.to),
        "delegators": [_delegation_json(row) for row in found.delegators],
    }


def _parameter_json(one: Standing) -> schemas.Parameter:
    definition, changed = one.definition, one.changed
    return {
        "name": definition.name,
        "value": one.value,
        "type": definition.type,
        "unit": definition.unit,
        "minimum": definition.low,
        "maximum": definition.high,
        "default": definition.default,
        "meaning": definition.meaning,
        "last_changed": None
        if changed is None
        else {
            "number": changed.number,
            "at": rfc3339(changed.effective_at_ms),
            "by": changed.by,
            "reason": changed.reason,
            "before": changed.value_before,
        },
    }
