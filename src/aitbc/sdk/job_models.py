"""What the SDK returns of jobs: frozen dataclasses, as described in `aitbc.sdk.models`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from aitbc.sdk.errors import AitbcClientError, api_error
from aitbc.sdk.fields import Fields, plain

Raw = Mapping[str, Any]

TERMINAL = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True)
class JobWarning:
    """What the coordinator warns of: `code`, the same in words, and the models on offer instead (or none)."""

    code: str
    message: str
    models: tuple[str, ...] = ()


def _warnings(get: Fields) -> tuple[JobWarning, ...]:
    found = [Fields("warning", item) for item in get.items("warnings") or ()]
    return tuple(
        JobWarning(
            one.text("code"), one.text("message"), tuple(str(name) for name in one.items("models") or ())
        )
        for one in found
    )


@dataclass(frozen=True)
class Job:
    """A job as its owner sees it. `account` pays; `price` and `receipt_id` are there once it is completed.

    `status`: pending, running, completed, failed or cancelled. `progress`: 0 to 1. `text` is the answer of an
    `llm_inference` job, `embeddings` that of an `embedding` job. `cause`, `error` and `actor` say why it
    ended, `warnings` why no miner that is here now would run it.
    """

    job_id: str
    status: str
    job_type: str
    model: str
    created_at: datetime
    account: str | None = None
    prompt: str | None = None
    messages: tuple[Raw, ...] | None = None
    parameters: Raw = field(default_factory=dict)
    constraints: Raw = field(default_factory=dict)
    priority: int | None = None
    result: str | None = None
    output: Raw | None = None
    miner_id: str | None = None
    attempts: int = 0
    cause: str | None = None
    actor: str | None = None
    error: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    expires_at: datetime | None = None
    max_run_s: float | None = None
    run_ends_at: datetime | None = None
    price_held: Decimal | None = None
    unit_price: Decimal | None = None
    price: Decimal | None = None
    receipt_id: str | None = None
    progress: float = 0.0
    queue_position: int | None = None
    warnings: tuple[JobWarning, ...] = ()
    raw: Raw = field(default_factory=dict, repr=False, compare=False)

    @property
    def done(self) -> bool:
        """The job has ended, one way or another."""
        return self.status in TERMINAL

    @property
    def text(self) -> str | None:
        """The answer of an `llm_inference` job; None before it is there, and for other types."""
        value = (self.output or {}).get("text")
        if isinstance(value, str):
            return value
        return self.result if self.job_type == "llm_inference" else None

    @property
    def cut(self) -> bool:
        """Whether the answer ends where `max_tokens` ended it, and not where the model did."""
        return (self.output or {}).get("finish_reason") == "length"

    @property
    def embeddings(self) -> list[list[float]] | None:
        """The vectors of an `embedding` job, one for each input; None before they are there."""
        value = (self.output or {}).get("embeddings")
        if value is None and self.job_type == "embedding" and self.result:
            value = json.loads(self.result)  # what is long stands in the answer once
        return value if isinstance(value, list) else None

    @classmethod
    def from_json(cls, data: Any) -> Job:
        get = Fields("job", data)
        messages = get.items("messages")
        return cls(
            job_id=get.text("job_id"),
            status=get.text("status"),
            job_type=get.opt_text("job_type") or "llm_inference",
            model=get.opt_text("model") or "",
            created_at=get.time("created_at"),
            account=get.opt_text("client_id"),
            prompt=get.opt_text("prompt"),
            messages=tuple(messages) if messages is not None else None,
            parameters=plain(get.mapping("parameters") or get.mapping("params") or {}),
            constraints=plain(get.mapping("constraints") or {}),
            priority=get.opt_integer("priority"),
            result=get.opt_text("result"),
            output=plain(get.mapping("output")),
            miner_id=get.opt_text("miner_id"),
            attempts=get.opt_integer("attempts") or 0,
            cause=get.opt_text("cause"),
            actor=get.opt_text("actor"),
            error=get.opt_text("error"),
            started_at=get.opt_time("started_at"),
            completed_at=get.opt_time("completed_at"),
            expires_at=get.opt_time("expires_at"),
            max_run_s=get.opt_number("max_run_s"),
            run_ends_at=get.opt_time("run_ends_at"),
            price_held=get.opt_money("price_held"),
            unit_price=get.opt_money("unit_price"),
            price=get.opt_money("price"),
            receipt_id=get.opt_text("receipt_id"),
            progress=get.opt_number("progress") or 0.0,
            queue_position=get.opt_integer("queue_position"),
            warnings=_warnings(get),
            raw=get.data,
        )


@dataclass(frozen=True)
class BatchItem:
    """One job of a batch: admitted (`job_id`, `status`, `price_held`, `warnings`), or refused (`error`)."""

    ok: bool
    job_id: str | None = None
    status: str | None = None
    price_held: Decimal | None = None
    warnings: tuple[JobWarning, ...] = ()
    error: AitbcClientError | None = None
    raw: Raw = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> BatchItem:
        get = Fields("batch item", data)
        if not get.data.get("ok"):
            why = Fields("batch error", get.data.get("error"))
            message = why.opt_text("message") or why.text("code")
            error = api_error(0, why.text("code"), message, why.mapping("details"))
            return cls(ok=False, error=error, raw=get.data)
        job = Fields("batch job", get.data.get("job"))
        return cls(
            ok=True,
            job_id=job.text("job_id"),
            status=job.opt_text("status"),
            price_held=job.opt_money("price_held"),
            warnings=_warnings(job),
            raw=get.data,
        )


@dataclass(frozen=True)
class JobEvent:
    """One entry of a job's history: created, claimed, requeued, completed, failed, cancelled or expired."""

    seq: int
    at: datetime
    type: str
    actor: str | None
    status: str | None
    detail: Raw
    raw: Raw = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> JobEvent:
        get = Fields("event", data)
        return cls(
            seq=get.integer("seq"),
            at=get.time("at"),
            type=get.text("type"),
            actor=get.opt_text("actor"),
            status=get.opt_text("status"),
            detail=get.mapping("detail") or {},
            raw=get.data,
        )


@dataclass(frozen=True)
class Explanation:
    """Why a job is where it is. `reasons` counts the miners that may not run it, by code.

    `nearest_change` is the smallest change that would let it run, in words; `change` the same as data.
    """

    status: str
    summary: str
    eligible_miners: int
    registered_miners: int
    reasons: Mapping[str, int]
    nearest_change: str | None
    change: Any
    queue_position: int | None
    raw: Raw = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> Explanation:
        get = Fields("explanation", data)
        nearest = get.mapping("nearest_change")
        return cls(
            status=get.text("status"),
            summary=get.opt_text("summary") or "",
            eligible_miners=get.integer("eligible_miners"),
            registered_miners=get.integer("registered_miners"),
            reasons=dict(get.mapping("reasons") or {}),
            nearest_change=Fields("change", nearest).opt_text("text") if nearest else None,
            change=nearest.get("change") if nearest else None,
            queue_position=get.opt_integer("queue_position"),
            raw=get.data,
        )
