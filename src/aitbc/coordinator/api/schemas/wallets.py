"""Bodies and answers of wallet users and of the chain's RPC."""

from typing import Annotated, Any, ClassVar, Literal, NotRequired

from pydantic import BeforeValidator, Field
from typing_extensions import TypedDict

from aitbc.coordinator.api.plumbing.routing import Body, QueryFields
from aitbc.coordinator.api.schemas.fields import AmountUnits, OneOf
from aitbc.coordinator.api.schemas.replies import Reply
from aitbc.core.clock import parse_rfc3339
from aitbc.core.wallet.transaction import MAX_NONCE

DATE_TIME: dict[str, Any] = {"format": "date-time"}


def _moment(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError("must be a time like 2027-01-31T00:00:00Z")
    return parse_rfc3339(value)


MomentMs = Annotated[int, BeforeValidator(_moment, json_schema_input_type=str)]
"""A time of RFC 3339, as ms since the epoch."""

Address = Annotated[str, Field(min_length=1, max_length=128)]


class ChallengeRequest(Body):
    wallet_address: Address = Field(description="ait1… or 0x….")


class LoginRequest(Body):
    wallet_address: Address
    message: str = Field(max_length=4096, description="The challenge's message, word for word.")
    signature: str = Field(max_length=512, description="0x… (EIP-191), or base64 of an Ed25519 signature.")
    public_key: str | None = Field(None, max_length=128, description="Base64; needed for ait1 addresses.")


class NewUserKey(Body):
    decimals: ClassVar[bool] = True

    role: Literal["client", "miner"] = "client"
    label: str = Field("", max_length=200)
    limit: AmountUnits | None = Field(None, description="Most that the key may spend in a period, AIT.")
    limit_period: Literal["day", "month"] | None = None
    expires_at: MomentMs | None = None


class SendTransaction(Body):
    """A signed transfer: docs/formats/transaction.md."""

    version: str
    chain_id: str
    network_id: str | None = Field(
        None, max_length=64, description="What /rpc/info names; without it the transfer is refused."
    )
    sender: str = Field(alias="from")
    recipient: str = Field(alias="to")
    amount_units: str = Field(max_length=16)
    fee_units: str = Field(max_length=16)
    nonce: int = Field(ge=1, le=MAX_NONCE)
    public_key: str
    signature: str


class OfChain(QueryFields):
    chain_id: str | None = Field(None, max_length=64, description="Left out: the coordinator's own.")


class Challenge(Reply):
    """What to sign, word for word."""

    wallet_address: str
    message: str
    nonce: str
    expires_at: Annotated[str, Field(json_schema_extra=DATE_TIME)]


class User(Reply):
    """A wallet user and its money, in AIT: available = balance - held."""

    id: Annotated[str, Field(description="The account's id: the address, in lower case.")]
    address: str
    kind: Annotated[str, OneOf("evm", "native")]
    created_at: Annotated[str, Field(json_schema_extra=DATE_TIME)]
    last_login_at: Annotated[str | None, Field(json_schema_extra=DATE_TIME)]
    balance: float
    held: float
    available: float
    nonce: Annotated[int, Field(description="Of the last transfer that the wallet signed.")]


class Login(Reply):
    session_token: Annotated[str, Field(description="Send it as X-Session-Token. It is shown this once.")]
    token: Annotated[str, Field(description="The same.")]
    session_id: str
    expires_at: Annotated[str, Field(json_schema_extra=DATE_TIME)]
    user: User


class Session(Reply):
    session_id: str
    created_at: Annotated[str, Field(json_schema_extra=DATE_TIME)]
    expires_at: Annotated[str, Field(json_schema_extra=DATE_TIME)]
    current: bool


class Sessions(Reply):
    sessions: list[Session]


class EndedSession(Reply):
    session_id: str
    revoked: Literal[True]


class UserBalance(Reply):
    user_id: str
    address: str
    balance: float
    held: float
    available: float


class UserKey(Reply):
    """A key of the user's account: never its text."""

    key_id: str
    account: str
    role: str
    label: str
    created_at: Annotated[str, Field(json_schema_extra=DATE_TIME)]
    expires_at: Annotated[str | None, Field(json_schema_extra=DATE_TIME)]
    revoked_at: Annotated[str | None, Field(json_schema_extra=DATE_TIME)]
    limit: float | None
    limit_period: Annotated[str, OneOf("day", "month")] | None


class UserKeys(Reply):
    keys: list[UserKey]


class MadeKey(Reply):
    key: Annotated[str, Field(description="The key's text, shown this once.")]
    key_id: str
    account: str
    role: str


class EndedKey(Reply):
    key_id: str
    revoked: Literal[True]


class ChainBalance(Reply):
    address: str
    chain_id: str
    network_id: str
    balance: float
    nonce: Annotated[
        int, Field(description="Of the last transfer that the wallet signed; the next has one more.")
    ]
    min_fee: Annotated[float, Field(description="The least fee of a transfer, AIT.")]


_SentTransaction = TypedDict(
    "_SentTransaction",
    {
        "hash": str,
        "transfer_id": str,
        "status": Annotated[str, OneOf("applied")],
        "chain_id": str,
        "network_id": str,
        "from": str,
        "to": str,
        "amount": float,
        "fee": float,
        "nonce": int,
    },
)


class SentTransaction(Reply, _SentTransaction):
    """An applied transfer; a block seals it within seconds."""


class ChainBlock(Reply):
    """A block's header as it is hashed (docs/formats/block.md), its hash, signature and checkpoint."""

    version: str
    chain_id: str
    height: int
    previous_hash: str
    time: str
    first_leaf: int
    last_leaf: int
    tree_size: int
    root: str
    transactions: int
    receipts: int
    contents: NotRequired[
        Annotated[
            dict[str, int] | None,
            Field(description="Of version 2: how many of its leaves are of which kind."),
        ]
    ]
    proposer: str
    hash: str
    signature: Annotated[str | None, Field(description="The proposer's, base64; null in genesis.")]
    checkpoint: Annotated[str | None, Field(description="The signed tree head with its cosignatures.")]


_ChainTransaction = TypedDict(
    "_ChainTransaction",
    {
        "hash": Annotated[str, Field(description="The leaf's hash in the log.")],
        "type": Annotated[str, OneOf("transfer", "receipt")],
        "id": str,
        "kind": Annotated[
            str | None, Field(description="mint, transfer, hold, post, fee or void; null for a receipt.")
        ],
        "from": str,
        "to": str,
        "amount": float,
        "job_id": str | None,
        "timestamp": str,
        "leaf_index": Annotated[int | None, Field(description="Null until a block seals it.")],
        "block_height": int | None,
        "signed": Annotated[dict[str, Any] | None, Field(description="The document that a wallet signed.")],
    },
)


class ChainTransaction(Reply, _ChainTransaction):
    """A transfer or receipt of the log, by its leaf's hash or, signed by a wallet, by the transaction's."""


class ChainInfo(Reply):
    chain_id: str
    version: str
    height: int
    head_hash: str
    tree_size: int
    network_id: Annotated[str, Field(description="What signed transfers name: no other network has it. Hex.")]
    genesis_hash: str
    founding: Annotated[
        dict[str, Any] | None,
        Field(
            description="What genesis is made of (docs/formats/block.md); null where the network is older."
        ),
    ]
    origin: Annotated[str, Field(description="The log's origin line, and its key's name.")]
    log_key: Annotated[str, Field(description="The key that this coordinator signs with, as a vkey.")]
    units_per_ait: int
    min_fee: float
