"""`aitbc topup`: AIT for Bitcoin, with the QR code in the terminal and the payment's state as it changes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from aitbc.cli.failures import CommandError, usage_error
from aitbc.cli.output import ait, moment, note, pairs, print_json, say
from aitbc.cli.profile import JsonOption, KeyOption, UrlOption, connect
from aitbc.sdk import BitcoinPayment
from aitbc.sdk.fields import plain

_SAYS = {
    "pending": "nothing has arrived yet",
    "seen": "it is on its way",
    "confirmed": "it is credited",
    "expired": "nothing arrived while the rate was locked; what comes later is credited at the rate of then",
    "invalid": "what was on its way is gone again",
}


def topup(
    amount: Annotated[
        str | None, typer.Argument(metavar="[AIT]", help="How much AIT you want.", show_default=False)
    ] = None,
    btc: Annotated[str | None, typer.Option(metavar="BTC", help="Or how much you pay.")] = None,
    payment: Annotated[
        str | None, typer.Option(metavar="ID", help="Look at a payment that was made before.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Stay and show what happens to it.")] = True,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key makes one payment.")] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Get AIT for Bitcoin: shows where to pay, as a QR code too, and stays until it is credited."""
    if sum(one is not None for one in (amount, btc, payment)) != 1:
        raise usage_error("give an amount of AIT, or --btc, or --payment: one of them")
    with connect(url, key) as client:
        if payment is not None:
            made = client.bitcoin_payment(payment)
        else:
            try:
                made = client.create_bitcoin_payment(amount, btc=btc, idempotency_key=idempotency_key)
            except ValueError as error:
                raise usage_error(f"the amount: {error}") from error
        if not as_json:
            _show(made)
        if wait and not made.ended:
            if not as_json:
                note("waiting for it; Ctrl-C ends the waiting, not the payment")
            made = client.wait_for_bitcoin(made.payment_id, on_change=None if as_json else _changed)
        elif not as_json:
            _changed(made)
    if as_json:
        print_json(plain(made.raw))
    if wait and made.status == "invalid":
        raise CommandError("PAYMENT_GONE", "the payment was replaced, or reorganised away", "pay once more")


def _show(made: BitcoinPayment) -> None:
    if sys.stdout.isatty() and not made.ended:
        say(qr(made.uri))
    pairs(
        [
            ("payment", made.payment_id),
            ("pay, BTC", f"{made.btc_amount:f}"),
            ("to", made.address),
            ("for, AIT", ait(made.amount)),
            ("rate locked until", moment(made.expires_at)),
            ("confirmations", str(made.confirmations_needed)),
            ("link", made.uri),
        ]
    )


def _changed(made: BitcoinPayment) -> None:
    what = f"{made.status}: {_SAYS.get(made.status, '')}"
    if made.exception != "none":
        what += f" ({made.exception})"
    depth = min((one.confirmations for one in made.outputs if one.status != "gone"), default=0)
    if made.status == "seen":
        what += f", {depth} of {made.confirmations_needed} confirmations"
    note(f"{what}; {made.received_btc:f} BTC received, {ait(made.credited)} AIT credited")


BORDER = 2
_HALVES = {(True, True): " ", (True, False): "▄", (False, True): "▀", (False, False): "█"}
"""What two modules, one above the other, look like: light ones are drawn, as terminals are dark."""


def qr(text: str) -> str:
    """A QR code of two rows a line."""
    import segno

    rows = [
        list(map(bool, row)) for row in segno.make(text, error="l", micro=False).matrix_iter(border=BORDER)
    ]
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    return "\n".join(
        "".join(_HALVES[pair] for pair in zip(above, below, strict=True))
        for above, below in zip(rows[::2], rows[1::2], strict=True)
    )
