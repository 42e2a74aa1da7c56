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

from aitbc.sdk.fields import Fields, http_date

T = TypeVar("T")

Raw = Mapping[str, Any]


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
    """A miner of the public list; asked for alone also its `reputation` (0 to 1), and how many tries that stands on."""

    miner_id: str
    status: str
    job_types: tuple[str, ...]
    models: tuple[MinerModel, ...]
    gpus: tuple[Gpu, ...]
    region: str | None
    concurrency: int
    running: int
    last_heartbeat: datetime | None
    reputation: float | None = None
    reputation_samples: int = 0
    raw: Raw = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Any) -> Miner:
        get = Fields("miner", data)
        known = get.mapping("reputation")
        reputation = None if known is None else Fields("reputation", known)
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
            reputation=None if reputation is None else reputation.opt_number("score"),
            reputation_samples=0 if reputation is None else reputation.integer("samples"),
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
    """A coordinator's own account of itself. `time`: its clock, to the second, where it said.

    sealing_stopped: why it seals no blocks any more, where it does not.
    """

    status: str
    version: str | None
    chain_id: str | None
    uptime_s: float | None
    time: datetime | None
    sealing_stopped: str | None = None
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
            sealing_stopped=get.opt_text("sealing_stopped"),
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
