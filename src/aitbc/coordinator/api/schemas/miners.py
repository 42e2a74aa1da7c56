"""Bodies that miners send, in both dialects: registration, heartbeat, claims, results, failures."""

import re
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema, field_validator

from aitbc.coordinator.api.plumbing.errors import field_errors, invalid_fields
from aitbc.coordinator.api.plumbing.routing import MAX_BATCH, Body
from aitbc.coordinator.api.schemas.fields import (
    MAX_MEMORY_GB,
    Cut,
    JobId,
    MinerId,
    Number,
    SessionId,
    Size,
    UnitPrice,
)
from aitbc.coordinator.errors import AitbcError, InvalidJobType, InvalidRequest
from aitbc.coordinator.flows.acts.completion import ResultSubmission
from aitbc.coordinator.jobs.lifecycle import MINER_CAUSES
from aitbc.coordinator.miners.rows import GpuSpec, MinerSpec, ModelSpec
from aitbc.core import causes
from aitbc.core.jobspec import JOB_TYPES
from aitbc.core.signing import public_from_text
from aitbc.core.text import clean

MAX_MODELS = 256
MAX_GPUS = 64
MAX_CONCURRENCY = 4096

_MODEL_PATTERN = r"^[A-Za-z0-9._:/@+-]{1,128}$"
_SIZE = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(|MB|MiB|GB|GiB|TB|TiB)\s*", re.ASCII | re.IGNORECASE)
_MB_OF_UNIT = {"": 1024, "m": 1, "g": 1024, "t": 1024 * 1024}


class ModelOffer(Body):
    """A model that a miner serves; `price_per_1k` in AIT per 1000 tokens, null for the network's default."""

    name: str = Field(pattern=_MODEL_PATTERN)
    engine: Annotated[str | None, Cut(128)] = None
    context_length: int | None = Field(None, ge=0, le=2**31)
    quantisation: Annotated[str | None, Cut(64)] = None
    price_per_1k: UnitPrice | None = None


class GpuOffer(Body):
    name: Annotated[str | None, Cut(128)]
    memory_gb: Number = Field(ge=0, le=MAX_MEMORY_GB)


class GpuInfo(Body):
    """One GPU as the documents write it: a name and a memory such as "24GB"."""

    name: Annotated[str | None, Cut(128)] = None
    memory: Size | None = None

    def to_gpu(self) -> GpuSpec:
        """Raises InvalidRequest for a memory that is not a size."""
        if self.memory is None:
            return GpuSpec(self.name or "GPU", 0)
        size = _SIZE.fullmatch(self.memory)
        if size is None:
            raise field_errors([("gpu_info.memory", 'must be a size such as "24GB"')])
        memory_mb = Decimal(size.group(1)) * _MB_OF_UNIT[size.group(2)[:1].lower()]
        if memory_mb > MAX_MEMORY_GB * 1024:
            raise field_errors([("gpu_info.memory", f"must be at most {MAX_MEMORY_GB} GB")])
        return GpuSpec(self.name or "GPU", int(memory_mb))


class Offer(Body):
    """What a miner has: the typed form of its capabilities."""

    decimals: ClassVar[bool] = True
    report: ClassVar[bool] = True

    models: list[ModelOffer] = Field([], max_length=MAX_MODELS)
    gpus: list[GpuOffer] = Field([], max_length=MAX_GPUS)
    job_types: list[str] = Field([], max_length=len(JOB_TYPES) * 2)
    region: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]{0,64}$")
    concurrency: int | None = Field(None, ge=1, le=MAX_CONCURRENCY)
    public_key: str | None = Field(None, max_length=64, description="Ed25519, base64.")
    address: Annotated[str | None, Cut(256)] = None
    endpoint: Annotated[str | None, Cut(512)] = None
    prices: dict[str, UnitPrice] = Field({}, max_length=MAX_MODELS)


class MinerRegistration(Offer):
    """A registration: capabilities as strings or in typed form, typed fields also at the top."""

    miner_id: MinerId | None = None
    capabilities: list[str] | Offer = Field(
        [], description="Models and job types by name, or the typed form."
    )
    gpu_info: GpuInfo | None = None
    session_id: SessionId | None = None
    installation_id: str | None = Field(
        None,
        max_length=64,
        description="The machine and folder that the miner runs in, the same at each start.",
    )
    takeover: bool = Field(False, description="Take the id over from a machine on which it is alive.")

    @field_validator("capabilities")
    @classmethod
    def _check_names(cls, value: list[str] | Offer) -> list[str] | Offer:
        if isinstance(value, list):
            if len(value) > MAX_MODELS:
                raise ValueError(f"must name at most {MAX_MODELS} models and job types")
            if any(re.fullmatch(_MODEL_PATTERN, name) is None for name in value):
                raise ValueError("must name models and job types: 1 to 128 of A-Z a-z 0-9 . _ : / @ + -")
        return value

    def to_spec(self) -> MinerSpec:
        """The registration as flows take it. Raises InvalidRequest, InvalidJobType."""
        typed = self.capabilities if isinstance(self.capabilities, Offer) else Offer()
        named = self.capabilities if isinstance(self.capabilities, list) else []
        offers = {offer.name: offer for offer in (*typed.models, *self.models)}
        for name in named:
            if name not in JOB_TYPES:
                offers.setdefault(name, ModelOffer(name=name))
        prices = {**typed.prices, **self.prices}
        if unknown := prices.keys() - offers.keys():
            raise field_errors([(f"prices.{min(unknown)[:64]}", "must be of a model that is listed")])
        job_types = (*typed.job_types, *self.job_types, *(name for name in named if name in JOB_TYPES))
        for name in job_types:
            if name not in JOB_TYPES:
                raise InvalidJobType(job_type=name[:64], supported=sorted(JOB_TYPES))
        gpus = [GpuSpec(gpu.name or "GPU", int(gpu.memory_gb * 1024)) for gpu in (*typed.gpus, *self.gpus)]
        if self.gpu_info is not None:
            gpus.append(self.gpu_info.to_gpu())
        models = tuple(
            ModelSpec(
                name=offer.name,
                price_units=prices.get(offer.name, offer.price_per_1k),
                engine=offer.engine or "",
                context_length=offer.context_length or 0,
                quantisation=offer.quantisation or "",
            )
            for offer in offers.values()
        )
        job_types = tuple(dict.fromkeys(job_types))
        return MinerSpec(
            miner_id=self.miner_id,
            job_types=job_types,
            models=models,
            gpus=tuple(gpus),
            region=_first(self.region, typed.region) or "",
            concurrency=_first(self.concurrency, typed.concurrency) or 1,
            public_key=_public_key(_first(self.public_key, typed.public_key)),
            address=_first(self.address, typed.address) or "",
            endpoint=_first(self.endpoint, typed.endpoint) or "",
            capabilities=tuple(named) or (*offers, *job_types),
            session_id=self.session_id or "",
            installation_id=self.installation_id or "",
            takeover=self.takeover,
        )


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _public_key(text: str | None) -> str:
    if not text:
        return ""
    try:
        public_from_text(text)
    except ValueError as error:
        raise field_errors([("public_key", str(error))]) from None
    return text


class RoleMinerRegistration(MinerRegistration):
    """The same in the dialect by role."""


class MinerName(Body):
    """Which of the account's miners."""

    miner_id: MinerId
    session_id: SessionId | None = None


class Load(Body):
    running: int | None = Field(None, ge=0, le=1_000_000)
    gpu_utilisation: Number | None = Field(None, ge=0, le=100)
    memory_used_gb: Number | None = Field(None, ge=0)


def _readable_load(value: Any) -> Load | None:
    """Of a load what can be read: a sensor that says 101 % must not cost the miner its leases."""
    if not isinstance(value, dict):
        return None
    kept: dict[str, Any] = {}
    for name in Load.model_fields:
        try:
            Load.model_validate({name: value.get(name)})
        except ValidationError:
            continue
        kept[name] = value.get(name)
    return Load.model_validate(kept)


def _readable_progress(value: Any) -> dict[str, int] | None:
    """What can be read of it: a heartbeat is never refused for what it reports."""
    if not isinstance(value, dict):
        return None
    return {
        job_id: tokens
        for job_id, tokens in list(value.items())[:MAX_CONCURRENCY]
        if isinstance(tokens, int) and not isinstance(tokens, bool) and 0 <= tokens < 2**53
    }


class HeartbeatReport(Body):
    """A sign of life. `jobs`: what the miner runs (left out: all that it holds)."""

    report: ClassVar[bool] = True

    miner_id: MinerId | None = None
    status: Literal["active", "draining"] = "active"
    load: Annotated[Load | None, BeforeValidator(_readable_load)] = None
    jobs: list[str] | None = Field(None, max_length=MAX_CONCURRENCY)
    session_id: SessionId | None = None
    progress: Annotated[
        dict[str, int] | None,
        BeforeValidator(_readable_progress),
        WithJsonSchema(
            {
                "type": "object",
                "additionalProperties": {"type": "integer"},
                "description": "Tokens generated so far, by job: what is paid for a job that is cancelled.",
            }
        ),
    ] = None


ResultValue = Annotated[
    Any,
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"type": "object"}],
            "description": 'The text, or {"text", "finish_reason"}, or {"embeddings"}.',
        }
    ),
]
UsageValue = Annotated[
    Any,
    WithJsonSchema(
        {
            "type": "object",
            "properties": {"prompt_tokens": {"type": "integer"}, "completion_tokens": {"type": "integer"}},
            "description": "Tokens as the engine counted them.",
        }
    ),
]


CompletedAt = Annotated[
    Any, WithJsonSchema({"type": "string", "description": "Ignored: the coordinator stamps."})
]
SignatureValue = Annotated[
    Any,
    WithJsonSchema({"type": "object", "description": "alg, key_id, sig over the result statement."}),
]


class SentResult(Body):
    """What every result says, whoever names its miner and its job."""

    report: ClassVar[bool] = True

    result: ResultValue = Field(...)
    completed_at: CompletedAt = None
    usage: UsageValue = None
    lease_id: Annotated[str | None, Cut(64)] = None
    session_id: Annotated[str | None, Cut(64)] = None
    signature: SignatureValue = None

    def to_submission(self, job_id: str) -> ResultSubmission:
        signature = self.signature if isinstance(self.signature, dict) else None
        return ResultSubmission(job_id, self.result, self.usage, self.lease_id, signature, self.session_id)


class OfMiner(Body):
    miner_id: MinerId


class JobResult(SentResult, OfMiner):
    """A result. `signature` is needed of a miner that registered a public key."""

    carries: ClassVar[Literal["", "result", "results"]] = "result"


class RoleJobResult(JobResult):
    """The same in the dialect by role, which names the job in the body."""

    job_id: JobId


class ResultItem(SentResult):
    """A result of a batch; the miner is named once for all."""

    miner_id: MinerId | None = None
    job_id: JobId


class ResultBatch(Body):
    """Up to 1000 results of one miner; each succeeds or fails by itself."""

    batch: ClassVar[bool] = True
    report: ClassVar[bool] = True
    carries: ClassVar[Literal["", "result", "results"]] = "results"

    miner_id: MinerId | None = None
    results: list[Any] = Field(min_length=1, max_length=MAX_BATCH)

    def to_submissions(self) -> list[tuple[str | None, ResultSubmission | AitbcError]]:
        """(job id where known, submission or what is wrong with it) for each result."""
        return [_submission_or_error(item) for item in self.results]


def _submission_or_error(item: Any) -> tuple[str | None, ResultSubmission | AitbcError]:
    if not isinstance(item, dict):
        return None, InvalidRequest("Each result is an object.")
    job_id = item.get("job_id")
    named = job_id if isinstance(job_id, str) else None
    try:
        return named, ResultItem.model_validate(item).to_submission(named or "")
    except ValidationError as error:
        return named, invalid_fields(error)


Cause = Annotated[
    Any,
    WithJsonSchema(
        {
            "type": "string",
            "description": f"One of {', '.join(MINER_CAUSES)}; anything else counts as {causes.UNKNOWN.value}.",
        }
    ),
]
Flag = Annotated[
    bool | None,
    BeforeValidator(lambda value: value if isinstance(value, bool) else None),
    WithJsonSchema({"type": "boolean"}),
]


class Failure(Body):
    """A job given back. Nothing but who it is of can be wrong with it: what is not understood is cleaned or
    counts as an ENGINE_ERROR, for a report that is refused would leave the job where it is."""

    report: ClassVar[bool] = True

    miner_id: MinerId
    cause: Cause = None
    message: Annotated[str | None, Cut(4000)] = None
    retryable: Flag = None
    lease_id: Annotated[str | None, Cut(64)] = None
    session_id: Annotated[str | None, Cut(64)] = None

    def said(self) -> tuple[str, str]:
        """The cause that is known here, and the message; an unknown cause is kept in the message."""
        message = self.message or ""
        if isinstance(self.cause, str) and self.cause in MINER_CAUSES:
            return self.cause, message
        named = "" if self.cause is None else clean(str(self.cause)[:256], 64)
        return causes.UNKNOWN.value, ": ".join(filter(None, (named, message)))


class RoleFailure(Failure):
    """The same in the dialect by role."""

    job_id: JobId
