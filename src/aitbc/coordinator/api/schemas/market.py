"""Bodies of the GPU market."""

from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from typing_extensions import TypedDict

from aitbc.coordinator.api.plumbing.routing import Body, QueryFields
from aitbc.coordinator.api.schemas.fields import MINER_ID_PATTERN, AmountUnits, OneOf
from aitbc.coordinator.api.schemas.queries import ID_CHARS, MAX_LIMIT
from aitbc.coordinator.api.schemas.replies import Reply
from aitbc.coordinator.marketplace.queries import SORTS
from aitbc.coordinator.marketplace.rows import GpuSpec
from aitbc.core.clock import parse_rfc3339
from aitbc.core.gpu_names import model_key
from aitbc.core.money import EXACT_NUMBER_UNITS, format_ait, parse_ait
from aitbc.core.rental import duration_ms
from aitbc.core.text import clean

MAX_MODEL_CHARS = 128
MAX_REGION_CHARS = 64
MAX_CUDA_CHARS = 32
MAX_DESCRIPTION_CHARS = 2_000
MAX_REVIEW_CHARS = 2_000
MAX_CAPABILITIES = 32
MAX_CAPABILITY_CHARS = 64
MAX_COUNT = 1_024
MAX_CARD_MB = 16 * 1024 * 1024

GpuStatus = Annotated[str, OneOf("available", "booked", "offline")]
OrderStatus = Annotated[str, OneOf("active", "completed", "cancelled")]


def _memory_mb(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("must be a number")
    megabytes = Decimal(value) * 1024 if Decimal(value).is_finite() else Decimal(0)
    if not 1 <= megabytes <= MAX_CARD_MB:
        raise ValueError(f"must be above 0 and at most {MAX_CARD_MB // 1024}")
    return int(megabytes)


def _hour_price(value: Any) -> int:
    if isinstance(value, str):
        raise ValueError("an amount is a number, not a string")
    units = parse_ait(value)
    if not 0 < units <= EXACT_NUMBER_UNITS:
        raise ValueError(f"must be above 0 and at most {format_ait(EXACT_NUMBER_UNITS)} AIT")
    return units


def _hours(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("must be a number of hours")
    return duration_ms(Decimal(value))


def _moment(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError("must be a time such as 2026-11-28T22:00:00Z")
    return parse_rfc3339(value)


def _named(text: str) -> str:
    if not model_key(text):
        raise ValueError("must have a letter or a digit")
    return text


def _clean(text: str) -> str:
    return clean(text, MAX_DESCRIPTION_CHARS)


def _query_amount(value: Any) -> int:
    return parse_ait(str(value))


Model = Annotated[str, Field(max_length=MAX_MODEL_CHARS), AfterValidator(_clean), AfterValidator(_named)]
Region = Annotated[str, Field(max_length=MAX_REGION_CHARS), AfterValidator(_clean)]
Cuda = Annotated[str, Field(max_length=MAX_CUDA_CHARS), AfterValidator(_clean)]
Capability = Annotated[str, Field(max_length=MAX_CAPABILITY_CHARS), AfterValidator(_clean)]
Description = Annotated[str, Field(max_length=MAX_DESCRIPTION_CHARS), AfterValidator(_clean)]
ReviewText = Annotated[str, Field(max_length=MAX_REVIEW_CHARS), AfterValidator(_clean)]
HourPrice = Annotated[
    int,
    BeforeValidator(_hour_price),
    WithJsonSchema(
        {"type": "number", "exclusiveMinimum": 0, "description": "AIT an hour, at most 8 decimals."}
    ),
]
Memory = Annotated[
    int,
    BeforeValidator(_memory_mb),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "description": "GB of one card."}),
]
Hours = Annotated[
    int,
    BeforeValidator(_hours),
    WithJsonSchema(
        {
            "type": "number",
            "exclusiveMinimum": 0,
            "description": "Hours, at most 8 decimals; rounded up to a second.",
        }
    ),
]
Moment = Annotated[
    int,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "format": "date-time", "maxLength": 40}),
]
Price = Annotated[
    int,
    BeforeValidator(_query_amount),
    WithJsonSchema({"type": "number", "minimum": 0, "description": "AIT an hour."}),
]


class RegisterGpu(Body):
    """A machine's GPUs, let as one by the hour. Without a miner they are offline."""

    decimals: ClassVar[bool] = True
    gpu_id: str | None = Field(
        None,
        max_length=ID_CHARS,
        description="The listing to change; left out: that of the miner, or a new one.",
    )
    miner_id: str | None = Field(None, pattern=MINER_ID_PATTERN, description="The miner that runs on it.")
    model: Model = Field(examples=["NVIDIA GeForce RTX 4090"])
    memory_gb: Memory
    count: int = Field(1, ge=1, le=MAX_COUNT, description="Cards.")
    cuda_version: Cuda = ""
    region: Region = ""
    price_per_hour: HourPrice
    capabilities: list[Capability] = Field([], max_length=MAX_CAPABILITIES)
    description: Description = ""

    def to_spec(self) -> GpuSpec:
        return GpuSpec(
            gpu_id=self.gpu_id,
            miner_id=self.miner_id or "",
            model=self.model,
            memory_mb=self.memory_gb,
            cards=self.count,
            cuda_version=self.cuda_version,
            region=self.region,
            price_units=self.price_per_hour,
            capabilities=tuple(self.capabilities),
            description=self.description,
        )


class BookGpu(Body):
    """For how long, and from when."""

    decimals: ClassVar[bool] = True
    duration_hours: Hours
    start_time: Moment | None = Field(None, description="Left out: now. At most 90 days ahead.")
    max_price: AmountUnits | None = Field(
        None, description="The most that the whole time may cost, AIT; above it nothing is booked."
    )
    dry_run: bool = Field(
        False, description="Only say what it would cost: nothing is booked and nothing held."
    )


class ReleaseGpu(QueryFields):
    """Which booking ends."""

    booking_id: str | None = Field(
        None,
        max_length=ID_CHARS,
        description="Left out: your next booking of the GPU; for its owner the one that has it now.",
    )


class ReviewGpu(Body):
    """What a booker says of a GPU."""

    rating: int = Field(ge=1, le=5, description="Stars.")
    text: ReviewText = ""
    booking_id: str | None = Field(
        None,
        max_length=ID_CHARS,
        description="Left out: your newest booking of the GPU that has ended and was used.",
    )


class ReviewList(QueryFields):
    """Which part of a GPU's reviews."""

    limit: int = Field(20, ge=1, le=MAX_LIMIT)
    cursor: str | None = Field(None, max_length=ID_CHARS, description="next_cursor of the page before.")


class GpuList(QueryFields):
    """What a list of GPUs is narrowed to."""

    available: bool | None = Field(None, description="Only those that can be booked now, or only others.")
    model: str | None = Field(
        None, max_length=MAX_MODEL_CHARS, description='However it is written: "RTX 4090", "nvidia-rtx4090".'
    )
    price: Price | None = Field(None, description="The most that an hour may cost, AIT; as max_price.")
    min_price: Price | None = None
    max_price: Price | None = None
    region: str | None = Field(None, max_length=MAX_REGION_CHARS)
    memory: float | None = Field(
        None, ge=0, le=MAX_CARD_MB / 1024, description="GB that a card has at the least."
    )
    rating: float | None = Field(None, ge=0, le=5, description="Stars, at the least.")
    reliability: float | None = Field(None, ge=0, le=1, description="At the least.")
    owner: str | None = Field(None, max_length=ID_CHARS)
    sort: Literal[tuple(SORTS)] = Field("price", description="A minus turns the order round.")  # type: ignore[valid-type]
    limit: int = Field(20, ge=1, le=MAX_LIMIT)
    cursor: str | None = Field(None, max_length=ID_CHARS, description="next_cursor of the page before.")


class OrderList(QueryFields):
    """Which orders."""

    status: Literal["active", "completed", "cancelled"] | None = None
    role: Literal["booker", "owner"] = Field(
        "booker", description="owner: bookings of your GPUs. Admins see everybody's."
    )
    gpu_id: str | None = Field(None, max_length=ID_CHARS)
    limit: int = Field(20, ge=1, le=MAX_LIMIT)
    cursor: str | None = Field(None, max_length=ID_CHARS, description="next_cursor of the page before.")


class Rating(Reply):
    average: Annotated[float, Field(description="Prior-weighted mean of its reviews, in stars.")]
    count: int


class Gpu(Reply):
    """A GPU that is let by the hour. Money in AIT."""

    gpu_id: str
    id: str
    owner: str
    miner_id: Annotated[str | None, Field(description="What it serves is at /v1/miners/{miner_id}.")]
    model: str
    memory_gb: Annotated[float, Field(description="Of one card.")]
    count: int
    cuda_version: str
    region: str
    price_per_hour: float
    capabilities: list[str]
    description: str
    status: GpuStatus
    available: bool
    rating: Rating
    reliability: Annotated[
        float, Field(description="The part of the booked time in which its machine was there; 0 to 1.")
    ]
    bookings: int
    registered_at: str
    updated_at: str


class GpuPage(Reply):
    gpus: list[Gpu]
    next_cursor: str | None


Busy = TypedDict("Busy", {"from": str, "until": str})


class GpuDetails(Gpu):
    """A GPU, and when it is booked already."""

    booked: Annotated[list[Busy], Field(description="Now and later, in order; the next 50.")]


class Order(Reply):
    """A booking of a GPU. Money in AIT."""

    booking_id: str
    id: str
    gpu_id: str
    miner_id: str
    booker: str
    owner: str
    status: OrderStatus
    detail: Annotated[
        str,
        OneOf("waiting", "running", "paused", "released", "ran_out", "cancelled", "no_show"),
        Field(
            description="waiting: for its start, or for the machine; paused: the machine is away, nothing is billed."
        ),
    ]
    start_time: str
    end_time: str
    duration_hours: float
    price_per_hour: float
    total_price: Annotated[float, Field(description="Of the whole time: what is or was held.")]
    price: Annotated[float, Field(description="Of the time that was used so far, or at its end.")]
    fee: Annotated[float | None, Field(description="The treasury's part of the price, once it has ended.")]
    refunded: Annotated[float | None, Field(description="What went back to the booker, once it has ended.")]
    used_seconds: int
    ended_by: str | None
    ended_at: str | None
    transfer_id: Annotated[str | None, Field(description="The ledger's line that ended it.")]
    created_at: str


class OrderPage(Reply):
    orders: list[Order]
    next_cursor: str | None


class Access(Reply):
    """A key that submits jobs to the booked GPU while the booking lasts, and may nothing else."""

    api_key: Annotated[str | None, Field(description="Shown this once; null where an answer is repeated.")]
    key_id: str
    expires_at: str


class Booked(Order):
    access: Annotated[Access | None, Field(description="Null in a dry run.")]
    dry_run: bool


class Review(Reply):
    """What a booker says of a GPU, after a booking that was used."""

    review_id: str
    id: str
    gpu_id: str
    booking_id: str
    author: str
    rating: Annotated[int, Field(description="1 to 5 stars.")]
    text: str
    created_at: str
    updated_at: str
    editable_until: Annotated[str, Field(description="Until then its author may post it anew.")]


class ReviewPage(Reply):
    gpu_id: str
    rating: Rating
    reviews: list[Review]
    next_cursor: str | None


class ModelPricing(Reply):
    """What an hour of a GPU model costs, in AIT: of the GPUs on offer, or of all listed where none is."""

    model: str
    min_price: float
    max_price: float
    median_price: float
    average_price: float
    available: Annotated[int, Field(description="GPUs that can be booked now.")]
    total: Annotated[int, Field(description="GPUs listed, those that are booked or offline too.")]
    utilisation: Annotated[
        float, Field(description="The part of the offered time of the last 24 hours that was booked; 0 to 1.")
    ]
    suggested_price: Annotated[
        float,
        Field(
            description="The median times 0.8 where nothing is booked, 1 at half, 1.2 where all is; "
            "weighted with one GPU's day, booked half of it."
        ),
    ]
