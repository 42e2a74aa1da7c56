"""Query parameters."""

from typing import Literal

from pydantic import Field

from aitbc.coordinator.api.plumbing.routing import MAX_BATCH, QueryFields
from aitbc.coordinator.api.schemas.fields import MINER_ID_PATTERN

MAX_LIMIT = 100
MAX_OFFSET = 10_000
ID_CHARS = 128


class Wait(QueryFields):
    wait: float = Field(0, ge=0, description="Seconds to wait for it; the server's MAX_WAIT_S at most.")


class JobList(QueryFields):
    status: Literal["pending", "running", "completed", "failed", "cancelled"] | None = None
    limit: int = Field(20, ge=1, le=MAX_LIMIT)
    offset: int = Field(0, ge=0, le=MAX_OFFSET)
    cursor: str | None = Field(None, max_length=ID_CHARS, description="X-Next-Cursor of the page before.")


class ReceiptList(QueryFields):
    client: str | None = Field(None, max_length=ID_CHARS)
    provider: str | None = Field(None, max_length=ID_CHARS)
    model: str | None = Field(None, max_length=ID_CHARS)
    job_id: str | None = Field(None, max_length=ID_CHARS)
    miner_id: str | None = Field(None, max_length=ID_CHARS)
    limit: int = Field(20, ge=1, le=MAX_LIMIT)
    offset: int = Field(0, ge=0, le=MAX_OFFSET)
    cursor: str | None = Field(None, max_length=ID_CHARS, description="X-Next-Cursor of the page before.")


class MinerList(QueryFields):
    status: Literal["active", "draining", "inactive"] | None = None
    limit: int = Field(100, ge=1, le=MAX_LIMIT)
    offset: int = Field(0, ge=0, le=MAX_OFFSET)
    cursor: str | None = Field(None, max_length=ID_CHARS, description="X-Next-Cursor of the page before.")


class OwnMiner(QueryFields):
    miner_id: str | None = Field(
        None, pattern=MINER_ID_PATTERN, description="May be left out where the account has one miner."
    )


class AvailableJob(Wait):
    miner_id: str = Field(pattern=MINER_ID_PATTERN)
    session_id: str | None = Field(None, max_length=64, description="The session of its registration.")


class TakeJobs(Wait):
    miner_id: str | None = Field(
        None, pattern=MINER_ID_PATTERN, description="May be left out where the account has one miner."
    )
    session_id: str | None = Field(
        None,
        max_length=64,
        description="The session of its registration; a miner with a key needs it to get again"
        " what it holds.",
    )
    max: int = Field(1, ge=1, le=MAX_BATCH)
    known: str = Field("", max_length=8192, description="Jobs that the miner runs already, comma separated.")
