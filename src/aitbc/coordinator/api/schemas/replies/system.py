"""How the coordinator is, and its public keys."""

from typing import Annotated

from pydantic import Field

from aitbc.coordinator.api.schemas.fields import OneOf
from aitbc.coordinator.api.schemas.replies.base import Reply


class Health(Reply):
    status: Annotated[str, OneOf("ok")]
    version: str
    database: Annotated[str, Field(description="sqlite or postgresql.")]
    chain_id: str
    uptime_s: float
    sealing_stopped: Annotated[
        str | None, Field(description="Why no block is sealed any more; null while they are.")
    ]


class PublicKey(Reply):
    key_id: str
    alg: str
    public_key: str
    vkey: str
    valid_from: str
    valid_to: str | None
    use: Annotated[
        str,
        OneOf("receipts", "log"),
        Field(description="What it signs: receipts, or the log's checkpoints."),
    ]


class PublicKeys(Reply):
    chain_id: str
    network_id: Annotated[
        str, Field(description="What tells this network from others of the same name, hex.")
    ]
    origin: Annotated[str, Field(description="The log's origin line, and its keys' name.")]
    keys: list[PublicKey]
