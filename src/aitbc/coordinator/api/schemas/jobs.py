"""Bodies of submissions, in both dialects, and how each becomes a JobSpec."""

import re
from abc import abstractmethod
from collections.abc import Mapping
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, WithJsonSchema, field_validator

from aitbc.coordinator.api.plumbing.errors import field_errors, invalid_fields
from aitbc.coordinator.api.plumbing.routing import MAX_BATCH, Body
from aitbc.coordinator.api.schemas.fields import MAX_MEMORY_GB, MinerId, Number, UnitPrice
from aitbc.coordinator.errors import AitbcError, InvalidJobType, InvalidRequest
from aitbc.coordinator.jobs.lifecycle import MAX_PRIORITY, MAX_RUN_S, MAX_TTL_S
from aitbc.coordinator.jobs.rows import JobSpec
from aitbc.coordinator.jobs.spec import make_spec
from aitbc.core import jobspec

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
_SAMPLING["max_completion_tokens"] = {"type": "integer", "description": "The same as max_tokens."}
_REGION = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
MAX_IGNORED = 16  # names of fields that a warning lists
MAX_IGNORED_CHARS = 64


def _same_as(name: str) -> WithJsonSchema:
    return WithJsonSchema({**_SAMPLING[name], "description": f"The same as params.{name}."})


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


def _memory(memory_gb: float | None) -> float | None:
    if memory_gb is not None and not 0 <= memory_gb <= MAX_MEMORY_GB:
        raise ValueError(f"must be 0 to {MAX_MEMORY_GB}")
    return memory_gb


def _region(name: str | None) -> str | None:
    if name and _REGION.fullmatch(name) is None:
        raise ValueError("must be 1 to 64 of A-Z a-z 0-9 . _ -")
    return name


class Constraints(Body):
    """What the miner must have. `max_price` is in AIT per 1000 tokens."""

    min_memory_gb: Annotated[Number | None, AfterValidator(_memory)] = None
    region: Annotated[str | None, AfterValidator(_region)] = None
    max_price: UnitPrice | None = None
    miner_id: MinerId | None = None


class Submission(Body):
    """What both dialects have in common. Abstract: each makes its own request.

    Unknown fields are kept by name, so that the answer can say that they were ignored.
    """

    decimals: ClassVar[bool] = True
    params_name: ClassVar[str] = "params"
    params_known: ClassVar[frozenset[str]] = frozenset(jobspec.SAMPLING)
    model_config = ConfigDict(strict=True, extra="allow", frozen=True, protected_namespaces=())

    constraints: Constraints | None = None
    priority: int | None = Field(None, ge=0, le=MAX_PRIORITY, description="9 goes first; default 5.")
    ttl_s: int | None = Field(None, ge=1, le=MAX_TTL_S, description="Seconds that it may wait; default 3600.")
    max_run_s: int | None = Field(
        None,
        ge=1,
        le=MAX_RUN_S,
        description="Seconds that one run may take; DEFAULT_MAX_RUN_S where left out.",
    )
    payment: Literal["auto", "manual"] | None = None
    # Where other model APIs have them.
    max_tokens: Annotated[Any, _same_as("max_tokens")] = None
    max_completion_tokens: Annotated[Any, _same_as("max_completion_tokens")] = None
    temperature: Annotated[Any, _same_as("temperature")] = None
    top_p: Annotated[Any, _same_as("top_p")] = None
    seed: Annotated[Any, _same_as("seed")] = None
    stop: Annotated[Any, _same_as("stop")] = None

    @field_validator("ttl_s", "max_run_s", "priority", mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        return int(value) if isinstance(value, Decimal) and value == value.to_integral_value() else value

    @abstractmethod
    def request(self, model: str | None = None) -> jobspec.Request:
        """The canonical request; `model` where it names none. Raises jobspec.InvalidRequest, UnknownJobType."""

    @abstractmethod
    def unnamed_model(self) -> str | None:
        """The job type of a submission that names no model; None where it names one."""

    @abstractmethod
    def params_given(self) -> Any:
        """The object that holds the sampling parameters, as it was sent."""

    def ignored(self) -> list[str]:
        """Names of fields that mean nothing here, at most MAX_IGNORED of them."""
        names = list(self.model_extra or ())
        params = self.params_given()
        if isinstance(params, dict):
            names += [f"{self.params_name}.{name}" for name in params if name not in self.params_known]
        return [name[:MAX_IGNORED_CHARS] for name in names[:MAX_IGNORED]]

    def _with_sampling(self, given: Any) -> Any:
        """The parameters, with those that stand beside them. Raises jobspec.InvalidRequest where both differ."""
        beside = {name: value for name in jobspec.SAMPLING if (value := getattr(self, name)) is not None}
        if not beside or not isinstance(given, dict | None):
            return given
        params = given or {}
        twice = [name for name, value in beside.items() if params.get(name) not in (None, value)]
        if twice:
            where = self.params_name
            raise jobspec.InvalidRequest(
                [jobspec.FieldError(name, f"differs from {where}.{name}") for name in twice]
            )
        return {**params, **beside}

    def canonical(self, model: str | None = None) -> jobspec.Request:
        """`request`. Raises InvalidRequest, InvalidJobType."""
        try:
            return self.request(model)
        except jobspec.UnknownJobType as error:
            raise InvalidJobType(job_type=error.name[:64], supported=sorted(jobspec.JOB_TYPES)) from None
        except jobspec.InvalidRequest as error:
            raise field_errors([(fault.field, fault.message) for fault in error.errors]) from None

    def to_spec(self, request: jobspec.Request) -> JobSpec:
        """The submission as flows take it, of its canonical request."""
        wants = self.constraints or Constraints()
        return make_spec(
            request,
            max_price_units=wants.max_price,
            min_memory_gb=wants.min_memory_gb,
            region=wants.region or "",
            miner_id=wants.miner_id or "",
            priority=self.priority,
            ttl_s=self.ttl_s,
            max_run_s=self.max_run_s,
            manual_payment=self.payment == "manual",
        )


class JobRequest(Submission):
    """A submission of the dialect by resource: text from a prompt or a chat."""

    prompt: Prompt = None
    messages: Messages = None
    model: ModelName = None
    params: Params = None

    def unnamed_model(self) -> str | None:
        return "llm_inference" if self.model is None else None

    def params_given(self) -> Any:
        return self.params

    def request(self, model: str | None = None) -> jobspec.Request:
        return jobspec.build_request(
            "llm_inference",
            model=model if self.model is None else self.model,
            body={"prompt": self.prompt, "messages": self.messages},
            params=self._with_sampling(self.params),
        )


class RoleJobRequest(Submission):
    """A submission of the dialect by role: any job type."""

    params_name: ClassVar[str] = "parameters"
    params_known: ClassVar[frozenset[str]] = frozenset(
        (*jobspec.SAMPLING, "prompt", "messages", "input", "model")
    )

    job_type: Annotated[Any, WithJsonSchema({"type": "string", "enum": sorted(jobspec.JOB_TYPES)})]
    parameters: Parameters = None

    def unnamed_model(self) -> str | None:
        named = isinstance(self.parameters, dict) and self.parameters.get("model") is not None
        return None if named or self.job_type not in jobspec.JOB_TYPES else str(self.job_type)

    def params_given(self) -> Any:
        return self.parameters

    def request(self, model: str | None = None) -> jobspec.Request:
        return jobspec.request_from_parameters(
            self.job_type, self._with_sampling(self.parameters), model=model
        )


class AnyJobRequest(JobRequest):
    """A submission in either dialect: the one by role where it names a `job_type`."""

    job_type: str | None = None
    parameters: Parameters = None

    def unnamed_model(self) -> str | None:
        if self.job_type is None:
            return super().unnamed_model()
        named = isinstance(self.parameters, dict) and self.parameters.get("model") is not None
        return None if named or self.job_type not in jobspec.JOB_TYPES else self.job_type

    def request(self, model: str | None = None) -> jobspec.Request:
        if self.job_type is None:
            return super().request(model)
        return jobspec.request_from_parameters(
            self.job_type, self._with_sampling(self.parameters), model=model
        )


class JobBatch(Body):
    """Up to 1000 submissions, each in either dialect's form; each succeeds or fails by itself."""

    decimals: ClassVar[bool] = True
    batch: ClassVar[bool] = True

    jobs: list[Any] = Field(min_length=1, max_length=MAX_BATCH)

    def to_specs(self, models: Mapping[str, str]) -> list[JobSpec | AitbcError]:
        """One spec for each submission, or what is wrong with it. `models`: of those that name none, by type."""
        return [_spec_or_error(item, models) for item in self._read]

    def unnamed_models(self) -> set[str]:
        """The job types of submissions that name no model."""
        read = (item.unnamed_model() for item in self._read if isinstance(item, AnyJobRequest))
        return {job_type for job_type in read if job_type is not None}

    @cached_property
    def _read(self) -> list[AnyJobRequest | AitbcError]:
        return [_read_item(item) for item in self.jobs]


def _read_item(item: Any) -> AnyJobRequest | AitbcError:
    if not isinstance(item, dict):
        return InvalidRequest("Each job is an object.")
    try:
        return AnyJobRequest.model_validate(item)
    except ValidationError as error:
        return invalid_fields(error)


def _spec_or_error(item: AnyJobRequest | AitbcError, models: Mapping[str, str]) -> JobSpec | AitbcError:
    if isinstance(item, AitbcError):
        return item
    job_type = item.unnamed_model()
    try:
        return item.to_spec(item.canonical(None if job_type is None else models[job_type]))
    except AitbcError as error:
        return error
