"""What the SDK returns: frozen dataclasses. Money is Decimal in AIT, times are aware datetimes in UTC.

Each has `raw`, the JSON object as it came (fractions as Decimal), for fields that this version does not name.
`from_json` raises `UnexpectedAnswer` where a field is missing or of the wrong kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, TypeVar, overload

from aitbc.sdk.errors import AitbcClientError, api_error
from aitbc.sdk.fields import Fields, http_date, plain

T = TypeVar("T")

Raw = Mapping[str, Any]

TERMINAL = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True)
class Job:
    """A job as its owner sees it. `account` pays; `price` and `receipt_id` are there once it is completed.

    `status`: pending, running, completed, failed or cancelled. `progress`: 0 to 1. `text` is the answer of an
    `llm_inference` job, `embeddings` that of an `embedding` job. `cause`, `error` and `actor` say why it
    ended.
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
    price_held: Decimal | None = None
    unit_price: Decimal | None = None
    price: Decimal | None = None
    receipt_id: str | None = None
    progress: float = 0.0
    queue_position: int | None = None
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
    def embeddings(self) -> list[list[float]] | None:
        """The vectors of an `embedding` job, one for each input; None before they are there."""
        value = (self.output or {}).get("embeddings")
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
            price_held=get.opt_money("price_held"),
            unit_price=get.opt_money("unit_price"),
            price=get.opt_money("price"),
            receipt_id=get.opt_text("receipt_id"),
            progress=get.opt_number("progress") or 0.0,
            queue_position=get.opt_integer("queue_position"),
            raw=get.data,
        )


@dataclass(frozen=True)
class BatchItem:
    """One job of a batch: admitted (`job_id`, `status`, `price_held`), or refused (`error`)."""

    ok: bool
    job_id: str | None = None
    status: str | None = None
    price_held: Decimal | None = None
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


@dataclass(frozen=True)
class PriceRange:
    """AIT per 1000 tokens over the miners that could run the job."""

    lowest: Decimal
    highest: Decimal
    median: Decimal


@dataclass(frozen=True)
class Quote:
    """What a job would cost; submitting it reserves `worst_case_price`. `price_per_1k` None: no miner."""

    eligible_miners: int
    max_units: int
    worst_case_price: Decimal
    typical_price: Decimal | None
    price_per_1k: PriceRange | None
    expected_wait_s: float | None
    reasons: Mapping[str, int]
    raw: Raw = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> Quote:
        get = Fields("quote", data)
        prices = get.mapping("price_per_1k")
        price_range = None
        if prices is not None:
            of = Fields("price range", prices)
            price_range = PriceRange(of.money("min"), of.money("max"), of.money("median"))
        return cls(
            eligible_miners=get.integer("eligible_miners"),
            max_units=get.integer("max_units"),
            worst_case_price=get.money("worst_case_price"),
            typical_price=get.opt_money("typical_price"),
            price_per_1k=price_range,
            expected_wait_s=get.opt_number("expected_wait_s"),
            reasons=dict(get.mapping("reasons") or {}),
            raw=get.data,
        )


@dataclass(frozen=True)
class Balance:
    """An account's money in AIT (`balance` = `held` for jobs under way + `available`), and the key used."""

    account: str
    balance: Decimal
    held: Decimal
    available: Decimal
    key_id: str | None
    role: str | None
    limit: Decimal | None
    spent: Decimal | None
    raw: Raw = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> Balance:
        get = Fields("account", data)
        key = Fields("key", get.mapping("key") or {})
        return cls(
            account=get.text("account"),
            balance=get.money("balance"),
            held=get.money("held"),
            available=get.money("available"),
            key_id=key.opt_text("key_id"),
            role=key.opt_text("role"),
            limit=key.opt_money("limit"),
            spent=key.opt_money("spent"),
            raw=get.data,
        )


@dataclass(frozen=True)
class MinerModel:
    """A model that a miner serves, at `price_per_1k` AIT for 1000 tokens."""

    name: str
    price_per_1k: Decimal | None
    engine: str | None
    context_length: int | None
    quantisation: str | None


@dataclass(frozen=True)
class Gpu:
    """A GPU that a miner named; memory in GB (0: not told)."""

    name: str
    memory_gb: float


@dataclass(frozen=True)
class Miner:
    """A miner of the public list."""

    miner_id: str
    status: str
    job_types: tuple[str, ...]
    models: tuple[MinerModel, ...]
    gpus: tuple[Gpu, ...]
    region: str | None
    concurrency: int
    running: int
    last_heartbeat: datetime | None
    raw: Raw = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> Miner:
        get = Fields("miner", data)
        models = [Fields("model", item) for item in get.items("models") or []]
        gpus = [Fields("gpu", item) for item in get.items("gpus") or []]
        return cls(
            miner_id=get.text("miner_id"),
            status=get.text("status"),
            job_types=tuple(str(name) for name in get.items("job_types") or []),
            models=tuple(
                MinerModel(
                    name=model.text("name"),
                    price_per_1k=model.opt_money("price_per_1k"),
                    engine=model.opt_text("engine"),
                    context_length=model.opt_integer("context_length"),
                    quantisation=model.opt_text("quantisation"),
                )
                for model in models
            ),
            gpus=tuple(Gpu(gpu.text("name"), gpu.opt_number("memory_gb") or 0.0) for gpu in gpus),
            region=get.opt_text("region"),
            concurrency=get.opt_integer("concurrency") or 1,
            running=get.opt_integer("running") or 0,
            last_heartbeat=get.opt_time("last_heartbeat"),
            raw=get.data,
        )


@dataclass(frozen=True)
class Receipt:
    """A receipt's fields for reading. `document` is the whole receipt: what is saved and verified."""

    receipt_id: str
    job_id: str
    job_type: str
    client: str
    provider: str
    miner_id: str | None
    model: str
    units: int
    unit_type: str
    unit_price: Decimal
    price: Decimal
    fee: Decimal
    started_at: int
    completed_at: int
    prompt_hash: str
    result_hash: str
    key_id: str | None
    document: Raw = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> Receipt:
        get = Fields("receipt", data)
        return cls(
            receipt_id=get.text("receipt_id"),
            job_id=get.text("job_id"),
            job_type=get.text("job_type"),
            client=get.text("client"),
            provider=get.text("provider"),
            miner_id=get.opt_text("miner_id"),
            model=get.text("model"),
            units=get.integer("units"),
            unit_type=get.text("unit_type"),
            unit_price=get.money("unit_price"),
            price=get.money("price"),
            fee=get.money("fee"),
            started_at=get.integer("started_at"),
            completed_at=get.integer("completed_at"),
            prompt_hash=get.text("prompt_hash"),
            result_hash=get.text("result_hash"),
            key_id=Fields("signature", get.mapping("signature") or {}).opt_text("key_id"),
            document=get.data,
        )


@dataclass(frozen=True)
class Health:
    """A coordinator's own account of itself. `time`: its clock, to the second, where it said."""

    status: str
    version: str | None
    chain_id: str | None
    uptime_s: float | None
    time: datetime | None
    raw: Raw = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any, date: str | None = None) -> Health:
        get = Fields("health", data)
        return cls(
            status=get.text("status"),
            version=get.opt_text("version"),
            chain_id=get.opt_text("chain_id"),
            uptime_s=get.opt_number("uptime_s"),
            time=http_date(date),
            raw=get.data,
        )


@dataclass(frozen=True)
class Page(Generic[T]):
    """Part of a list, in the coordinator's order. `total`: of the whole; `next_cursor`: where to go on."""

    items: tuple[T, ...]
    total: int | None = None
    next_cursor: str | None = None

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        return self.items[index]
