"""Miners, and the jobs that they are given."""

from typing import Annotated, Any, NotRequired

from pydantic import Field

from aitbc.coordinator.api.schemas.fields import OneOf
from aitbc.coordinator.api.schemas.replies.base import Reply

MinerStatus = Annotated[str, OneOf("active", "draining", "inactive")]


class Model(Reply):
    name: str
    engine: NotRequired[str | None]
    context_length: NotRequired[int | None]
    quantisation: NotRequired[str | None]
    price_per_1k: float


class Gpu(Reply):
    name: str
    memory_gb: float


class ListedMiner(Reply):
    """A miner as everybody sees it."""

    miner_id: str
    status: MinerStatus
    job_types: list[str]
    models: list[Model]
    gpus: list[Gpu]
    region: str | None
    concurrency: int
    running: int
    last_heartbeat: str


class ReputationPart(Reply):
    value: Annotated[float, Field(description="0 to 1.")]
    weight: Annotated[float, Field(description="Its share in the score.")]
    samples: Annotated[float, Field(description="How much it stands on; `of` says what is counted.")]
    of: str
    formula: str


class Reputation(Reply):
    """From facts alone: docs/market.md says which. Counts fade, so that what is long past counts less."""

    score: Annotated[float, Field(description="0 to 1, by the formula over the parts.")]
    samples: Annotated[int, Field(description="Tries of jobs that it stands on.")]
    formula: str
    parts: dict[str, ReputationPart]
    completed: Annotated[int, Field(description="Answers that were paid, lately.")]
    failed: Annotated[int, Field(description="Tries that failed, lately.")]
    failures: Annotated[dict[str, int], Field(description="Tries that failed, all told, by cause.")]
    mean_answer_s: Annotated[float | None, Field(description="From lease to answer, lately.")]
    seconds_per_1k_tokens: float | None
    hours_here: float
    hours_missing: float
    hours_promised: Annotated[float, Field(description="To bookings of it that have ended.")]
    hours_kept: float


class MinerRecord(ListedMiner):
    """A miner as everybody sees it, with its reputation."""

    reputation: Reputation


class HeldJob(Reply):
    job_id: str
    model: str
    lease_expires_at: str


class Standing(Reply):
    """What the coordinator makes of a miner: see docs/miner.md. Counts fade, so that what is long past counts less."""

    approval: Annotated[
        str, Field(description="The operator's word on the account: approved, revoked, or none.")
    ]
    delivered: int
    failed: int
    failures_in_a_row: int
    leases_earned: Annotated[
        int, Field(description="How many leases the account may hold at once, unless it is approved.")
    ]
    reason: Annotated[
        str | None, Field(description="Why it gets no work now: DRAINING, NOT_APPROVED, PAUSED, TRUST, BUSY.")
    ]
    message: str | None
    retry_after_s: float | None


class MinerState(ListedMiner):
    """How one's own miner stands."""

    standing: Standing
    held: Annotated[list[HeldJob], Field(description="What it runs now, oldest first; at most 100.")]
    default_max_price_per_1k: Annotated[
        float, Field(description="What clients pay at most unless they say otherwise.")
    ]


class Miner(Reply):
    """A miner as its owner sees it."""

    id: str
    miner_id: str
    address: str | None
    endpoint: str | None
    status: MinerStatus
    capabilities: list[Any]
    models: list[Model]
    gpus: list[Gpu]
    job_types: list[str]
    region: str | None
    concurrency: int
    public_key: str | None
    session_id: Annotated[
        str | None, Field(description="Of this registration: what a miner may show with each call.")
    ]
    heartbeat_interval_s: float
    lease_s: float
    default_max_price_per_1k: Annotated[
        float, Field(description="What clients pay at most unless they say otherwise.")
    ]
    chain_id: str
    network_id: Annotated[
        str, Field(description="The network that results are signed for, by its id in hex.")
    ]
    registered_at: str
    last_heartbeat: str


class Lease(Reply):
    job_id: str
    lease_expires_at: str


class Heartbeat(Reply):
    status: MinerStatus
    leases: list[Lease]
    cancelled: Annotated[list[str], Field(description="Jobs that the miner named and no longer holds.")]
    server_time: str


class Deregistered(Reply):
    status: Annotated[str, OneOf("inactive")]
    requeued: int


class Assignment(Reply):
    """A job leased to a miner. `request` is what to run, `prompt_hash` covers it."""

    job_id: str
    id: str
    status: Annotated[str, OneOf("running")]
    job_type: str
    model: str
    parameters: dict[str, Any]
    request: dict[str, Any]
    prompt_hash: str
    lease_id: str
    lease_expires_at: str
    lease_s: float
    max_run_s: float
    run_left_s: Annotated[float, Field(description="What is left of it: stop the engine then.")]
    run_ends_at: str
    unit_price: float
    attempt: int
    priority: int
    created_at: str


class Assignments(Reply):
    """Leased jobs. Where there is none for a reason of the miner's own, it is said."""

    jobs: list[Assignment]
    reason: NotRequired[Annotated[str, OneOf("DRAINING", "NOT_APPROVED", "PAUSED", "TRUST", "BUSY")] | None]
    message: NotRequired[str | None]
    retry_after_s: NotRequired[
        Annotated[float | None, Field(description="When the reason ends, where that is known.")]
    ]
