"""Bodies and answers of wallet users and of the chain's RPC."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from aitbc.coordinator.api.plumbing.routing import Body, QueryFields
from aitbc.coordinator.api.schemas.fields import AmountUnits
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
    expires_at: str = Field(json_schema_extra=DATE_TIME)


class User(Reply):
    """A wallet user and its money, in AIT: available = balance - held."""

    id: str = Field(description="The account's id: the address, in lower case.")
    address: str
    kind: Literal["evm", "native"]
    created_at: str = Field(json_schema_extra=DATE_TIME)
    last_login_at: str | None = Field(json_schema_extra=DATE_TIME)
    balance: float
    held: float
    available: float
    nonce: int = Field(description="Of the last transfer that the wallet signed.")


class Login(Reply):
    session_token: str = Field(description="Send it as X-Session-Token. It is shown this once.")
    token: str = Field(description="The same.")
    session_id: str
    expires_at: str = Field(json_schema_extra=DATE_TIME)
    user: User


class Session(Reply):
    session_id: str
    created_at: str = Field(json_schema_extra=DATE_TIME)
    expires_at: str = Field(json_schema_extra=DATE_TIME)
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
    created_at: str = Field(json_schema_extra=DATE_TIME)
    expires_at: str | None = Field(json_schema_extra=DATE_TIME)
    revoked_at: str | None = Field(json_schema_extra=DATE_TIME)
    limit: float | None
    limit_period: Literal["day", "month"] | None


class UserKeys(Reply):
    keys: list[UserKey]


class MadeKey(Reply):
    key: str = Field(description="The key's text, shown this once.")
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
    nonce: int = Field(description="Of the last transfer that the wallet signed; the next has one more.")
    min_fee: float = Field(description="The least fee of a transfer, AIT.")


class SentTransaction(Reply):
    """An applied transfer; a block seals it within seconds."""

    hash: str
    transfer_id: str
    status: Literal["applied"]
    chain_id: str
    network_id: str
    sender: str = Field(alias="from")
    recipient: str = Field(alias="to")
    amount: float
    fee: float
    nonce: int


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
    contents: dict[str, int] | None = Field(
        None, description="Of version 2: how many of its leaves are of which kind."
    )
    proposer: str
    hash: str
    signature: str | None = Field(description="The proposer's, base64; null in genesis.")
    checkpoint: str | None = Field(description="The signed tree head with its cosignatures.")


class ChainTransaction(Reply):
    """A transfer or receipt of the log, by its leaf's hash or, signed by a wallet, by the transaction's."""

    hash: str = Field(description="The leaf's hash in the log.")
    type: Literal["transfer", "receipt"]
    id: str
    kind: str | None = Field(description="mint, transfer, hold, post, fee or void; null for a receipt.")
    sender: str = Field(alias="from")
    recipient: str = Field(alias="to")
    amount: float
    job_id: str | None
    timestamp: str
    leaf_index: int | None = Field(description="Null until a block seals it.")
    block_height: int | None
    signed: dict[str, Any] | None = Field(description="The document that a wallet signed.")


class ChainInfo(Reply):
    chain_id: str
    version: str
    height: int
    head_hash: str
    tree_size: int
    network_id: str = Field(description="What signed transfers name: no other network has it. Hex.")
    genesis_hash: str
    founding: dict[str, Any] | None = Field(
        description="What genesis is made of (docs/formats/block.md); null where the network is older."
    )
    origin: str = Field(description="The log's origin line, and its key's name.")
    log_key: str = Field(description="The key that this coordinator signs with, as a vkey.")
    units_per_ait: int
    min_fee: float
