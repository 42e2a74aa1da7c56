"""`aitbc governance …`: propose, vote, delegate, execute; and what the network's parameters are."""

from __future__ import annotations

from typing import Annotated

import typer

from aitbc.cli.failures import usage_error
from aitbc.cli.output import ait, moment, note, pairs, print_json, say, state, table
from aitbc.cli.profile import JsonOption, KeyOption, UrlOption, connect
from aitbc.sdk.fields import plain
from aitbc.sdk.governance import Proposal

governance_app = typer.Typer(
    no_args_is_help=True,
    help="Governance: list, show, propose, cancel, vote, execute, power, delegate, delegations, parameters.",
)

ProposalArgument = Annotated[
    str, typer.Argument(metavar="PROPOSAL", help="A proposal's id.", show_default=False)
]
AccountArgument = Annotated[
    str,
    typer.Argument(metavar="ACCOUNT", help="An account's name, or a wallet's address.", show_default=False),
]
OnceOption = Annotated[str | None, typer.Option("--idempotency-key", help="The same key does it only once.")]
CHOICES = ("for", "against", "abstain", "veto")


@governance_app.command(name="list")
def list_(
    status: Annotated[str | None, typer.Option(help="Only those that are so now.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most so many.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """List proposals, newest first."""
    with connect(url, key) as client:
        page = client.proposals(status=status, limit=limit, cursor=cursor)
    if as_json:
        print_json([plain(one.raw) for one in page])
        return
    rows = [
        [one.proposal_id, one.type, state(one.status), moment(one.voting_ends_at), one.title] for one in page
    ]
    table(["PROPOSAL", "TYPE", "STATE", "VOTE ENDS", "TITLE"], rows)
    if page.next_cursor:
        note(f"there are more: --cursor {page.next_cursor}")


@governance_app.command()
def show(
    proposal: ProposalArgument, as_json: JsonOption = False, url: UrlOption = None, key: KeyOption = None
) -> None:
    """Show a proposal: what it would change, how the vote stands, what happened to it."""
    with connect(url, key) as client:
        _print(client.proposal(proposal), as_json)


@governance_app.command()
def propose(
    title: Annotated[str, typer.Argument(metavar="TITLE", help="What it is about.", show_default=False)],
    description: Annotated[str, typer.Option(metavar="TEXT", help="Why.")] = "",
    parameter: Annotated[
        str | None, typer.Option(metavar="NAME", help="The parameter to change, with --value.")
    ] = None,
    value: Annotated[int | None, typer.Option(help="Its new value, in its unit.")] = None,
    recipient: Annotated[
        str | None, typer.Option("--to", metavar="ACCOUNT", help="Who gets --amount from the treasury.")
    ] = None,
    amount: Annotated[str | None, typer.Option(metavar="AIT", help="How much.")] = None,
    idempotency_key: OnceOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Make a proposal: of a parameter, of money from the treasury, or of a text alone. Its deposit is held."""
    if (parameter is None) != (value is None) or (recipient is None) != (amount is None):
        raise usage_error("--parameter goes with --value, and --to with --amount")
    if parameter is not None and recipient is not None:
        raise usage_error("a proposal changes a parameter or allots money, not both")
    kind = "text" if parameter is None and recipient is None else ""
    kind = kind or ("parameter_change" if recipient is None else "fund_allocation")
    with connect(url, key) as client:
        try:
            made = client.propose(
                title,
                type=kind,
                description=description,
                parameter=parameter,
                value=value,
                recipient=recipient,
                amount=amount,
                idempotency_key=idempotency_key,
            )
        except ValueError as error:
            raise usage_error(f"--amount: {error}") from error
        _print(made, as_json)


@governance_app.command()
def cancel(
    proposal: ProposalArgument,
    idempotency_key: OnceOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Take your own proposal back, before its vote opens."""
    with connect(url, key) as client:
        _print(client.cancel_proposal(proposal, idempotency_key=idempotency_key), as_json)


@governance_app.command()
def vote(
    proposal: ProposalArgument,
    choice: Annotated[
        str,
        typer.Argument(metavar="|".join(CHOICES), help="How; vote again to change it.", show_default=False),
    ],
    idempotency_key: OnceOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Vote with what your account held when the proposal was made, and for those who let you vote for them."""
    if choice not in CHOICES:
        raise usage_error(f"a vote is one of {', '.join(CHOICES)}")
    with connect(url, key) as client:
        cast = client.vote(proposal, choice, idempotency_key=idempotency_key)
    if as_json:
        print_json(plain(cast.raw))
        return
    say(f"{ait(cast.power)} AIT vote {cast.choice}")
    pairs([(name, ait(units)) for name, units in cast.tally.items()])


@governance_app.command()
def execute(
    proposal: ProposalArgument,
    idempotency_key: OnceOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Execute what passed, once its timelock is over. The coordinator does so by itself, too."""
    with connect(url, key) as client:
        _print(client.execute_proposal(proposal, idempotency_key=idempotency_key), as_json)


@governance_app.command()
def power(
    account: AccountArgument,
    proposal: Annotated[
        str | None, typer.Option(help="On this proposal; on one that was made now if left out.")
    ] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Show an account's voting power."""
    with connect(url, key) as client:
        found = client.voting_power(account, proposal_id=proposal)
    if as_json:
        print_json(plain(found.raw))
        return
    pairs(
        [
            ("account", found.user_id),
            ("power, AIT", ait(found.power)),
            ("its own, AIT", ait(found.own)),
            ("of others, AIT", ait(found.delegated)),
            ("delegate", found.delegate),
        ]
    )


@governance_app.command()
def delegate(
    account: Annotated[
        str | None,
        typer.Argument(metavar="[ACCOUNT]", help="Who votes for you.", show_default=False),
    ] = None,
    nobody: Annotated[bool, typer.Option("--nobody", help="End it.")] = False,
    idempotency_key: OnceOption = None,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Let another account vote for yours, from the next proposal on and where you don't vote. Public."""
    if (account is None) != nobody:
        raise usage_error("name an account, or say --nobody")
    with connect(url, key) as client:
        made = client.delegate(account, idempotency_key=idempotency_key)
    say(f"{made.delegator} -> {made.delegate or 'nobody'}")


@governance_app.command()
def delegations(account: AccountArgument, url: UrlOption = None, key: KeyOption = None) -> None:
    """Show who votes for an account, and for whom it votes."""
    with connect(url, key) as client:
        found = client.delegations(account)
    rows = [found.delegate, *found.delegators] if found.delegate else [*found.delegators]
    table(
        ["DELEGATOR", "DELEGATE", "SINCE"], [[one.delegator, one.delegate, moment(one.since)] for one in rows]
    )


@governance_app.command()
def parameters(as_json: JsonOption = False, url: UrlOption = None, key: KeyOption = None) -> None:
    """List the network's parameters, which proposals can change."""
    with connect(url, key) as client:
        found = client.network_parameters()
    if as_json:
        print_json([plain(one.raw) for one in found])
        return
    rows = [
        [one.name, one.value, one.unit, f"{one.minimum}..{one.maximum}", one.changed_by or "", one.meaning]
        for one in found
    ]
    table(["PARAMETER", "VALUE", "UNIT", "BOUNDS", "CHANGED BY", "MEANING"], rows)


def _print(one: Proposal, as_json: bool) -> None:
    if as_json:
        print_json(plain(one.raw))
        return
    change = one.raw.get("change") or {}
    would = f"{change.get('what')}: {change.get('before')} -> {change.get('after')} {change.get('unit')}"
    pairs(
        [
            ("proposal", one.proposal_id),
            ("title", one.title),
            ("by", one.proposer),
            ("state", one.status),
            ("would change", would if change.get("what") else None),
            ("not possible now", change.get("obstacle")),
            ("amount, AIT", ait(one.amount)),
            ("to", one.recipient),
            ("deposit, AIT", ait(one.deposit)),
            ("vote opens", moment(one.voting_starts_at)),
            ("vote ends", moment(one.voting_ends_at)),
            ("quorum, AIT", f"{ait(one.quorum_cast)} of {ait(one.quorum_needed)}"),
            *((name, ait(units)) for name, units in one.votes.items()),
            ("executable", moment(one.executable_at)),
            ("waits because", one.reason),
        ]
    )
