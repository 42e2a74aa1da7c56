"""What the explorer takes and gives. Heights, hashes and counts come from stored blocks."""

from typing import Annotated, Any

from pydantic import Field, model_validator
from typing_extensions import TypedDict

from aitbc.coordinator.api.plumbing.routing import QueryFields
from aitbc.coordinator.api.schemas.fields import OneOf
from aitbc.coordinator.api.schemas.queries import ID_CHARS, MAX_LIMIT
from aitbc.coordinator.api.schemas.replies import Reply

MAX_OFFSET = 10_000
DATE_TIME: dict[str, Any] = {"format": "date-time"}


class Paged(QueryFields):
    """A page of a list. `cursor` goes on at any depth; `offset` skips, and is bounded."""

    limit: int = Field(20, ge=1, le=MAX_LIMIT)
    offset: int = Field(0, ge=0, le=MAX_OFFSET)
    cursor: str | None = Field(
        None, min_length=1, max_length=ID_CHARS, description="X-Next-Cursor of the page before."
    )


class BlockList(Paged):
    limit: int = Field(10, ge=1, le=MAX_LIMIT)


class TransactionList(Paged):
    address: str | None = Field(None, max_length=ID_CHARS, description="Only what this account paid or got.")
    block: str | None = Field(None, max_length=ID_CHARS, description="Only of this block (height or hash).")

    @model_validator(mode="after")
    def _one_filter(self) -> "TransactionList":
        if self.address is not None and self.block is not None:
            raise ValueError("name either an address or a block")
        return self


class ReceiptPage(Paged):
    client: str | None = Field(None, max_length=ID_CHARS)
    provider: str | None = Field(None, max_length=ID_CHARS)
    job_id: str | None = Field(None, max_length=ID_CHARS)

    @model_validator(mode="after")
    def _one_filter(self) -> "ReceiptPage":
        if sum(value is not None for value in (self.client, self.provider, self.job_id)) > 1:
            raise ValueError("name one of client, provider and job_id")
        return self


class SearchText(QueryFields):
    q: str = Field(
        min_length=1,
        max_length=ID_CHARS,
        description="A height, a hash or at least 8 digits of its beginning, an address, or the id of a "
        "transaction, a receipt or a job.",
    )


class Block(Reply):
    """One block. `transactions` (transfers) and `receipts` are counts; `leaves` counts those of every kind."""

    height: int
    hash: str
    previous_hash: str
    timestamp: Annotated[str, Field(json_schema_extra=DATE_TIME)]
    transactions: int
    receipts: int
    contents: Annotated[
        dict[str, int] | None,
        Field(
            description="How many of its leaves are of which kind, as in its signed header;"
            " null in blocks of version 1."
        ),
    ]
    leaves: int
    first_leaf: int
    tree_size: int
    root: Annotated[str, Field(description="Of the log's tree at `tree_size`, hex.")]
    proposer: Annotated[str | None, Field(description="Id of the key that signed it; null for genesis.")]
    signature: Annotated[str | None, Field(description="Its signature over the block's header, base64.")]
    final: Annotated[bool, Field(description="Whether enough witnesses cosigned it or a later block.")]
    cosignatures: Annotated[int, Field(description="Witnesses that cosigned this very block.")]


class FullBlock(Block):
    """One block with its checkpoint and all cosignatures on that."""

    checkpoint: str | None


_Transaction = TypedDict(
    "_Transaction",
    {
        "hash": Annotated[str, Field(description="Of its leaf in the log, hex.")],
        "id": str,
        "type": Annotated[str, OneOf("mint", "transfer", "hold", "post", "fee", "void")],
        "from": str,
        "to": str,
        "amount": Annotated[float, Field(description="AIT.")],
        "job_id": Annotated[str | None, Field(description="The job that the money is for.")],
        "reason": Annotated[
            str | None, Field(description="Why a mint made money; null for other transfers.")
        ],
        "leaf_index": int | None,
        "block_height": int | None,
        "timestamp": Annotated[str, Field(json_schema_extra=DATE_TIME)],
    },
)


class Transaction(Reply, _Transaction):
    """One transfer of the ledger. Block and leaf index are null until a block has sealed it."""


class FullTransaction(Transaction):
    """One transfer with the proof that it is in the log."""

    proof: Annotated[str | None, Field(description="C2SP tlog-proof of the leaf; null until it is sealed.")]


class Address(Reply):
    """One account. What it did follows the newest block by a moment."""

    address: str
    type: Annotated[str, OneOf("user", "mint", "treasury", "escrow")]
    balance: Annotated[float, Field(description="AIT; below zero for the mint only.")]
    transactions: Annotated[int, Field(description="Sealed transfers that name it.")]
    first_seen: Annotated[str | None, Field(json_schema_extra=DATE_TIME)]
    last_seen: Annotated[str | None, Field(json_schema_extra=DATE_TIME)]


class Stats(Reply):
    """The network in numbers. What is counted by blocks is as of block `block_height`."""

    chain_id: str
    block_height: int
    block_hash: str
    block_time: Annotated[str, Field(json_schema_extra=DATE_TIME)]
    final_height: Annotated[int | None, Field(description="The newest final block; null where none is.")]
    tree_size: int
    total_transactions: int
    total_receipts: int
    total_jobs: Annotated[int, Field(description="Jobs ever submitted.")]
    active_miners: int
    accounts: Annotated[int, Field(description="Accounts with a sealed transfer, the system's own left out.")]


class Match(Reply):
    """Something that a search found, and where it is served."""

    type: Annotated[str, OneOf("block", "transaction", "receipt", "address")]
    id: str
    path: str
