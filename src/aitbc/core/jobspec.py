"""What a job asks for and what an answer must look like: the registry of job types.

A *request* is the canonical JSON object that the miner gets and that `prompt_hash` covers:

    {"type", "model", "input": {"prompt": str} | {"messages": [{"role", "content"}]} | {"input": [str, ...]},
     "params": {"max_tokens", "temperature", "top_p", "seed"?, "stop"?}}        (params is {} for embedding)

A *result* is {"text": str, "finish_reason": "stop" | "length" | None} or {"embeddings": [[float, ...], ...]};
`result_hash` covers the text's UTF-8 bytes, or the RFC 8785 bytes of the embeddings. A new job type is a
subclass of `JobType` and an entry in `JOB_TYPES`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from aitbc.core.canonical import encode, encode_floats, loads_strict, sha256_hex

DEFAULT_MODEL = "llama3.2"
ANY_MODEL = "*"
"""What stands for the model of a miner that serves any."""
DEFAULT_MAX_TOKENS = 256
DEFAULT_TEMPERATURE = 0.7
DEFAULT_TOP_P = 0.9
MAX_TOKENS_LIMIT = 32_768
MAX_TEMPERATURE = 2
MAX_SEED = 2**53 - 1
MAX_STOPS = 4
MAX_STOP_CHARS = 64
MAX_MESSAGES = 256
MAX_INPUTS = 256
MAX_DIMENSIONS = 16_384
RESULT_BYTES_PER_TOKEN = 64
RESULT_BYTES_FREE = 8192
"""A text of n tokens has at most RESULT_BYTES_FREE + n * RESULT_BYTES_PER_TOKEN bytes: tokens have about four, the
longest of usual vocabularies 128."""
NUMBER_BYTES = 25  # of a vector, with its comma
MOST_BYTES_OF_AN_ESCAPE = 6  # \\u0041
MAX_VECTOR_NUMBER = 2**53 - 1
SAMPLING = ("max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop")
"""What a job's params may name; `max_completion_tokens` is another name of `max_tokens`."""
MOST_BYTES_OF_A_TOKEN = 6
"""No text that people write has more UTF-8 bytes to a token on average (English prose has 4 to 5)."""
ROLES = frozenset({"system", "user", "assistant", "tool"})
FINISH_REASONS = frozenset({"stop", "length"})
UNIT_TOKENS = "tokens"

_MODEL = re.compile(r"[A-Za-z0-9._:/@+-]{1,128}", re.ASCII)

Request = dict[str, Any]
Result = dict[str, Any]


class FieldError(NamedTuple):
    """One thing that is wrong with a request: the field's path and what it should be."""

    field: str
    message: str


class InvalidRequest(ValueError):
    """A job's model, input or parameters break the rules. `.errors` names each field."""

    def __init__(self, errors: list[FieldError]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in errors))


class UnknownJobType(ValueError):
    """No such job type in the registry."""

    def __init__(self, name: object) -> None:
        self.name = name if isinstance(name, str) else repr(name)
        super().__init__(f"unknown job type {self.name[:64]!r}; known: {', '.join(JOB_TYPES)}")


class InvalidResult(ValueError):
    """A miner's result is not of the form its job type demands."""


class JobType(ABC):
    """How one kind of job is validated, bounded and hashed."""

    name: str
    unit_type: str = UNIT_TOKENS
    result_needs_request: bool = True
    """Whether `check_result` looks at the request (False saves reading it back)."""
    result_field: str
    """The member of a result that `result_hash` covers, and that a receipt shows."""

    @abstractmethod
    def read_input(self, body: Mapping[str, Any], where: str, errors: list[FieldError]) -> dict[str, Any]:
        """The request's canonical "input" from `body`; what is wrong is added to `errors`."""

    @abstractmethod
    def read_params(self, params: Mapping[str, Any], where: str, errors: list[FieldError]) -> dict[str, Any]:
        """The request's canonical "params" with defaults filled in; unknown names are ignored."""

    @abstractmethod
    def completion_bound(self, request: Request) -> int:
        """The most completion tokens that can be billed."""

    @abstractmethod
    def read_result(self, result: object) -> Result:
        """The canonical form of a result, whatever the request was. InvalidResult."""

    @abstractmethod
    def result_from_text(self, text: str) -> Result:
        """The hashed part of a result, {result_field: ...}, from its `result_text`. ValueError."""

    @abstractmethod
    def result_bytes(self, result: Result) -> bytes:
        """The bytes that `result_hash` covers."""

    def most_result_bytes(self, request: Request, completion_bound: int) -> int:
        """The most bytes (`result_bytes`) that an answer to the request may have."""
        return RESULT_BYTES_FREE + completion_bound * RESULT_BYTES_PER_TOKEN

    def most_sent_bytes(self, completion_bound: int, inputs: int) -> int:
        """The most bytes of JSON that an answer may take on its way; `inputs`: how many texts the request has.

        Of text a byte may be sent as an escape of six.
        """
        return (RESULT_BYTES_FREE + completion_bound * RESULT_BYTES_PER_TOKEN) * MOST_BYTES_OF_AN_ESCAPE

    def check_result(self, request: Request, result: object) -> Result:
        """The canonical result of what a miner sent for this request. InvalidResult."""
        return self.read_result(result)

    def prompt_bound(self, request: Request, input_text: bytes | None = None) -> int:
        """The most prompt tokens that can be billed: a token is at least one byte of the input.

        `input_text`: the input's canonical JSON, where `encoded` has made it already.
        """
        return len(encode(request["input"]) if input_text is None else input_text)

    @abstractmethod
    def context_floor(self, request: Request) -> int:
        """Tokens of context that the request needs at the least, by MOST_BYTES_OF_A_TOKEN: an engine with less
        cannot hold it, one with more may still refuse it."""


def _least_tokens(text: str) -> int:
    return len(text.encode("utf-8")) // MOST_BYTES_OF_A_TOKEN


class LlmInference(JobType):
    """Text from a prompt or a chat."""

    name = "llm_inference"
    result_needs_request = False
    result_field = "text"

    def read_input(self, body: Mapping[str, Any], where: str, errors: list[FieldError]) -> dict[str, Any]:
        prompt, messages = body.get("prompt"), body.get("messages")
        if prompt is not None and messages is not None:
            errors.append(FieldError(f"{where}prompt", "give a prompt or messages, not both"))
            return {}
        if messages is not None:
            return {"messages": _read_messages(messages, f"{where}messages", errors)}
        if prompt is None:
            errors.append(FieldError(f"{where}prompt", "a prompt or messages are required"))
            return {}
        return {"prompt": _read_text(prompt, f"{where}prompt", errors, allow_empty=False)}

    def read_params(self, params: Mapping[str, Any], where: str, errors: list[FieldError]) -> dict[str, Any]:
        def given(name: str, default: Any) -> Any:
            value = params.get(name)
            return default if value is None else value

        most, other_name = given("max_tokens", None), given("max_completion_tokens", None)
        if most is not None and other_name not in (None, most):
            errors.append(FieldError(f"{where}max_completion_tokens", "differs from max_tokens"))
        if most is None:
            most = DEFAULT_MAX_TOKENS if other_name is None else other_name
        read: dict[str, Any] = {
            "max_tokens": _read_int(most, f"{where}max_tokens", errors, 1, MAX_TOKENS_LIMIT),
            "temperature": _read_number(
                given("temperature", DEFAULT_TEMPERATURE), f"{where}temperature", errors, MAX_TEMPERATURE
            ),
            "top_p": _read_number(given("top_p", DEFAULT_TOP_P), f"{where}top_p", errors, 1, above_zero=True),
        }
        if params.get("seed") is not None:
            read["seed"] = _read_int(params["seed"], f"{where}seed", errors, 0, MAX_SEED)
        stop = params.get("stop")
        if stop is not None and stop != []:
            read["stop"] = _read_stop(stop, f"{where}stop", errors)
        return read

    def completion_bound(self, request: Request) -> int:
        return int(request["params"]["max_tokens"])

    def context_floor(self, request: Request) -> int:
        asked = request["input"]
        texts = [asked["prompt"]] if "prompt" in asked else [one["content"] for one in asked["messages"]]
        return sum(map(_least_tokens, texts)) + self.completion_bound(request)

    def read_result(self, result: object) -> Result:
        if isinstance(result, str):
            result = {"text": result}
        if not isinstance(result, Mapping) or not isinstance(result.get("text"), str):
            raise InvalidResult(
                'a result is a string or {"text": string, "finish_reason": "stop"|"length"|null}'
            )
        text, reason = result["text"], result.get("finish_reason")
        if reason is not None and not (isinstance(reason, str) and reason in FINISH_REASONS):
            raise InvalidResult('finish_reason is "stop", "length" or null')
        if not _is_unicode(text):
            raise InvalidResult("text is not valid Unicode")
        return {"text": text, "finish_reason": reason}

    def result_bytes(self, result: Result) -> bytes:
        return str(result["text"]).encode("utf-8")

    def result_from_text(self, text: str) -> Result:
        return {"text": text}


class Embedding(JobType):
    """One vector per input text."""

    name = "embedding"
    result_field = "embeddings"

    def read_input(self, body: Mapping[str, Any], where: str, errors: list[FieldError]) -> dict[str, Any]:
        texts, field = body.get("input"), f"{where}input"
        if isinstance(texts, str):
            texts = [texts]
        if not isinstance(texts, list) or not 1 <= len(texts) <= MAX_INPUTS:
            errors.append(FieldError(field, f"must be a string or a list of 1 to {MAX_INPUTS} strings"))
            return {}
        return {
            "input": [
                _read_text(text, f"{field}[{index}]", errors, allow_empty=False)
                for index, text in enumerate(texts)
            ]
        }

    def read_params(self, params: Mapping[str, Any], where: str, errors: list[FieldError]) -> dict[str, Any]:
        return {}

    def completion_bound(self, request: Request) -> int:
        return 0

    def context_floor(self, request: Request) -> int:
        return max(map(_least_tokens, request["input"]["input"]))  # each text has the context to itself

    def read_result(self, result: object) -> Result:
        rows = result.get("embeddings") if isinstance(result, Mapping) else result
        if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_INPUTS:
            raise InvalidResult(f'a result is {{"embeddings": [...]}} with 1 to {MAX_INPUTS} vectors')
        vectors = [_read_vector(row) for row in rows]
        if len({len(vector) for vector in vectors}) != 1:
            raise InvalidResult("all vectors have the same length")
        return {"embeddings": vectors}

    def most_result_bytes(self, request: Request, completion_bound: int) -> int:
        return RESULT_BYTES_FREE + len(request["input"]["input"]) * MAX_DIMENSIONS * NUMBER_BYTES

    def most_sent_bytes(self, completion_bound: int, inputs: int) -> int:
        # Numbers have no escapes; a number may stand on a line of its own.
        return (RESULT_BYTES_FREE + inputs * MAX_DIMENSIONS * NUMBER_BYTES) * 2

    def check_result(self, request: Request, result: object) -> Result:
        read = self.read_result(result)
        count = len(request["input"]["input"])
        if len(read["embeddings"]) != count:
            raise InvalidResult(f"{count} vector(s) are asked for, one per input")
        return read

    def result_bytes(self, result: Result) -> bytes:
        return encode_floats(result["embeddings"])

    def result_from_text(self, text: str) -> Result:
        return self.read_result(loads_strict(text.encode("utf-8")))


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
        "model": _read_model(model, f"{where}model", errors),
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


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _read_text(value: object, field: str, errors: list[FieldError], *, allow_empty: bool) -> str:
    if not isinstance(value, str):
        errors.append(FieldError(field, "must be a string"))
        return ""
    if not value and not allow_empty:
        errors.append(FieldError(field, "must not be empty"))
    elif not _is_unicode(value):
        errors.append(FieldError(field, "must be valid Unicode"))
    return value


def _read_model(value: object, field: str, errors: list[FieldError]) -> str:
    if value is None:
        return DEFAULT_MODEL
    if not isinstance(value, str) or _MODEL.fullmatch(value) is None:
        errors.append(FieldError(field, "must be 1 to 128 characters of A-Z a-z 0-9 . _ : / @ + -"))
        return ""
    return value


def _read_messages(value: object, field: str, errors: list[FieldError]) -> list[dict[str, str]]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_MESSAGES:
        errors.append(FieldError(field, f"must be a list of 1 to {MAX_MESSAGES} messages"))
        return []
    messages = []
    for index, message in enumerate(value):
        at = f"{field}[{index}]"
        if not isinstance(message, Mapping):
            errors.append(FieldError(at, 'must be {"role", "content"}'))
            continue
        role = message.get("role")
        if not isinstance(role, str) or role not in ROLES:
            errors.append(FieldError(f"{at}.role", f"must be one of {', '.join(sorted(ROLES))}"))
            role = ""
        content = _read_text(message.get("content"), f"{at}.content", errors, allow_empty=True)
        messages.append({"role": role, "content": content})
    return messages


def _read_int(value: object, field: str, errors: list[FieldError], least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        errors.append(FieldError(field, f"must be an integer from {least} to {most}"))
        return least
    return value


def _read_number(
    value: object, field: str, errors: list[FieldError], most: int, *, above_zero: bool = False
) -> int | float:
    # A whole number becomes an int: RFC 8785 writes both alike, and one form makes requests compare equal.
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool) and 0 <= value <= most:
        number = float(value)
        if number > 0 or not above_zero:
            return int(number) if number.is_integer() else number
    bound = "above 0 and at most" if above_zero else "from 0 to"
    errors.append(FieldError(field, f"must be a number {bound} {most}"))
    return most


def _read_stop(value: object, field: str, errors: list[FieldError]) -> list[str]:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or len(stops) > MAX_STOPS:
        errors.append(FieldError(field, f"must be a string or a list of at most {MAX_STOPS} strings"))
        return []
    for stop in stops:
        if not isinstance(stop, str) or not 1 <= len(stop) <= MAX_STOP_CHARS or not _is_unicode(stop):
            errors.append(FieldError(field, f"each must be 1 to {MAX_STOP_CHARS} characters"))
            return []
    return list(stops)


def _read_vector(row: object) -> list[float]:
    if not isinstance(row, list) or not 1 <= len(row) <= MAX_DIMENSIONS:
        raise InvalidResult(f"a vector is a list of 1 to {MAX_DIMENSIONS} numbers")
    vector = []
    for value in row:
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise InvalidResult("a vector holds numbers only")
        # Below 2**53, so that an integer's every digit tells; NaN fails both comparisons.
        if not -MAX_VECTOR_NUMBER <= value <= MAX_VECTOR_NUMBER:
            raise InvalidResult("a vector's numbers are finite and below 2**53 in size")
        # Adding zero turns -0.0, which RFC 8785 cannot tell from 0, into 0.0.
        vector.append(float(value) + 0.0)
    return vector
