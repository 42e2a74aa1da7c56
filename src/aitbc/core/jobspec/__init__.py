"""What a job asks for and what an answer must look like: the registry of job types.

A *request* is the canonical JSON object that the miner gets and that `prompt_hash` covers:

    {"type", "model", "input": {"prompt": str} | {"messages": [{"role", "content"}]} | {"input": [str, ...]},
     "params": {"max_tokens", "temperature", "top_p", "seed"?, "stop"?}}        (params is {} for embedding)

A *result* is {"text": str, "finish_reason": "stop" | "length" | None} or {"embeddings": [[float, ...], ...]};
`result_hash` covers the text's UTF-8 bytes, or the RFC 8785 bytes of the embeddings. A new job type is a
subclass of `JobType` in a module of its own and an entry in `JOB_TYPES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aitbc.core.canonical import encode, sha256_hex
from aitbc.core.jobspec.base import (
    MOST_BYTES_OF_A_TOKEN,
    RESULT_BYTES_FREE,
    RESULT_BYTES_PER_TOKEN,
    UNIT_TOKENS,
    FieldError,
    InvalidRequest,
    InvalidResult,
    JobType,
    Request,
    Result,
)
from aitbc.core.jobspec.embedding import Embedding
from aitbc.core.jobspec.llm_inference import MAX_TEMPERATURE, MAX_TOKENS_LIMIT, SAMPLING, LlmInference
from aitbc.core.jobspec.reading import DEFAULT_MODEL, MAX_STOPS, ROLES, read_model

__all__ = [
    "ANY_MODEL",
    "DEFAULT_MODEL",
    "JOB_TYPES",
    "MAX_STOPS",
    "MAX_TEMPERATURE",
    "MAX_TOKENS_LIMIT",
    "MOST_BYTES_OF_A_TOKEN",
    "RESULT_BYTES_FREE",
    "RESULT_BYTES_PER_TOKEN",
    "ROLES",
    "SAMPLING",
    "UNIT_TOKENS",
    "Embedding",
    "FieldError",
    "InvalidRequest",
    "InvalidResult",
    "JobType",
    "LlmInference",
    "Request",
    "Result",
    "UnknownJobType",
    "build_request",
    "encoded",
    "job_type_named",
    "parameters_of",
    "prompt_hash",
    "request_from_parameters",
    "result_hash",
    "result_text",
]

ANY_MODEL = "*"
"""What stands for the model of a miner that serves any."""


class UnknownJobType(ValueError):
    """No such job type in the registry."""

    def __init__(self, name: object) -> None:
        self.name = name if isinstance(name, str) else repr(name)
        super().__init__(f"unknown job type {self.name[:64]!r}; known: {', '.join(JOB_TYPES)}")


JOB_TYPES: dict[str, JobType] = {job_type.name: job_type for job_type in (LlmInference(), Embedding())}


def job_type_named(name: object) -> JobType:
    """The registered job type. UnknownJobType."""
    job_type = JOB_TYPES.get(name) if isinstance(name, str) else None
    if job_type is None:
        raise UnknownJobType(name)
    return job_type


def build_request(
    job_type: object,
    *,
    model: object = None,
    body: Mapping[str, Any],
    params: object = None,
    where: str = "",
    params_where: str = "params.",
) -> Request:
    """The canonical request of a submission.

    `body` holds prompt, messages or input; `params` the sampling parameters (None: all defaults). `where` and
    `params_where` prefix the field paths in errors. UnknownJobType, InvalidRequest (all faults at once).
    """
    kind = job_type_named(job_type)
    errors: list[FieldError] = []
    if params is None:
        params = {}
    elif not isinstance(params, Mapping):
        errors.append(FieldError(params_where.rstrip("."), "must be an object"))
        params = {}
    request = {
        "type": kind.name,
        "model": read_model(model, f"{where}model", errors),
        "input": kind.read_input(body, where, errors),
        "params": kind.read_params(params, params_where, errors),
    }
    if errors:
        raise InvalidRequest(errors)
    return request


def request_from_parameters(job_type: object, parameters: object, *, model: str | None = None) -> Request:
    """The canonical request of the dialect by role, where input, model and params lie in one object.

    `model`: of a submission that names none.
    """
    job_type_named(job_type)
    if not isinstance(parameters, Mapping):
        raise InvalidRequest([FieldError("parameters", "must be an object")])
    named = parameters.get("model")
    return build_request(
        job_type,
        model=model if named is None else named,
        body=parameters,
        params=parameters,
        where="parameters.",
        params_where="parameters.",
    )


def parameters_of(request: Request) -> dict[str, Any]:
    """A request's input, model and params in one object, as the dialect by role shows them."""
    return {**request["input"], "model": request["model"], **request["params"]}


def encoded(request: Request) -> tuple[bytes, bytes]:
    """The canonical JSON of a request, and that of its input, which is a part of it: long ones are written once."""
    asked = encode(request["input"])
    others = encode({name: value for name, value in request.items() if name != "input"})
    return b'{"input":' + asked + b"," + others[1:], asked  # "input" sorts before model, params and type


def prompt_hash(request: Request) -> str:
    """SHA-256 (hex) of the canonical request."""
    return sha256_hex(encode(request))


def result_hash(job_type: str, result: Result) -> str:
    """SHA-256 (hex) of a canonical result's bytes. UnknownJobType."""
    return sha256_hex(job_type_named(job_type).result_bytes(result))


def result_text(job_type: str, result: Result) -> str:
    """A canonical result as one string: the text, or the embeddings as canonical JSON. UnknownJobType."""
    return job_type_named(job_type).result_bytes(result).decode("utf-8")
