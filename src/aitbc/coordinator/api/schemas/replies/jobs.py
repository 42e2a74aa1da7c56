"""Jobs, what they cost, and why they wait."""

from typing import Annotated, Any, NotRequired

from pydantic import Field

from aitbc.coordinator.api.schemas.fields import OneOf
from aitbc.coordinator.api.schemas.replies.base import ErrorDetail, Reply

JobStatus = Annotated[str, OneOf("pending", "running", "completed", "failed", "cancelled")]


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


class FailedJob(Reply):
    job_id: str
    status: JobStatus
