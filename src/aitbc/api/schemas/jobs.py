"""Bodies of submissions, in both dialects, and how each becomes a JobSpec."""

from abc import abstractmethod
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, ValidationError, WithJsonSchema, field_validator

from aitbc.api.errors import field_errors, invalid_fields
from aitbc.api.routing import MAX_BATCH, Body
from aitbc.api.schemas.fields import AmountUnits, MinerId, Number
from aitbc.core import jobspec
from aitbc.errors import AitbcError, InvalidJobType, InvalidRequest
from aitbc.jobs.rows import JobSpec
from aitbc.jobs.spec import make_spec

Prompt = Annotated[Any, WithJsonSchema({"type": "string", "description": "Input prompt"})]
Messages = Annotated[
    Any,
    WithJsonSchema(
        {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "role": {"type": "string", "enum": sorted(jobspec.ROLES)},
                    "content": {"type": "string"},
                },
                "required": ["role", "content"],
            },
            "description": "A chat, instead of a prompt.",
        }
    ),
]
ModelName = Annotated[Any, WithJsonSchema({"type": "string", "default": jobspec.DEFAULT_MODEL})]
_SAMPLING: dict[str, Any] = {
    "max_tokens": {"type": "integer", "default": 256, "minimum": 1, "maximum": jobspec.MAX_TOKENS_LIMIT},
    "temperature": {"type": "number", "default": 0.7, "minimum": 0, "maximum": jobspec.MAX_TEMPERATURE},
    "top_p": {"type": "number", "default": 0.9, "exclusiveMinimum": 0, "maximum": 1},
    "seed": {"type": "integer", "minimum": 0},
    "stop": {"type": "array", "items": {"type": "string"}, "maxItems": jobspec.MAX_STOPS},
}
Params = Annotated[Any, WithJsonSchema({"type": "object", "properties": _SAMPLING})]
Parameters = Annotated[
    Any,
    WithJsonSchema(
        {
            "type": "object",
            "properties": {
                "prompt": {"type": "string"},
                "messages": {"type": "array", "items": {"type": "object"}},
                "input": {"type": "array", "items": {"type": "string"}, "description": "Texts to embed."},
                "model": {"type": "string", "default": jobspec.DEFAULT_MODEL},
                **_SAMPLING,
            },
            "description": "Input, model and sampling parameters in one object.",
        }
    ),
]


class Constraints(Body):
    """What the miner must have. `max_price` is in AIT per 1000 tokens."""

    min_memory_gb: Number | None = None
    region: str | None = None
    max_price: AmountUnits | None = None
    miner_id: MinerId | None = None


class Submission(Body):
    """What both dialects have in common. Abstract: each makes its own request."""

    decimals: ClassVar[bool] = True
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, protected_namespaces=())

    constraints: Constraints | None = None
    priority: int | None = Field(None, ge=0, le=9, description="9 goes first; default 5.")
    ttl_s: int | None = Field(None, ge=1, le=604_800, description="Seconds that it may wait; default 3600.")
    max_run_s: int | None = Field(
        None, ge=1, le=604_800, description="Seconds that one run may take; DEFAULT_MAX_RUN_S where left out."
    )
    payment: Literal["auto", "manual"] | None = None

    @field_validator("ttl_s", "max_run_s", "priority", mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        return int(value) if isinstance(value, Decimal) and value == value.to_integral_value() else value

    @abstractmethod
    def request(self) -> jobspec.Request:
        """The canonical request. Raises jobspec.InvalidRequest, UnknownJobType."""

    def to_spec(self) -> JobSpec:
        """The submission as flows take it. Raises InvalidRequest, InvalidJobType."""
        try:
            request = self.request()
        except jobspec.UnknownJobType as error:
            raise InvalidJobType(job_type=error.name[:64], supported=sorted(jobspec.JOB_TYPES)) from None
        except jobspec.InvalidRequest as error:
            raise field_errors([(fault.field, fault.message) for fault in error.errors]) from None
        wants = self.constraints
        if wants is None:
            return make_spec(
                request,
                priority=self.priority,
                ttl_s=self.ttl_s,
                max_run_s=self.max_run_s,
                payment=self.payment,
            )
        memory_gb = wants.min_memory_gb
        return make_spec(
            request,
            max_price_units=wants.max_price,
            min_memory_gb=None if memory_gb is None else Decimal(memory_gb),
            region=wants.region,
            miner_id=wants.miner_id,
            priority=self.priority,
            ttl_s=self.ttl_s,
            max_run_s=self.max_run_s,
            payment=self.payment,
        )


class JobRequest(Submission):
    """A submission of the dialect by resource: text from a prompt or a chat."""

    prompt: Prompt = None
    messages: Messages = None
    model: ModelName = None
    params: Params = None

    def request(self) -> jobspec.Request:
        return jobspec.build_request(
            "llm_inference",
            model=self.model,
            body={"prompt": self.prompt, "messages": self.messages},
            params=self.params,
        )


class RoleJobRequest(Submission):
    """A submission of the dialect by role: any job type."""

    job_type: Annotated[Any, WithJsonSchema({"type": "string", "enum": sorted(jobspec.JOB_TYPES)})]
    parameters: Parameters = None

    def request(self) -> jobspec.Request:
        return jobspec.request_from_parameters(self.job_type, self.parameters)


class AnyJobRequest(JobRequest):
    """A submission in either dialect: the one by role where it names a `job_type`."""

    job_type: str | None = None
    parameters: Parameters = None

    def request(self) -> jobspec.Request:
        if self.job_type is None:
            return super().request()
        return jobspec.request_from_parameters(self.job_type, self.parameters)


class JobBatch(Body):
    """Up to 1000 submissions, each in either dialect's form; each succeeds or fails by itself."""

    decimals: ClassVar[bool] = True
    batch: ClassVar[bool] = True

    jobs: list[Any] = Field(min_length=1, max_length=MAX_BATCH)

    def to_specs(self) -> list[JobSpec | AitbcError]:
        """One spec for each submission, or what is wrong with it."""
        return [_spec_or_error(item) for item in self.jobs]


def _spec_or_error(item: Any) -> JobSpec | AitbcError:
    if not isinstance(item, dict):
        return InvalidRequest("Each job is an object.")
    try:
        return AnyJobRequest.model_validate(item).to_spec()
    except ValidationError as error:
        return invalid_fields(error)
    except AitbcError as error:
        return error
