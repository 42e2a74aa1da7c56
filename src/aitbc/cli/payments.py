"""`aitbc payment …`: how a job is paid; the escrow of jobs submitted with --payment manual."""

from __future__ import annotations

from typing import Annotated

import typer

from aitbc.cli.failures import usage_error
from aitbc.cli.jobs import JobArgument
from aitbc.cli.output import ait, moment, pairs, print_json
from aitbc.cli.profile import JsonOption, KeyOption, UrlOption, connect
from aitbc.sdk import Payment
from aitbc.sdk.fields import plain

payment_app = typer.Typer(
    no_args_is_help=True, help="A job's payment: show; and for manual ones open, release, refund."
)


@payment_app.command()
def show(job: JobArgument, as_json: JsonOption = False, url: UrlOption = None, key: KeyOption = None) -> None:
    """Show how a job is paid: what is held, what it costs, where the money is."""
    with connect(url, key) as client:
        _print(client.payment(job), as_json)


@payment_app.command("open")
def open_escrow(
    job: JobArgument,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key pays only once.")] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Reserve the worst-case price of a job submitted with --payment manual, so that it runs."""
    with connect(url, key) as client:
        _print(client.open_payment(job, idempotency_key=idempotency_key), as_json)


@payment_app.command()
def release(
    job: JobArgument, as_json: JsonOption = False, url: UrlOption = None, key: KeyOption = None
) -> None:
    """Pay the miner of your completed job now, before the acceptance window does."""
    with connect(url, key) as client:
        _print(client.release_payment(client.payment(job).payment_id), as_json)


@payment_app.command()
def refund(
    job: JobArgument,
    amount: Annotated[
        str | None, typer.Option(metavar="AIT", help="So much of the price; all of it if left out.")
    ] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Give the price of a job that you answered back to its payer."""
    with connect(url, key) as client:
        try:
            done = client.refund_payment(client.payment(job).payment_id, amount)
        except ValueError as error:
            raise usage_error(f"--amount: {error}") from error
        _print(done, as_json)


def _print(payment: Payment, as_json: bool) -> None:
    if as_json:
        print_json(plain(payment.raw))
        return
    pairs(
        [
            ("payment", payment.payment_id),
            ("job", payment.job_id),
            ("state", f"{payment.status} ({payment.mode})"),
            ("paid by", payment.payer),
            ("paid to", payment.payee),
            ("held, AIT", ait(payment.amount)),
            ("price, AIT", ait(payment.price)),
            ("fee, AIT", ait(payment.fee)),
            ("refunded, AIT", ait(payment.refunded) if payment.refunded else None),
            ("released after", moment(payment.release_after) if payment.status == "escrowed" else None),
            ("transfer", payment.transfer_id),
            ("receipt", payment.receipt_id),
        ]
    )
