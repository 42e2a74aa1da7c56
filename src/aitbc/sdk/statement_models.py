"""A statement of account as the SDK returns it. Money is Decimal in AIT, times are aware datetimes in UTC."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from aitbc.sdk.fields import Fields

Raw = Mapping[str, Any]


@dataclass(frozen=True)
class Movement:
    """One change of the balance by `amount` (below zero for what was spent).

    A job's tokens (`units`), prices, fee and refund stand on its payment, the row of kind "post"; the fee that
    its payer pays beside it is a row of its own.
    """

    time: datetime
    kind: str
    role: str
    amount: Decimal
    counterparty: str
    reference: str
    transfer_id: str
    job_id: str | None
    receipt_id: str | None
    model: str | None
    units: int | None
    unit_price: Decimal | None
    price: Decimal | None
    fee: Decimal | None
    refunded: Decimal | None
    raw: Raw = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> Movement:
        get = Fields("movement", data)
        return cls(
            time=get.time("time"),
            kind=get.text("kind"),
            role=get.text("role"),
            amount=get.money("amount"),
            counterparty=get.text("counterparty"),
            reference=get.text("reference"),
            transfer_id=get.text("transfer_id"),
            job_id=get.opt_text("job_id"),
            receipt_id=get.opt_text("receipt_id"),
            model=get.opt_text("model"),
            units=get.opt_integer("units"),
            unit_price=get.opt_money("unit_price"),
            price=get.opt_money("price"),
            fee=get.opt_money("fee"),
            refunded=get.opt_money("refunded"),
            raw=get.data,
        )


@dataclass(frozen=True)
class Statement:
    """One page of the movements from `start` to before `end`.

    The totals stand on the first page (None on others) and are of all pages: opening + in - out = closing.
    """

    account: str
    start: datetime
    end: datetime
    opening_balance: Decimal | None
    closing_balance: Decimal | None
    total_in: Decimal | None
    total_out: Decimal | None
    rows: tuple[Movement, ...]
    next_cursor: str | None
    raw: Raw = field(default_factory=dict, repr=False, compare=False)

    def __iter__(self) -> Iterator[Movement]:
        return iter(self.rows)

    @classmethod
    def from_json(cls, data: Any) -> Statement:
        get = Fields("statement", data)
        return cls(
            account=get.text("account"),
            start=get.time("from"),
            end=get.time("to"),
            opening_balance=get.opt_money("opening_balance"),
            closing_balance=get.opt_money("closing_balance"),
            total_in=get.opt_money("total_in"),
            total_out=get.opt_money("total_out"),
            rows=tuple(Movement.from_json(row) for row in get.items("rows") or []),
            next_cursor=get.opt_text("next_cursor"),
            raw=get.data,
        )
