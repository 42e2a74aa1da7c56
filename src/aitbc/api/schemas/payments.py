"""Bodies of payments and statements."""

from typing import ClassVar, Literal

from pydantic import Field

from aitbc.api.routing import Body
from aitbc.api.schemas.fields import AmountUnits
from aitbc.api.schemas.replies import Reply

PaymentStatus = Literal["pending", "escrowed", "released", "refunded", "partially_refunded"]


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
    mode: Literal["auto", "manual"] = Field(description="manual: its payer opens and releases it.")
    status: PaymentStatus
    payer: str
    payee: str | None = Field(description="Known once a miner has the job.")
    amount: float = Field(description="What is or was held: the worst case.")
    price: float | None = Field(description="What the job costs; null before it is completed.")
    fee: float | None = Field(description="The treasury's part of the price.")
    refunded: float = Field(description="What went back to the payer beyond what was never used.")
    transfer_id: str | None = Field(description="The ledger's line that ended it.")
    receipt_id: str | None
    release_after: str | None = Field(description="When a completed job's payment is released by itself.")
    created_at: str
    updated_at: str


class LedgerLine(Reply):
    """One transfer, and where the log has it."""

    id: str
    kind: str
    from_: str = Field(alias="from")
    to: str
    amount: float
    hold_id: str | None = Field(description="The hold that it settles.")
    ref: str = Field(description="What it was for: the job.")
    created_at: str
    hash: str | None = Field(description="The leaf's hash, hex; all fields above make the leaf.")
    leaf_index: int | None = Field(description="Null until a block seals it.")
    block: int | None


class PaymentReceipt(Reply):
    """What the ledger and the log say of a payment."""

    payment: Payment
    receipt_id: str | None = Field(description="The job's receipt.")
    transfers: list[LedgerLine]
    transaction_hash: str | None = Field(description="Of the line that ended the payment.")
    block: int | None
    proof: str | None = Field(description="tlog-proof of that line; null until it is sealed.")


class StatementRow(Reply):
    """One line of a statement: what changed the account, and by how much. Money in AIT."""

    time: str
    kind: str
    role: Literal["client", "miner", "account"]
    amount: float = Field(description="What it changed the balance by; below zero for what was spent.")
    fee: float
    transfer_id: str
    job_id: str | None
    receipt_id: str | None
    units: int | None
    unit_price: float | None
    price: float | None
    model: str | None


class Statement(Reply):
    """An account's movements in a time, and totals that equal the ledger's."""

    account: str
    from_: str = Field(alias="from")
    to: str
    opening_balance: float
    closing_balance: float
    total_in: float
    total_out: float
    rows: list[StatementRow]
    next_cursor: str | None
