"""Generated requests, right and wrong, against every served operation: no 5xx, and answers as documented."""

from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
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
EXAMPLES = 8
"""Of each kind (valid, invalid) for each operation."""


@pytest.mark.timeout(240)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: str(mode.value))
def test_generated_requests_are_answered_as_documented(
    mode: GenerationMode, coordinator: ServerProcess, served: Json, key_of: Callable[[str], str]
) -> None:
    schema = schemathesis.openapi.from_dict(served)
    headers = [{}, *({"X-Api-Key": key_of(role)} for role in ("client", "miner", "admin"))]
    wrong: list[str] = []
    for found in schema.get_all_operations():
        operation = found.ok()

        @seed(1)
        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy(generation_mode=mode), header=st.sampled_from(headers))
        def check(case: Any, header: dict[str, str]) -> None:
            case.call_and_validate(base_url=coordinator.url, headers=header, checks=CHECKS)

        try:
            check()
        except* AssertionError as failures:
            wrong += [f"{operation.label}: {failure}" for failure in failures.exceptions]
    assert not wrong, "\n\n".join(wrong)
