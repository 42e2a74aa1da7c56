"""Generated requests, right and wrong, against every served operation: no 5xx, and answers as documented."""

from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.errors import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.contract.documents import Json
from tests.support.server import ServerProcess

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
NOT_HTTP = b"Invalid HTTP request received."
"""What the HTTP parser says of a request line of more than 64 KiB, before any of our code sees it."""

EXAMPLES = 5
"""Of each kind (valid, invalid) for each operation."""


@pytest.mark.timeout(240)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: str(mode.value))
def test_generated_requests_are_answered_as_documented(
    mode: GenerationMode, coordinator: ServerProcess, served: Json, key_of: Callable[[str], str]
) -> None:
    schema = schemathesis.openapi.from_dict(served)
    headers = [{}, *({"X-Api-Key": key_of(role)} for role in ("client", "miner", "admin"))]
    wrong: list[str] = []
    answered = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @seed(1)
        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy(generation_mode=mode), header=st.sampled_from(headers))
        def check(case: Any, header: dict[str, str]) -> None:
            response = case.call(base_url=coordinator.url, headers=header)
            if response.content != NOT_HTTP:
                case.validate_response(response, checks=CHECKS)

        try:
            check()
            answered += 1
        except Unsatisfiable:  # it takes nothing that could be wrong
            continue
        except FailureGroup as failures:
            wrong.append(f"{operation.label}: {failures.message}")
    assert not wrong, "\n\n".join(wrong)
    assert answered > 20
