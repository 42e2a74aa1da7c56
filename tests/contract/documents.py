"""The two documents that the HTTP interface is held against, and how an OpenAPI document is read.

jobs-api.openapi.yaml  the dialect by resource: paths, parameters, statuses and schemas must all be served.
role-api.csv           the dialect by role: method, path, purpose, who may call it.
"""

import csv
import re
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
Json = dict[str, Any]
Operation = tuple[str, str]
"""(METHOD, path), the names of path parameters left out: they may differ."""

LATER: frozenset[Operation] = frozenset()
"""Documented operations that are not served yet. The list only ever gets shorter."""


def shape(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "{}", path.rstrip("/"))


def resource_dialect() -> Json:
    loaded: Json = yaml.safe_load((HERE / "jobs-api.openapi.yaml").read_text())
    return loaded


def role_dialect() -> list[dict[str, str]]:
    with (HERE / "role-api.csv").open(newline="") as rows:
        return list(csv.DictReader(rows))


def operations(document: Json) -> dict[Operation, Json]:
    return {
        (method.upper(), shape(path)): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def resolve(document: Json, node: Json) -> Json:
    while "$ref" in node:
        target: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def body_schema(document: Json, holder: Json) -> Json | None:
    """The JSON schema of a request body or a response; None where it has none."""
    content = resolve(document, holder).get("content", {})
    schema: Json | None = content.get("application/json", {}).get("schema")
    return schema


def properties(document: Json, node: Json) -> dict[str, set[str]]:
    """Names of a schema's properties with their JSON types, through references, unions and arrays."""
    node = resolve(document, node)
    found: dict[str, set[str]] = {}
    for name, schema in node.get("properties", {}).items():
        found.setdefault(name, set()).update(types(document, schema))
    parts = [part for key in ("anyOf", "oneOf", "allOf") for part in node.get(key, [])]
    for part in parts + ([node["items"]] if "items" in node else []):
        for name, kinds in properties(document, part).items():
            found.setdefault(name, set()).update(kinds)
    return found


def types(document: Json, node: Json) -> set[str]:
    """JSON types that a schema admits; {"any"} where it does not say."""
    node = resolve(document, node)
    parts = [part for key in ("anyOf", "oneOf", "allOf") for part in node.get(key, [])]
    named = node.get("type", [])
    found = {named} if isinstance(named, str) else set(named)
    for part in parts:
        found |= types(document, part)
    return found or {"any"}
