"""The job type embedding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aitbc.core.canonical import encode_floats, loads_strict
from aitbc.core.jobspec.base import (
    RESULT_BYTES_FREE,
    FieldError,
    InvalidResult,
    JobType,
    Request,
    Result,
    least_tokens,
)
from aitbc.core.jobspec.reading import MAX_DIMENSIONS, read_text, read_vector

MAX_INPUTS = 256
NUMBER_BYTES = 25  # of a vector, with its comma


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
                read_text(text, f"{field}[{index}]", errors, allow_empty=False)
                for index, text in enumerate(texts)
            ]
        }

    def read_params(self, params: Mapping[str, Any], where: str, errors: list[FieldError]) -> dict[str, Any]:
        return {}

    def completion_bound(self, request: Request) -> int:
        return 0

    def context_floor(self, request: Request) -> int:
        return max(map(least_tokens, request["input"]["input"]))  # each text has the context to itself

    def read_result(self, result: object) -> Result:
        rows = result.get("embeddings") if isinstance(result, Mapping) else result
        if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_INPUTS:
            raise InvalidResult(f'a result is {{"embeddings": [...]}} with 1 to {MAX_INPUTS} vectors')
        vectors = [read_vector(row) for row in rows]
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
