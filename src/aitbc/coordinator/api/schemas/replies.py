"""Bodies of answers, each written once: the OpenAPI document is made of them, and what renders one returns one, so
that the type checker holds it to every member. At run time they are plain dictionaries."""

from typing import Annotated, Any, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from aitbc.coordinator.api.schemas.fields import OneOf

JobStatus = Annotated[str, OneOf("pending", "running", "completed", "failed", "cancelled")]
MinerStatus = Annotated[str, OneOf("active", "draining", "inactive")]


@with_config(extra="forbid")
class Reply(TypedDict):
    """Base of all answers: nothing undeclared goes out."""


class ErrorDetail(Reply):
    code: Annotated[str, Field(description="Stable, upper snake case.", examples=["JOB_NOT_FOUND"])]
    message: str
    details: dict[str, Any]


class Error(Reply):
    """The body of every answer that is not a success."""

    detail: Annotated[str, Field(description="The message again.")]
    error_code: Annotated[str, Field(description="The code again.")]
    error: ErrorDetail
    request_id: str


class Health(Reply):
    status: Annotated[str, OneOf("ok")]
    version: str
    database: Annotated[str, Field(description="sqlite or postgresql.")]
    chain_id: str
    uptime_s: float
    sealing_stopped: Annotated[
        str | None, Field(description="Why no block is sealed any more; null while they are.")
    ]


class JobWarning(Reply):
    """What the client should know before it waits."""

    code: Annotated[
        str,
        OneOf("MODEL_NOT_SERVED", "PRICE_ABOVE_CAP", "CONTEXT_TOO_SHORT", "NO_MINER_FITS", "FIELDS_IGNORED"),
    ]
    message: str
    models: Annotated[
        list[str], Field(description="Models on offer, where the one that is asked for is not.")
    ]


class Job(Reply):
    """A job. Money in AIT; prices per 1000 tokens; times RFC 3339 UTC."""

    job_id: str
    id: str
    status: JobStatus
    job_type: str
    model: str
    prompt: Annotated[str | None, Field(description="Null for a chat, an embedding, and once erased.")]
    messages: Annotated[list[dict[str, str]] | None, Field(description="The chat, where it is one.")]
    parameters: Annotated[
        dict[str, Any], Field(description="Input, model and sampling parameters in one object.")
    ]
    params: Annotated[dict[str, Any], Field(description="Sampling parameters.")]
    constraints: dict[str, Any]
    priority: int
    result: Annotated[
        str | None,
        Field(description="The answer as text; for embeddings their JSON. In lists only where it is short."),
    ]
    output: Annotated[
        dict[str, Any] | None,
        Field(description="The answer in its job type's own form; null where it is long: it is in `result`."),
    ]
    miner_id: str | None
    client_id: str
    attempts: int
    cause: Annotated[
        str | None, Field(description="Why it ended; while it waits, why it was last given back.")
    ]
    actor: Annotated[str | None, Field(description="Who ended it: client, miner, coordinator or admin.")]
    error: Annotated[str | None, Field(description="What the miner said of that failure.")]
    created_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    started_at: Annotated[str | None, Field(json_schema_extra={"format": "date-time"})]
    completed_at: Annotated[str | None, Field(json_schema_extra={"format": "date-time"})]
    updated_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    expires_at: Annotated[
        str,
        Field(
            json_schema_extra={"format": "date-time"},
            description="When its time to wait ends; it stands still while the job runs.",
        ),
    ]
    max_run_s: Annotated[float, Field(description="How long one run may take.")]
    run_ends_at: Annotated[str | None, Field(description="When the run that is under way has to have ended.")]
    price_held: Annotated[
        float, Field(description="The worst case, held from the account while the job is open.")
    ]
    unit_price: float | None
    price: float | None
    receipt_id: str | None
    progress: Annotated[float, Field(ge=0, le=1)]
    queue_position: Annotated[
        int | None,
        Field(
            description="1 is next of its model, 1000 that place or one behind it; only where one job is asked for."
        ),
    ]
    warnings: Annotated[
        list[JobWarning],
        Field(
            description="Why no miner that is here now would run it; only where one job is submitted or asked for."
        ),
    ]


class Result(Job):
    """A job's result; the other fields are those of the job."""


class JobEvent(Reply):
    seq: int
    at: str
    type: Annotated[
        str, OneOf("created", "claimed", "requeued", "completed", "failed", "cancelled", "expired")
    ]
    actor: str
    status: JobStatus
    detail: dict[str, Any]


class Change(Reply):
    change: Annotated[str, Field(description="Which part of the job to change.")]
    text: str


class Explanation(Reply):
    """Why a job is where it is."""

    status: JobStatus
    eligible_miners: int
    registered_miners: int
    reasons: Annotated[dict[str, int], Field(description="Miners that do not run it now, by reason.")]
    nearest_change: Change | None
    queue_position: int | None
    summary: str


class PriceRange(Reply):
    min: float
    max: float
    median: float


class Quote(Reply):
    """What a job would cost, in AIT, and how long it would wait."""

    eligible_miners: int
    price_per_1k: PriceRange | None
    max_units: int
    worst_case_price: float
    typical_price: float | None
    expected_wait_s: float | None
    reasons: dict[str, int]


class SubmittedJob(Reply):
    job_id: str
    status: JobStatus
    price_held: float
    warnings: list[JobWarning]


class BatchItem(Reply):
    ok: bool
    job: NotRequired[SubmittedJob | None]
    error: NotRequired[ErrorDetail | None]


class Batch(Reply):
    """One item for each job sent, in the same order."""

    items: list[BatchItem]


class KeyState(Reply):
    key_id: str
    role: str
    limit: NotRequired[float | None]
    limit_period: NotRequired[Annotated[str, OneOf("day", "month")] | None]
    spent: NotRequired[float | None]


class Account(Reply):
    """An account's money, in AIT: available = balance - held."""

    account: str
    balance: float
    held: float
    available: float
    key: KeyState


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


class FailedJob(Reply):
    job_id: str
    status: JobStatus


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
