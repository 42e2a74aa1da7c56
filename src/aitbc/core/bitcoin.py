"""Amounts of bitcoin as integers of satoshi, what they come to in AIT, and the text that a wallet's QR code holds.

Inside the program an amount of bitcoin is an `int` of satoshi (`*_sat`); 1 BTC is 100,000,000 of them. A rate is an
`int` too: base units of AIT for one whole bitcoin (`rate_units`).
"""

from __future__ import annotations

from decimal import Decimal

from aitbc.core.money import format_ait, parse_ait

SAT_PER_BTC = 100_000_000
MAX_SAT = 21_000_000 * SAT_PER_BTC
"""Satoshi that can ever exist; no output has more."""

CREDITED, REVERSED = "credit", "reversal"
ENTRY = "entry:"
"""What stands before a transfer's id in the name of the log's entry that says which output it is for."""


def parse_btc(value: str | int | Decimal | float) -> int:
    """Satoshi of an amount in BTC. ValueError: not a number, negative, more than 8 decimals, more than there is."""
    sat = parse_ait(value)  # as many decimals, and the same rules
    if sat > MAX_SAT:
        raise ValueError("an amount cannot exceed 21000000 BTC")
    return sat


def format_btc(sat: int) -> str:
    """Exact decimal text of an amount in BTC without superfluous zeros: "0.00012"."""
    return format_ait(sat)


def units_of(sat: int, rate_units: int) -> int:
    """Base units of AIT for an amount of bitcoin, rounded down to a whole unit."""
    return sat * rate_units // SAT_PER_BTC


def sat_for(units: int, rate_units: int) -> int:
    """The least satoshi that are worth `units` base units of AIT."""
    return -(-units * SAT_PER_BTC // rate_units)


def payment_uri(address: str, sat: int) -> str:
    """BIP21: what wallets open and QR codes hold."""
    return f"bitcoin:{address}?amount={format_btc(sat)}"


def outpoint(txid: str, vout: int) -> str:
    """An output's name: its transaction and its place in it."""
    return f"{txid}:{vout}"
