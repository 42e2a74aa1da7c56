"""Topping up with Bitcoin: what it is worth, a payment to pay to, and where it stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from aitbc.core.bitcoin import parse_btc
from aitbc.core.money import ait_number, parse_ait
from aitbc.sdk.answers import id_path
from aitbc.sdk.fields import Fields
from aitbc.sdk.requests import Money
from aitbc.sdk.transport import Answer, Call, Flow, Now, Sleep, send

POLL_S = 5.0
ENDED = ("confirmed", "expired", "invalid")
"""States from which nothing comes by itself; a payment that arrives later is credited all the same."""


@dataclass(frozen=True)
class BitcoinOutput:
    """What arrived for a payment. status: mempool, block or gone."""

    txid: str
    vout: int
    satoshi: int
    status: str
    confirmations: int
    late: bool
    credited: Decimal

    @classmethod
    def from_json(cls, data: Any) -> BitcoinOutput:
        get = Fields("bitcoin output", data)
        return cls(
            txid=get.text("txid"),
            vout=get.integer("vout"),
            satoshi=get.integer("satoshi"),
            status=get.text("status"),
            confirmations=get.integer("confirmations"),
            late=bool(get.data.get("late")),
            credited=get.money("credited"),
        )


@dataclass(frozen=True)
class BitcoinPayment:
    """A payment with Bitcoin: send `btc_amount` to `address`, or open `uri` with a wallet. Money is Decimal.

    status: pending, seen, confirmed, expired or invalid; exception: none, underpaid, overpaid, late or replaced.
    """

    payment_id: str
    status: str
    exception: str
    amount: Decimal
    btc_amount: Decimal
    satoshi: int
    rate: Decimal
    network: str
    address: str
    uri: str
    received_btc: Decimal
    credited: Decimal
    confirmations_needed: int
    outputs: tuple[BitcoinOutput, ...]
    expires_at: datetime | None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def ended(self) -> bool:
        """Whether nothing more comes by itself."""
        return self.status in ENDED

    @classmethod
    def from_json(cls, data: Any) -> BitcoinPayment:
        get = Fields("bitcoin payment", data)
        outputs = get.data.get("outputs")
        return cls(
            payment_id=get.text("payment_id"),
            status=get.text("status"),
            exception=get.text("exception"),
            amount=get.money("amount"),
            btc_amount=get.money("btc_amount"),
            satoshi=get.integer("satoshi"),
            rate=get.money("rate"),
            network=get.text("network"),
            address=get.text("address"),
            uri=get.text("uri"),
            received_btc=get.money("received_btc"),
            credited=get.money("credited"),
            confirmations_needed=get.integer("confirmations_needed"),
            outputs=tuple(map(BitcoinOutput.from_json, outputs if isinstance(outputs, list) else ())),
            expires_at=get.opt_time("expires_at"),
            raw=get.data,
        )


@dataclass(frozen=True)
class Rates:
    """What a payment with Bitcoin would be made at now; `open`: whether one can be."""

    btc_to_ait: Decimal
    open: bool
    network: str | None
    min_btc: Decimal
    max_btc: Decimal
    lock_s: int
    bitcoin_height: int | None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> Rates:
        get = Fields("rates", data)
        return cls(
            btc_to_ait=get.money("btc_to_ait"),
            open=bool(get.data.get("open")),
            network=get.opt_text("network"),
            min_btc=get.money("min_btc"),
            max_btc=get.money("max_btc"),
            lock_s=get.integer("lock_s"),
            bitcoin_height=get.opt_integer("bitcoin_height"),
            raw=get.data,
        )


def rates() -> Flow[Rates]:
    """The rate of Bitcoin payments now."""
    return send(Call("GET", "/v1/exchange/rates", lambda answer: Rates.from_json(answer.data)))


def create_bitcoin_payment(
    amount: Money | None = None, *, btc: Money | None = None, idempotency_key: str | None = None
) -> Flow[BitcoinPayment]:
    """Ask for a payment of `amount` AIT, or of `btc`; one of the two. ValueError for what is no amount.

    Raises `AitbcClientError` of code EXCHANGE_OFF, EXCHANGE_BLIND, TOO_MANY_TOPUPS, ACCOUNT_OWES or NO_AMOUNT_FREE
    where none can be made now.
    """
    if (amount is None) == (btc is None):
        raise ValueError("give an amount of AIT or of BTC, one of them")
    body = {"amount": ait_number(parse_ait(amount))} if amount is not None else {}
    if btc is not None:
        body = {"btc_amount": ait_number(parse_btc(btc))}
    return send(
        Call(
            "POST",
            "/v1/exchange/create-payment",
            _payment,
            body=body,
            creates=True,
            idempotency_key=idempotency_key,
        )
    )


def bitcoin_payment(payment_id: str) -> Flow[BitcoinPayment]:
    """Where a payment of yours stands."""
    return send(Call("GET", id_path("/v1/exchange/payment-status/{}", payment_id), _payment))


def wait_for_bitcoin(
    payment_id: str,
    *,
    timeout_s: float | None = None,
    on_change: Callable[[BitcoinPayment], None] | None = None,
) -> Flow[BitcoinPayment]:
    """Asks until it is confirmed, expired or invalid, or for so long: then as it is, and it goes on all the same."""
    began_s: float = yield Now()
    last: object = None
    while True:
        found = yield from bitcoin_payment(payment_id)
        seen = (found.status, found.exception, found.outputs)
        if on_change is not None and seen != last:
            on_change(found)
        last = seen
        now_s: float = yield Now()
        if found.ended or (timeout_s is not None and now_s - began_s >= timeout_s):
            return found
        yield Sleep(POLL_S)


def _payment(answer: Answer) -> BitcoinPayment:
    return BitcoinPayment.from_json(answer.data)
