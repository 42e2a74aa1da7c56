"""`aitbc policy …`: what a verifier trusts, written down once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aitbc.cli.failures import usage_error
from aitbc.cli.output import note, print_json
from aitbc.cli.profile import KeyOption, UrlOption, connect
from aitbc.cli.receipts import save_document
from aitbc.cli.trust import load_keys

if TYPE_CHECKING:
    from aitbc.core.log.note import Verifier
    from aitbc.core.receipt import KeySet

policy_app = typer.Typer(
    no_args_is_help=True, help="Policies, which say whose keys and witnesses you trust: new."
)


@policy_app.callback()
def _policy() -> None:
    """Keeps `new` a command of its own: typer folds an app of one command into its name."""


@policy_app.command()
def new(
    keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The coordinator's keys as you saved them; else it is asked now."),
    ] = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(metavar="VKEY", help="A witness whose cosignature counts (may be repeated)."),
    ] = None,
    quorum: Annotated[
        int | None, typer.Option(min=0, help="How many of them must have cosigned; default: all.")
    ] = None,
    require_proof: Annotated[bool, typer.Option(help="Whether a receipt without a proof fails.")] = True,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="Write it to a file (- is stdout).")
    ] = None,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Write a policy from a coordinator's keys: what `receipt verify` and `audit` then hold everything to.

    Keys that are asked for now prove only that the coordinator agrees with itself: compare them with what you
    got another way, then keep the file.
    """
    from aitbc.core.receipt import Policy, PolicyInvalid

    witnesses = [_witness(text) for text in witness or []]
    if keys is None:
        with connect(url, key) as client:
            key_set = client.keys()
    else:
        key_set = load_keys(keys)
    try:
        policy = Policy(
            chain_id=key_set.chain_id,
            log=_log_keys(key_set),
            witnesses=tuple(witnesses),
            quorum=len(witnesses) if quorum is None else quorum,
            receipt_keys=tuple(one.public_bytes for one in key_set if one.use == "receipts"),
            require_proof=require_proof,
            network_id=key_set.network_id,
        )
    except PolicyInvalid as error:
        raise usage_error(f"these make no policy: {error}", "See docs/formats/policy.md") from error
    document = policy.to_json()
    if save is None:
        print_json(document)
    else:
        save_document(save, document, f"policy of {policy.chain_id}")
    if not witnesses:
        note("Without witnesses the log is only as honest as its operator: --witness VKEY adds one.")


def _witness(text: str) -> Verifier:
    from aitbc.core.log.note import Verifier

    try:
        return Verifier.parse(text)
    except ValueError as error:
        raise usage_error(
            f"{text[:80]} is not a witness's key: {error}", "`aitbc witness run` prints it."
        ) from error


def _log_keys(key_set: KeySet) -> tuple[Verifier, ...]:
    from aitbc.core.log.note import Verifier

    return tuple(Verifier(key_set.origin, one.public_bytes) for one in key_set.log_keys)
