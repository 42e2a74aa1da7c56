"""The served OpenAPI document holds both documented dialects, but for what LATER names."""

import pytest

from tests.contract.documents import (
    LATER,
    Json,
    Operation,
    body_schema,
    operations,
    properties,
    resolve,
    resource_dialect,
    role_dialect,
    shape,
)

WANTED = resource_dialect()
RESOURCE = {name: found for name, found in operations(WANTED).items() if name not in LATER}
ROLE = [(row["method"], shape(row["path"])) for row in role_dialect()]
ROLE_NOW = [name for name in ROLE if name not in LATER]


def title(operation: Operation) -> str:
    return " ".join(operation)


def retyped(wanted: dict[str, set[str]], served: dict[str, set[str]]) -> list[str]:
    """Documented properties that are missing or can no longer be of the documented type."""
    admitted = {"number": {"number", "integer", "any"}}
    return [
        f"{name}: {sorted(served[name]) if name in served else 'missing'}, documented {sorted(kinds)}"
        for name, kinds in wanted.items()
        if name not in served
        or not any((admitted.get(kind, {kind}) | {"any"}) & served[name] for kind in kinds)
    ]


@pytest.mark.parametrize("operation", RESOURCE, ids=title)
def test_an_operation_by_resource_is_served_as_documented(operation: Operation, served: Json) -> None:
    found = operations(served).get(operation)
    assert found is not None, "no such operation"
    documented = RESOURCE[operation]
    queries = {parameter["name"] for parameter in found.get("parameters", []) if parameter["in"] == "query"}
    wanted_queries = {p["name"] for p in documented.get("parameters", []) if p["in"] == "query"}
    assert wanted_queries <= queries
    for status, reply in documented["responses"].items():
        assert status in found["responses"], f"response {status} is not documented"
        wanted = body_schema(WANTED, resolve(WANTED, reply))
        if wanted is not None:
            answer = body_schema(served, found["responses"][status])
            assert answer is not None, f"response {status} has no body"
            assert not retyped(properties(WANTED, wanted), properties(served, answer))


@pytest.mark.parametrize("operation", [name for name in RESOURCE if name[0] == "POST"], ids=title)
def test_a_documented_request_body_is_understood(operation: Operation, served: Json) -> None:
    documented = RESOURCE[operation].get("requestBody")
    if documented is None:
        return
    wanted = body_schema(WANTED, documented)
    taken = body_schema(served, operations(served)[operation]["requestBody"])
    assert wanted is not None
    assert taken is not None
    assert not retyped(properties(WANTED, wanted), properties(served, taken))
    required = set(resolve(served, taken).get("required", []))
    assert required <= set(resolve(WANTED, wanted).get("required", [])), "documented as optional"


@pytest.mark.parametrize("operation", ROLE_NOW, ids=title)
def test_an_operation_by_role_is_served(operation: Operation, served: Json) -> None:
    assert operation in operations(served)


def test_later_names_nothing_that_is_served_or_unheard_of(served: Json) -> None:
    assert not LATER & set(operations(served)), "served now: take it off the list"
    assert set(operations(WANTED)) | set(ROLE) >= LATER, "in neither document"


def test_every_error_has_the_common_body(served: Json) -> None:
    """One error body for both dialects, on every documented status that is an error."""
    wanted = {"detail", "error_code", "error", "request_id"}
    for operation, found in operations(served).items():
        for status, reply in found["responses"].items():
            if status.startswith(("2", "3")):
                continue
            answer = body_schema(served, reply)
            assert answer is not None, f"{title(operation)} {status}"
            assert wanted <= set(properties(served, answer)), f"{title(operation)} {status}"
        assert "422" not in found["responses"], title(operation)
