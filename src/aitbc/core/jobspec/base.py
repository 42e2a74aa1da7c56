"""What every job type has: how its requests and results are validated, bounded and hashed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

from aitbc.core.canonical import encode

RESULT_BYTES_PER_TOKEN = 64
RESULT_BYTES_FREE = 8192
"""A text of n tokens has at most RESULT_BYTES_FREE + n * RESULT_BYTES_PER_TOKEN bytes: tokens have about four, the
longest of usual vocabularies 128."""
MOST_BYTES_OF_AN_ESCAPE = 6  # \\u0041
MOST_BYTES_OF_A_TOKEN = 6
"""No text that people write has more UTF-8 bytes to a token on average (English prose has 4 to 5)."""
UNIT_TOKENS = "tokens"

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


def least_tokens(text: str) -> int:
    return len(text.encode("utf-8")) // MOST_BYTES_OF_A_TOKEN
