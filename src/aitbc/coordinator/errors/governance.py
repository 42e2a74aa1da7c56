"""Proposals, votes, delegations."""

from aitbc.coordinator.errors.base import AitbcError, Forbidden, InvalidRequest, NotFound
from aitbc.coordinator.errors.money import MoneyError


class ProposalInvalid(InvalidRequest):
    template = "The proposal is not valid: {reason}"


class ProposalNotFound(NotFound):
    code = "PROPOSAL_NOT_FOUND"
    template = "There is no such proposal: {proposal_id}"


class PowerTooSmall(MoneyError):
    status = 403
    code = "POWER_TOO_SMALL"
    template = (
        "A proposal takes a voting power of {needed} AIT, and this account's is {power} AIT: the least that it has had"
        " in the last {age_s} seconds."
    )


class TooManyProposals(AitbcError):
    status = 409
    code = "TOO_MANY_PROPOSALS"
    template = "This account has {limit} proposals that are not decided yet, which is the most."


class ProposalNotCancellable(AitbcError):
    status = 409
    code = "PROPOSAL_NOT_CANCELLABLE"
    template = "Only before its vote opens can a proposal be cancelled: it is {status}."


class NotTheProposer(Forbidden):
    template = "Only the proposer may cancel a proposal."


class VotingNotOpen(AitbcError):
    status = 409
    code = "VOTING_NOT_OPEN"
    template = "The vote on this proposal opens at {opens_at}."


class VotingClosed(AitbcError):
    status = 409
    code = "VOTING_CLOSED"
    template = "There is no vote on this proposal any more: it is {status}."


class VoteChangedTooOften(AitbcError):
    status = 409
    code = "VOTE_CHANGED_TOO_OFTEN"
    template = "This vote was cast {limit} times, which is the most."


class NoVotingPower(AitbcError):
    status = 403
    code = "NO_VOTING_POWER"
    template = (
        "This account has no vote on this proposal: what counts is what it held, without a gap, for {age_s} seconds"
        " before the proposal was made."
    )


class ProposalNotExecutable(AitbcError):
    status = 409
    code = "PROPOSAL_NOT_EXECUTABLE"
    template = "This proposal cannot be executed now: {reason}"


class DelegationRefused(AitbcError):
    status = 409
    code = "DELEGATION_REFUSED"
    template = "This delegation is not possible: {reason}"
