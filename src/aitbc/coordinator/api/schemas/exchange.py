"""Bodies of payments with Bitcoin."""

from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from aitbc.coordinator.api.plumbing.routing import Body
from aitbc.coordinator.api.schemas.fields import AmountUnits, OneOf
from aitbc.coordinator.api.schemas.replies.base import Reply
from aitbc.coordinator.exchange.states import EXCEPTIONS, STATES
from aitbc.core.bitcoin import parse_btc


def _btc(value: Any) -> int:
    if isinstance(value, str):
        raise ValueError("an amount is a number, not a string")
    return parse_btc(value)


Satoshi = Annotated[
    int,
    BeforeValidator(_btc),
    WithJsonSchema({"type": "number", "minimum": 0, "description": "BTC, at most 8 decimals."}),
]
"""A JSON number in BTC, as satoshi."""


class CreateBitcoinPayment(Body):
    """How much is wanted: in AIT, or in BTC; one of the two."""

    decimals: ClassVar[bool] = True
    amount: Annotated[AmountUnits | None, Field(description="AIT to be credited.")] = None
    btc_amount: Annotated[Satoshi | None, Field(description="BTC to be paid.")] = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.amount is None) == (self.btc_amount is None):
            raise ValueError("give amount (AIT) or btc_amount (BTC), one of them")
        return self


class BitcoinOutput(Reply):
    """An output that pays. Its state: mempool, block or gone (replaced, or reorganised away)."""

    txid: str
    vout: int
    btc_amount: float
    satoshi: int
    status: Annotated[str, OneOf("mempool", "block", "gone")]
    confirmations: int
    bitcoin_height: int | None
    bitcoin_hash: str | None
    late: Annotated[bool, Field(description="It came after the rate's lock; the rate of its credit holds.")]
    credited: Annotated[float, Field(description="AIT that were credited for it and stand.")]
    owed: Annotated[float, Field(description="AIT of it that a reversal could not take back.")]
    transfer_id: Annotated[str | None, Field(description="The ledger's line of its last credit or reversal.")]


class BitcoinPayment(Reply):
    """A payment with Bitcoin: what was asked for, and where it stands. Money in AIT and BTC, and in satoshi."""

    payment_id: str
    id: str
    status: Annotated[str, OneOf(*STATES)]
    exception: Annotated[str, OneOf(*EXCEPTIONS)]
    amount: Annotated[float, Field(description="AIT for btc_amount at the locked rate, or a little less.")]
    btc_amount: Annotated[float, Field(description="Pay exactly this.")]
    satoshi: int
    rate: Annotated[float, Field(description="AIT for one BTC, until expires_at.")]
    network: str
    address: str
    address_index: Annotated[
        int | None, Field(description="Under the operator's key; null: its one address.")
    ]
    uri: Annotated[str, Field(description="BIP21, for wallets.")]
    qr: Annotated[str, Field(description="The same as an SVG image.")]
    received_btc: Annotated[float, Field(description="In blocks or on its way.")]
    credited: Annotated[float, Field(description="AIT credited so far.")]
    confirmations_needed: int
    outputs: list[BitcoinOutput]
    expires_at: Annotated[
        str, Field(description="The end of the rate's lock; what comes later is credited too.")
    ]
    created_at: str
    updated_at: str


class ConfirmationRule(Reply):
    """How many blocks payments below an amount need; below null: all others."""

    below_btc: float | None
    blocks: int


class Rates(Reply):
    """What a payment with Bitcoin would be made at now."""

    btc_to_ait: Annotated[float, Field(description="AIT for one BTC.")]
    open: Annotated[bool, Field(description="Whether payments can be made now.")]
    network: str | None
    min_btc: float
    max_btc: float
    lock_s: Annotated[int, Field(description="How long a payment's rate is locked.")]
    confirmations: list[ConfirmationRule]
    bitcoin_height: Annotated[int | None, Field(description="The last Bitcoin block that was looked at.")]
    looked_at: str | None
