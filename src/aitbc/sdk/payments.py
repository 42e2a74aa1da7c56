"""Payments of jobs: how a job is paid, and steering those that were submitted with payment "manual"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from aitbc.core.money import ait_number, parse_ait
from aitbc.sdk.answers import id_path
from aitbc.sdk.errors import Conflict
from aitbc.sdk.fields import Fields
from aitbc.sdk.requests import Money
from aitbc.sdk.transport import Answer, Call, Flow, send


@dataclass(frozen=True)
class Payment:
    """A job's payment. Money is Decimal in AIT; `amount` is what is or was held, `price` what the job costs.

    status: pending, escrowed, released, refunded or partially_refunded.
    """

    payment_id: str
    job_id: str
    mode: str
    status: str
    payer: str
    payee: str | None
    amount: Decimal
    price: Decimal | None
    fee: Decimal | None
    refunded: Decimal
    transfer_id: str | None
    receipt_id: str | None
    release_after: datetime | None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> Payment:
        get = Fields("payment", data)
        return cls(
            payment_id=get.text("payment_id"),
            job_id=get.text("job_id"),
            mode=get.text("mode"),
            status=get.text("status"),
            payer=get.text("payer"),
            payee=get.opt_text("payee"),
            amount=get.money("amount"),
            price=get.opt_money("price"),
            fee=get.opt_money("fee"),
            refunded=get.money("refunded"),
            transfer_id=get.opt_text("transfer_id"),
            receipt_id=get.opt_text("receipt_id"),
            release_after=get.opt_time("release_after"),
            raw=get.data,
        )


def payment(job_id: str) -> Flow[Payment]:
    """A job's payment, for its payer and its payee."""
    return send(Call("GET", id_path("/v1/jobs/{}/payment", job_id), _payment))


def open_payment(job_id: str, *, idempotency_key: str | None = None) -> Flow[Payment]:
    """Put a manual job's worst-case price into escrow; the job is dispatched from now on.

    Raises `PaymentRequired`, and `Conflict` where it does not wait for its payment.
    """
    return send(
        Call(
            "POST",
            "/v1/payments",
            _payment,
            body={"job_id": job_id},
            creates=True,
            idempotency_key=idempotency_key,
        )
    )


def release_payment(payment_id: str) -> Flow[Payment]:
    """Pay a completed job's price to its miner now. Raises `Conflict` where it cannot be, or was refunded."""
    try:
        return (yield from send(Call("POST", id_path("/v1/payments/{}/release", payment_id), _payment)))
    except Conflict:
        # An earlier try of this very call may have released it: then all is as wished.
        found = yield from _by_id(payment_id)
        if found.mode == "manual" and found.status == "released":
            return found
        raise


def refund_payment(payment_id: str, amount: Money | None = None) -> Flow[Payment]:
    """Give the price back, or `amount` of it, as the miner's account; raises `Conflict` where it is too late.

    The payer of a job that ended without an answer has its money back already, and is shown so.
    """
    units = None if amount is None else parse_ait(amount)
    body = {} if units is None else {"amount": ait_number(units)}
    try:
        return (
            yield from send(Call("POST", id_path("/v1/payments/{}/refund", payment_id), _payment, body=body))
        )
    except Conflict:
        found = yield from _by_id(payment_id)
        wished = found.price if units is None else Decimal(units).scaleb(-8)
        if found.mode == "manual" and found.status.endswith("refunded") and found.refunded == wished:
            return found
        raise


def _by_id(payment_id: str) -> Flow[Payment]:
    return send(Call("GET", id_path("/v1/payments/{}", payment_id), _payment))


def _payment(answer: Answer) -> Payment:
    return Payment.from_json(answer.data)
