"""Receipts, and what a miner gets for a result."""

from typing import Annotated, Any, NotRequired

from aitbc.coordinator.api.schemas.fields import OneOf
from aitbc.coordinator.api.schemas.replies.base import ErrorDetail, Reply


class Signature(Reply):
    alg: str
    key_id: str
    sig: str


class MinerSignature(Signature):
    public_key: str


class Receipt(Reply):
    """A signed receipt. Money in AIT, times in unix seconds; `result` only for the job's owner.

    `payment` and `release_after` (null unless the payment is manual) are not in receipts of version 1,
    `network_id` not in those of versions 1 and 2.
    """

    id: str
    receipt_id: str
    version: str
    chain_id: str
    network_id: NotRequired[str | None]
    job_id: str
    job_type: str
    client: str
    provider: str
    miner_id: str
    model: str
    units: float
    unit_type: str
    prompt_tokens: int
    completion_tokens: int
    metering: Annotated[str, OneOf("engine", "estimate")]
    unit_price: float
    price: float
    fee: float
    started_at: int
    completed_at: int
    prompt_hash: str
    result_hash: str
    claimed_tokens: list[int] | None
    payment: NotRequired[Annotated[str, OneOf("auto", "manual", "booking")] | None]
    release_after: NotRequired[int | None]
    miner_signature: MinerSignature | None
    signature: Signature
    proof: str | None
    result: NotRequired[dict[str, Any] | None]


class SubmittedResult(Reply):
    ok: bool
    job_id: NotRequired[str | None]
    receipt_id: NotRequired[str | None]
    receipt: NotRequired[Receipt | None]
    error: NotRequired[ErrorDetail | None]


class SubmittedResults(Reply):
    """One item for each result sent, in the same order."""

    items: list[SubmittedResult]
