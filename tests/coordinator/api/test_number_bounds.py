"""Every number that a stranger can send, on every route: bounded while it is read, and never a 500.

The places come from the OpenAPI document, so that a new field or route is tried without being listed here; a
new route with a body only needs a body that it accepts.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from tests.coordinator.api.conftest import sqlite_only
from tests.coordinator.api.support import Headers, Market, expect_error

BEYOND = ["1e1000000", "-1e-1000000", "1e99999999999999999999", "9" * 5000, "0." + "0" * 500 + "1"]
ODD = [
    *("1e999", "-1e999", "1e-999", "1e308", "5e-324", "9" * 400, "-" + "9" * 399),
    *("9007199254740993", "18446744073709551616", "9223372036854775807", "1e18", "0.1", "-0.0", "-1", "0"),
]
ODD_TEXTS = [*BEYOND, *ODD, "nan", "inf", "1_0", " 5", "٣", "0x10", "+1", "1e", "%00", ""]

JOB: dict[str, Any] = {"prompt": "x", "params": {}, "constraints": {}}
OFFER: dict[str, Any] = {"miner_id": "m1", "capabilities": ["llama3.2"]}
RESULT = {"miner_id": "m1", "job_id": "{job}", "result": "x", "usage": {}}
BODIES: dict[str, Any] = {
    "/v1/jobs": JOB,
    "/v1/jobs/quote": JOB,
    "/v1/jobs/batch": {"jobs": [JOB]},
    "/v1/client/jobs": {"job_type": "llm_inference", "parameters": {"prompt": "x"}},
    "/v1/miners/register": {**OFFER, "models": [{"name": "a"}], "gpus": [{"name": "g", "memory_gb": 1}]},
    "/v1/miner/register": {**OFFER, "capabilities": {"models": [{"name": "a"}], "prices": {}}},
    "/v1/miner/heartbeat": {"miner_id": "m1", "load": {}},
    "/v1/miner/deregister": {"miner_id": "m2"},
    "/v1/jobs/{job_id}/claim": {"miner_id": "m1"},
    "/v1/jobs/{job_id}/complete": RESULT,
    "/v1/jobs/{job_id}/fail": {"miner_id": "m1", "cause": "ENGINE_ERROR", "lease_id": "x"},
    "/v1/miner/result": RESULT,
    "/v1/miner/results": {"miner_id": "m1", "results": [RESULT]},
    "/v1/miner/fail": {"miner_id": "m1", "job_id": "{job}", "cause": "ENGINE_ERROR", "lease_id": "x"},
    "/v1/payments": {"job_id": "{job}"},
    "/v1/exchange/create-payment": {"amount": 5, "btc_amount": 5},
    "/v1/marketplace/gpu/register": {"model": "RTX 4090", "memory_gb": 24, "price_per_hour": 1},
    "/v1/marketplace/gpu/{gpu_id}/book": {"duration_hours": 1},
    "/v1/marketplace/gpu/{gpu_id}/reviews": {"rating": 5},
    "/v1/payments/{payment_id}/refund": {},
    "/v1/users/challenge": {"wallet_address": "0x" + "1" * 40},
    "/v1/users/login": {"wallet_address": "0x" + "1" * 40, "message": "x", "signature": "x"},
    "/v1/users/me/keys": {},
    "/v1/governance/proposals": {"type": "text", "title": "x"},
    "/v1/governance/vote": {"proposal_id": "x", "choice": "for"},
    "/v1/governance/delegate": {"delegate": None},
    "/rpc/sendTx": {"version": "aitbc/transaction/v1", "chain_id": "ait-devnet", "nonce": 1},
}
MORE_PLACES = {
    # What schemas leave open.
    "/v1/jobs/batch": [f"jobs.0.{name}" for name in ("ttl_s", "priority", "params.seed", "anything")],
    "/v1/miner/results": ["results.0.usage.prompt_tokens", "results.0.usage.completion_tokens"],
    "/v1/jobs/{job_id}/complete": ["signature.sig", "result.text", "result.embeddings.0.0"],
    "/v1/miners/register": ["prices.a", "capabilities.models.0.context_length"],
}


def places(schema: dict[str, Any], defs: dict[str, Any], depth: int = 6) -> Iterator[tuple[str, ...]]:
    """The paths of a body's leaves."""
    if "$ref" in schema:
        schema = defs[schema["$ref"].rsplit("/", 1)[1]]
    if depth == 0:
        return
    for option in (*schema.get("anyOf", ()), *schema.get("allOf", ())):
        yield from places(option, defs, depth)
    for name, inner in schema.get("properties", {}).items():
        for way in places(inner, defs, depth - 1):
            yield (name, *way)
    if isinstance(schema.get("items"), dict):
        for way in places(schema["items"], defs, depth - 1):
            yield ("0", *way)
    if isinstance(schema.get("additionalProperties"), dict):
        for way in places(schema["additionalProperties"], defs, depth - 1):
            yield ("a", *way)
    if not schema.keys() & {"properties", "items", "anyOf", "allOf"}:
        yield ()


def put(body: Any, way: tuple[str, ...], value: Any) -> Any:
    """A copy of the body with `value` at the end of the way."""
    if not way:
        return value
    first, rest = way[0], way[1:]
    if first.isdigit():
        return [put(body[0] if isinstance(body, list) and body else None, rest, value)]
    found = body if isinstance(body, dict) else {}
    return {**found, first: put(found.get(first), rest, value)}


def written(body: Any, way: tuple[str, ...], number: str, job: str) -> bytes:
    text = json.dumps(put(body, way, "@NUMBER@")).replace('"@NUMBER@"', number)
    return text.replace("{job}", job).encode()


class Scene:
    """Somebody for each role, and a job that the miner holds."""

    def __init__(self, api: Market) -> None:
        self.api = api
        self.callers: list[Headers] = [api.key(role) for role in ("client", "miner", "admin")]
        client, miner, _ = self.callers
        api.miner(miner)
        self.job = api.job(client)
        api.claim(miner, self.job)

    def caller(self, path: str) -> Headers:
        of_miner = any(
            word in path
            for word in ("miner", "claim", "complete", "fail", "refund", "available", "gpu/register")
        )
        return self.callers[1] if of_miner else self.callers[0]


def operations(api: Market) -> tuple[list[tuple[str, str, dict[str, Any]]], dict[str, Any]]:
    document = api.get("/openapi.json").json()
    found = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return found, document["components"]["schemas"]


@sqlite_only
def test_numbers_of_bodies(api: Market) -> None:
    found, defs = operations(api)
    scene = Scene(api)
    tried = 0
    for method, path, operation in found:
        if "requestBody" not in operation:
            continue
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        ways = {*places(schema, defs), *(tuple(way.split(".")) for way in MORE_PLACES.get(path, ()))}
        url, headers = path.replace("{job_id}", scene.job), scene.caller(path)
        for way in sorted(ways):
            for number in BEYOND:
                if path.startswith("/v1/users/me"):
                    break  # for sessions only: the schema's reader is the same
                body = written(BODIES[path], way, number, scene.job)
                answer = api.call(method, url, headers, content=body)
                assert answer.status_code == 400, (path, way, number[:30], answer.text)
                error = expect_error(answer, 400, "INVALID_REQUEST")["error"]
                assert error["details"]["fields"][0]["field"] == ".".join(way), (path, way, error)
            for number in ODD:
                body = written(BODIES[path], way, number, scene.job)
                answer = api.call(method, url, headers, content=body)
                off = answer.status_code == 503 and answer.json()["error_code"] == "EXCHANGE_OFF"
                assert answer.status_code < 500 or off, (path, way, number[:30], answer.text)
                tried += 1
    assert tried > 1000


@sqlite_only
def test_numbers_of_queries_and_paths(start_api: Callable[..., Market]) -> None:
    api = start_api(max_wait_s=0)
    found, _ = operations(api)
    scene = Scene(api)
    named = 0
    for method, path, operation in found:
        if method != "get":
            continue
        for parameter in operation.get("parameters", ()):
            name = parameter["name"]
            if parameter["in"] == "header":
                continue
            kinds = json.dumps(parameter.get("schema", {}))
            number = '"integer"' in kinds or '"number"' in kinds
            for text in ODD_TEXTS:
                url, query = path, {}
                if parameter["in"] == "path":
                    url = path.replace(f"{{{name}}}", quote(text, safe="%") or "-")
                else:
                    query = {"miner_id": "m1", name: text}
                url = url.replace("{job_id}", scene.job).replace("{", "").replace("}", "")
                answer = api.call(method, url, scene.caller(path), params=query)
                assert answer.status_code < 500, (path, name, text[:30], answer.text)
                if number and parameter["in"] == "query" and text in BEYOND and text[0] in "19":
                    error = expect_error(answer, 400, "INVALID_REQUEST")["error"]
                    faults = [fault["field"] for fault in error["details"]["fields"]]
                    assert name in faults, (path, name, error)
                    named += 1
    assert named > 30


@sqlite_only
def test_numbers_of_headers(api: Market) -> None:
    scene = Scene(api)
    names = ("Content-Length", "If-None-Match", "Idempotency-Key", "X-Request-Id", "X-Api-Key", "Range")
    for name in (*names, "Authorization", "X-Session-Token", "If-Modified-Since", "X-Forwarded-For"):
        for text in ODD_TEXTS:
            headers = {**scene.callers[0], name: text.encode()}
            for path in ("/v1/account", "/log/checkpoint", "/v1/nowhere"):
                assert api.get(path, headers).status_code < 500, (name, text[:30])
            body = b'{"prompt": "x"}'
            assert api.post("/v1/jobs", headers, content=body).status_code < 500, (name, text[:30])


@sqlite_only
def test_a_batch_names_the_job(api: Market) -> None:
    body = b'{"jobs": [{"prompt": "x"}, {"prompt": "y", "params": {"seed": 1e1000000}}]}'
    answer = expect_error(api.post("/v1/jobs/batch", api.key("client"), content=body), 400, "INVALID_REQUEST")
    fault = answer["error"]["details"]["fields"][0]
    assert fault == {"field": "jobs.1.params.seed", "message": "an exponent has at most 3 digits"}
