"""Bodies of governance."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from aitbc.coordinator.api.plumbing.routing import Body, QueryFields
from aitbc.coordinator.api.schemas.fields import AmountUnits, OneOf
from aitbc.coordinator.api.schemas.queries import ID_CHARS, MAX_LIMIT
from aitbc.coordinator.api.schemas.replies import Reply
from aitbc.core.text import clean
from aitbc.core.transfer_ids import ACCOUNT_NAME
from aitbc.core.wallet.address import AddressInvalid, canonical_address, looks_like_address

MAX_TITLE_CHARS = 200
MAX_DESCRIPTION_CHARS = 10_000

Choice = Literal["for", "against", "abstain", "veto"]
ProposalType = Annotated[str, OneOf("parameter_change", "fund_allocation", "text")]
ProposalStatus = Literal[
    "pending", "active", "passed", "rejected", "expired", "cancelled", "queued", "executed"
]


def account_id(text: str) -> str:
    """The id of an account that a stranger names: an address in any of its spellings, or the name of a key's account.

    ValueError.
    """
    if looks_like_address(text):
        try:
            return canonical_address(text)
        except AddressInvalid as error:
            raise ValueError(str(error)) from None
    if ACCOUNT_NAME.fullmatch(text) is None:
        raise ValueError("must be a wallet's address or an account's name")
    return text


def _title(text: str) -> str:
    line = " ".join(clean(text, len(text)).split())
    if not line:
        raise ValueError("must say something")
    return line


def _description(text: str) -> str:
    return "\n".join(clean(line, len(line)) for line in text.splitlines())


AccountId = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(account_id)]


class NewProposal(Body):
    """What is proposed: a parameter_change has `parameter` and `value`, a fund_allocation `recipient` and `amount`."""

    decimals: ClassVar[bool] = True
    type: Literal["parameter_change", "fund_allocation", "text"]
    title: Annotated[str, Field(max_length=MAX_TITLE_CHARS), AfterValidator(_title)]
    description: Annotated[str, Field(max_length=MAX_DESCRIPTION_CHARS), AfterValidator(_description)] = ""
    parameter: str = Field("", max_length=64)
    value: int | None = Field(None, description="In the parameter's own unit, an integer.")
    recipient: AccountId | None = None
    amount: AmountUnits | None = None


class CastVote(Body):
    """A vote with the caller's whole power."""

    proposal_id: str = Field(min_length=1, max_length=64)
    choice: Choice


class Delegate(Body):
    """Who votes for the caller from now on; null: nobody but itself."""

    delegate: AccountId | None


class ProposalList(QueryFields):
    status: ProposalStatus | None = None
    limit: int = Field(20, ge=1, le=MAX_LIMIT)
    cursor: str | None = Field(None, max_length=ID_CHARS, description="next_cursor of the page before.")


class VoteList(QueryFields):
    limit: int = Field(100, ge=1, le=MAX_LIMIT)
    cursor: str | None = Field(None, max_length=ID_CHARS, description="next_cursor of the page before.")


class PowerQuery(QueryFields):
    proposal_id: str | None = Field(
        None, max_length=64, description="On this proposal; on one that was made now where left out."
    )


Tally = dict[str, float]


class Quorum(Reply):
    needed: Annotated[float, Field(description="AIT that have to vote.")]
    cast: float
    reached_at: str | None


class Change(Reply):
    """What the proposal would do if it was executed now; nulls for a text."""

    what: Annotated[str | None, Field(description="A parameter's name, or `treasury`.")]
    before: int | None
    after: int | None
    unit: str | None
    possible: bool
    obstacle: Annotated[str | None, Field(description="Why it cannot be done now.")]


class ProposalEvent(Reply):
    """Something that happened to it, and a leaf of the log."""

    id: str
    event: str
    at: str
    by: Annotated[str | None, Field(description="The account that did it; null where time did.")]
    body: dict[str, Any]


class ListedProposal(Reply):
    """A proposal. Money in AIT."""

    proposal_id: str
    id: str
    proposer: str
    type: ProposalType
    title: str
    description: str
    parameter: str | None
    value: int | None
    recipient: str | None
    amount: float | None
    status: str
    votes: Annotated[Tally, Field(description="The power of who votes so now: for, against, abstain, veto.")]
    quorum: Quorum
    threshold_bps: Annotated[
        int, Field(description="Of the votes for, against and veto; more of them have to be for it.")
    ]
    deposit: float
    created_at: str
    snapshot_at: Annotated[str, Field(description="What was held up to this moment votes.")]
    age_s: Annotated[int, Field(description="For so long before it.")]
    voting_starts_at: str
    voting_ends_at: str
    extended: bool
    executable_at: str | None
    executable_until: str | None
    reason: Annotated[str | None, Field(description="Why it could not be executed when that was last tried.")]


class Proposal(ListedProposal):
    """A proposal, what it would change, and its history."""

    change: Change
    events: list[ProposalEvent]


class ProposalPage(Reply):
    proposals: list[ListedProposal]
    next_cursor: str | None


class Vote(Reply):
    """How an account's power votes now."""

    proposal_id: str
    account: str
    by: Annotated[str, Field(description="Who cast it: the account, or its delegate.")]
    choice: str
    power: float
    at: str


class VotePage(Reply):
    votes: list[Vote]
    next_cursor: str | None


class VoteCast(Reply):
    """What was cast with this vote; nothing where all of it stood so already."""

    proposal_id: str
    choice: str
    power: Annotated[float, Field(description="The power that votes so now: one's own and that of others.")]
    votes: list[Vote]
    tally: Tally
    quorum: Quorum
    voting_ends_at: str


class VotingPower(Reply):
    """An account's voting power, AIT."""

    user_id: str
    power: Annotated[float, Field(description="Its own and that of those who let it vote for them.")]
    own: float
    delegated: Annotated[float, Field(description="Of it, that of others, who may still vote themselves.")]
    delegators: int
    delegate: Annotated[str | None, Field(description="Who votes for it where it does not.")]
    snapshot_at: str
    age_s: int
    vote: Vote | None


class Delegation(Reply):
    delegator: str
    delegate: Annotated[str | None, Field(description="Null: nobody.")]
    since: str | None


class Register(Reply):
    """Who votes for whom, of one account."""

    user_id: str
    delegate: Delegation | None
    delegators: list[Delegation]


class ParameterChange(Reply):
    number: int
    at: str
    by: str
    reason: str
    before: int | None


class Parameter(Reply):
    """A parameter of the network. Values are integers in its unit."""

    name: str
    value: int
    type: str
    unit: str
    minimum: int
    maximum: int
    default: int
    meaning: str
    last_changed: ParameterChange | None


class Parameters(Reply):
    parameters: list[Parameter]
