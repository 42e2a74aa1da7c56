"""Bodies of payments and statements."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from typing_extensions import TypedDict

from aitbc.coordinator.api.plumbing.routing import Body, QueryFields
from aitbc.coordinator.api.schemas.fields import AmountUnits, OneOf
from aitbc.coordinator.api.schemas.replies import Reply

PaymentStatus = Annotated[str, OneOf("pending", "escrowed", "released", "refunded", "partially_refunded")]


class CreatePayment(Body):
    """The job whose escrow is to be opened."""

    job_id: str = Field(min_length=1, max_length=64)


class RefundPayment(Body):
    """How much of the price goes back; all of it where nothing is said."""

    decimals: ClassVar[bool] = True
    amount: AmountUnits | None = None


class Payment(Reply):
    """A payment. Money in AIT."""

    payment_id: str
    id: str
    job_id: str
    mode: Annotated[
        str, OneOf("auto", "manual"), Field(description="manual: its payer opens and releases it.")
    ]
    status: PaymentStatus
    payer: str
    payee: Annotated[str | None, Field(description="Known once a miner has the job.")]
    amount: Annotated[float, Field(description="What is or was held: the worst case.")]
    price: Annotated[float | None, Field(description="What the job costs; null before it is completed.")]
    fee: Annotated[float | None, Field(description="The treasury's part of the price.")]
    refunded: Annotated[float, Field(description="What went back to the payer beyond what was never used.")]
    transfer_id: Annotated[str | None, Field(description="The ledger's line that ended it.")]
    receipt_id: str | None
    release_after: Annotated[
        str | None, Field(description="When a completed job's payment is released by itself.")
    ]
    created_at: str
    updated_at: str


_LedgerLine = TypedDict(
    "_LedgerLine",
    {
        "id": str,
        "kind": str,
        "from": str,
        "to": str,
        "amount": float,
        "hold_id": Annotated[str | None, Field(description="The hold that it settles.")],
        "ref": Annotated[str, Field(description="What it was for: the job.")],
        "created_at": str,
        "hash": Annotated[
            str | None, Field(description="The leaf's hash, hex; all fields above make the leaf.")
        ],
        "leaf_index": Annotated[int | None, Field(description="Null until a block seals it.")],
        "block": int | None,
    },
)


class LedgerLine(Reply, _LedgerLine):
    """One transfer, and where the log has it."""


class PaymentReceipt(Reply):
    """What the ledger and the log say of a payment."""

    payment: Payment
    receipt_id: Annotated[str | None, Field(description="The job's receipt.")]
    transfers: list[LedgerLine]
    transaction_hash: Annotated[str | None, Field(description="Of the line that ended the payment.")]
    block: int | None
    proof: Annotated[str | None, Field(description="tlog-proof of that line; null until it is sealed.")]


class StatementQuery(QueryFields):
    """The time of a statement: RFC 3339, or a date for its first moment in UTC."""

    from_: str | None = Field(
        None, alias="from", max_length=40, description="With this moment; from the beginning where left out."
    )
    to: str | None = Field(None, max_length=40, description="Without this moment; until now where left out.")
    format: Literal["json", "csv"] = "json"
    limit: int = Field(100, ge=1, le=1000)
    cursor: str | None = Field(
        None, max_length=300, description="next_cursor (CSV: X-Next-Cursor) of the page before."
    )


class StatementRow(Reply):
    """One movement of the balance. Money in AIT. A job's figures stand on its payment (`post`) alone."""

    time: str
    kind: Annotated[str, OneOf("mint", "transfer", "post", "fee")]
    role: Annotated[
        str,
        OneOf("client", "miner", "account"),
        Field(description="As what the account moved: as a job's payer, as its miner, or neither."),
    ]
    job_id: str | None
    model: str | None
    units: Annotated[int | None, Field(description="Tokens billed.")]
    unit_price: Annotated[float | None, Field(description="Per 1000 tokens.")]
    price: float | None
    fee: Annotated[float | None, Field(description="The network's part of the price.")]
    refunded: Annotated[float | None, Field(description="What the miner gave back of the price.")]
    amount: Annotated[
        float, Field(description="What it changed the balance by; below zero for what was spent.")
    ]
    counterparty: str
    reference: str
    transfer_id: str
    receipt_id: str | None


_Statement = TypedDict(
    "_Statement",
    {
        "account": str,
        "from": str,
        "to": str,
        "opening_balance": float | None,
        "closing_balance": Annotated[
            float | None, Field(description="opening_balance + total_in - total_out.")
        ],
        "total_in": float | None,
        "total_out": float | None,
        "movements": Annotated[int | None, Field(description="How many rows all pages have.")],
        "rows": list[StatementRow],
        "next_cursor": str | None,
    },
)


class Statement(Reply, _Statement):
    """An account's movements with from <= time < to. The totals stand on the first page, and are of all."""
