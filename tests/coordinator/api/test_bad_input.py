"""What is wrong with a request is said in the one error body, and is never a 500."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from aitbc.coordinator.api.schemas.jobs import Submission
from tests.coordinator.api.conftest import sqlite_only
from tests.coordinator.api.support import Market, expect_error, held_to

MALFORMED = {
    "empty": b"",
    "not json": b"prompt=hello",
    "half": b'{"prompt": "x"',
    "trailing": b'{"prompt": "x"} {}',
    "single quotes": b"{'prompt': 'x'}",
    "nan": b'{"prompt": "x", "params": {"temperature": NaN}}',
    "infinity": b'{"prompt": "x", "params": {"temperature": -Infinity}}',
    "deep array": b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep object": b'{"a":' * 65 + b"1" + b"}" * 65,
    "unclosed depth": b"[" * 200_000,
    "bad utf-8": b'{"prompt": "\xff\xfe"}',
    "overlong utf-8": b'{"prompt": "\xc0\xaf"}',
    "lone surrogate": b'{"prompt": "\\ud800"}',
    "surrogate in a key": b'{"prompt": "x", "\\udfff": 1}',
    "raw control": b'{"prompt": "a\x00b"}',
    "nul": b'{"prompt": "a\\u0000b"}',
    "nul in a key": b'{"prompt": "x", "params": {"a\\u0000": 1}}',
    "byte order mark": b'\xef\xbb\xbf{"prompt": "x"}',
    "twice the same key": b'{"prompt": "x", "prompt": "y"}',
    "utf-16": '{"prompt": "x"}'.encode("utf-16"),
    "a huge integer": b'{"prompt": "x", "ttl_s": ' + b"9" * 5000 + b"}",
    "an array": b"[]",
    "a string": b'"prompt"',
    "null": b"null",
}


ONLY_ITS_TEXT = (
    "bad utf-8", "overlong utf-8", "lone surrogate", "surrogate in a key", "raw control", "nul", "nul in a key"
)  # fmt: skip
"""JSON but for a character: from a miner it is mended (tests/coordinator/api/test_reports.py), for a refused report
would leave its job where it is."""


def test_malformed_bodies(api: Market) -> None:
    client, miner = api.key("client"), api.key("miner")
    routes = [
        ("/v1/jobs", client),
        ("/v1/client/jobs", client),
        ("/v1/jobs/batch", client),
        ("/v1/jobs/quote", client),
        ("/v1/miners/register", miner),
        ("/v1/miner/heartbeat", miner),
        ("/v1/jobs/x/claim", miner),
        ("/v1/jobs/x/complete", miner),
        ("/v1/miner/results", miner),
        ("/v1/miner/fail", miner),
    ]
    for name, body in MALFORMED.items():
        for path, headers in routes:
            if name in ONLY_ITS_TEXT and headers is miner and not path.endswith("/claim"):
                continue
            answer = api.post(path, headers, content=body)
            assert answer.status_code == 400, (name, path, answer.text)
            expect_error(answer, 400, "INVALID_REQUEST")
    assert api.get("/v1/jobs", client).json() == []


def at(name: str, value: Any) -> dict[str, Any]:
    """A good submission with one field changed, named by its path."""
    body: dict[str, Any] = {"prompt": "x", "params": {}, "constraints": {}}
    *way, last = name.split(".")
    target = body
    for step in way:
        target = target[step]
    target[last] = value
    return body


WRONG_FIELDS: list[tuple[str, Any]] = [
    ("prompt", 1),
    ("prompt", ""),
    ("prompt", ["x"]),
    ("prompt", None),
    ("model", 7),
    ("model", "a b"),
    ("model", "x" * 129),
    ("params", "hot"),
    ("params", []),
    ("params.max_tokens", "256"),
    ("params.max_tokens", 0),
    ("params.max_tokens", 1.5),
    ("params.max_tokens", True),
    ("params.max_tokens", 10**30),
    ("params.temperature", "warm"),
    ("params.temperature", -0.1),
    ("params.temperature", 1e300),
    ("params.top_p", 0),
    ("params.seed", -1),
    ("params.stop", [1]),
    ("constraints", 3),
    ("constraints.max_price", -1),
    ("constraints.max_price", "1"),
    ("constraints.max_price", 0.000000001),
    ("constraints.max_price", 1e300),
    ("constraints.min_memory_gb", -1),
    ("constraints.min_memory_gb", "24GB"),
    ("constraints.min_memory_gb", 10**400),
    ("constraints.region", "not a region"),
    ("constraints.miner_id", "../etc"),
    ("priority", 10),
    ("priority", -1),
    ("priority", True),
    ("priority", 1.5),
    ("ttl_s", 0),
    ("ttl_s", 604_801),
    ("ttl_s", "60"),
    ("payment", "later"),
]


@sqlite_only
def test_wrong_fields_are_named(api: Market) -> None:
    client = api.key("client")
    for name, value in WRONG_FIELDS:
        answer = api.post("/v1/jobs", client, json=at(name, value))
        assert answer.status_code == 400, (name, value, answer.text)
        details = expect_error(answer, 400, "INVALID_REQUEST")["error"]["details"]
        fields = [fault["field"] for fault in details["fields"]]
        assert any(field.startswith(name) for field in fields), (name, value, details)


@sqlite_only
def test_money_is_read_as_decimals(api: Market) -> None:
    client = api.key("client")
    for text, held in (("0.1", 0.1), ("1e-8", 1e-08), ("0.30000000", 0.3), ("0.12345678", 0.12345678)):
        body = b'{"prompt": "x", "constraints": {"max_price": ' + text.encode() + b"}}"
        job = api.post("/v1/jobs", client, content=body).json()
        assert job["constraints"]["max_price"] == held
    for text in ("0.123456789", "0.10000000000000000001", "-0.1", "1e400", "1e-400", "90071992547409.93"):
        body = b'{"prompt": "x", "constraints": {"max_price": ' + text.encode() + b"}}"
        expect_error(api.post("/v1/jobs", client, content=body), 400, "INVALID_REQUEST")


@sqlite_only
def test_unknown_fields_are_ignored(api: Market) -> None:
    client, miner = api.key("client"), api.key("miner")
    odd = {"prompt": "x", "colour": "blue", "params": {"top_k": 3}, "constraints": {"moon": True}}
    job = api.post("/v1/jobs", client, json=odd)
    assert job.status_code == 201
    assert "colour" not in job.json()
    assert api.get("/v1/jobs?colour=blue&limit=5", client).status_code == 200
    api.miner(miner, horns=2)


@sqlite_only
def test_unknown_job_types(api: Market) -> None:
    client = api.key("client")
    for job_type in ("render", "", 7, None, "llm_inference\n"):
        body = {"job_type": job_type, "parameters": {"prompt": "x"}}
        expect_error(api.post("/v1/client/jobs", client, json=body), 400, "INVALID_JOB_TYPE")
    miner = api.key("miner")
    wrong = {"miner_id": "m", "capabilities": {"job_types": ["render"]}}
    expect_error(api.post("/v1/miners/register", miner, json=wrong), 400, "INVALID_JOB_TYPE")


@pytest.mark.parametrize(
    "wrong",
    [
        {"miner_id": "a/b"},
        {"miner_id": "x" * 65},
        {"miner_id": ""},
        {"capabilities": "llama"},
        {"capabilities": [1]},
        {"capabilities": ["a model"]},
        {"capabilities": ["m"] * 300},
        {"capabilities": {"models": [{"name": "x", "price_per_1k": -1}]}},
        {"capabilities": {"gpus": [{"name": "x", "memory_gb": "lots"}]}},
        {"gpu_info": {"name": "x", "memory": "lots"}},
        {"gpu_info": {"memory": "99999999TB"}},
        {"concurrency": 0},
        {"concurrency": 5000},
        {"public_key": "AAAA"},
        {"public_key": "not base64!"},
        {"prices": {"unlisted": 1}},
        {"region": "x" * 65},
    ],
)
@sqlite_only
def test_wrong_registrations(api: Market, wrong: dict[str, Any]) -> None:
    body = {"miner_id": "m1", "capabilities": ["llama3.2"], **wrong}
    expect_error(api.post("/v1/miners/register", api.key("miner"), json=body), 400, "INVALID_REQUEST")


@sqlite_only
def test_wrong_queries_and_paths(api: Market) -> None:
    client, miner = api.key("client"), api.key("miner")
    api.miner(miner)
    for query in (
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=1e3",
        "offset=-1",
        "offset=99999999999999999999",
        "status=done",
        "status=%00",
        "&".join(f"a{i}=1" for i in range(100)),
        "x=" + "y" * 9000,
    ):
        answer = api.get(f"/v1/jobs?{query}", client)
        assert answer.status_code == 400, query
        expect_error(answer, 400, "INVALID_REQUEST")
    for query in ("wait=nan", "wait=-1", "max=0", "max=1001", "miner_id=a%20b"):
        expect_error(api.get(f"/v1/miner/jobs?{query}", miner), 400, "INVALID_REQUEST")
    expect_error(api.get("/v1/jobs/available", miner), 400, "INVALID_REQUEST")
    expect_error(api.get("/v1/jobs/" + "x" * 200, client), 400, "INVALID_REQUEST")
    expect_error(api.get("/v1/jobs/a%00b", client), 400, "INVALID_REQUEST")
    for path in (
        "/",
        "/v1",
        "/v1/jobs/",
        "/v1/jobs//events",
        "/v2/jobs",
        "/v1/jobs/%2e%2e/x",
        "/api/api/health",
    ):
        expect_error(api.get(path, client), 404, "NOT_FOUND")
    for job_id in ("x", "ünï", "' OR 1=1 --", "%F0%9F%92%A9", "%FF"):
        expect_error(api.get(f"/v1/jobs/{job_id}", client), 404, "JOB_NOT_FOUND")
    expect_error(api.get("/v1/receipts/x"), 404, "RECEIPT_NOT_FOUND")


@sqlite_only
def test_wrong_methods(api: Market) -> None:
    for method, path, allow in (
        ("PUT", "/v1/jobs", "GET, HEAD, POST"),
        ("DELETE", "/v1/jobs/x", "GET, HEAD"),
        ("GET", "/v1/jobs/x/cancel", "POST"),
        ("POST", "/health", "GET, HEAD"),
        ("BREW", "/v1/keys", "GET, HEAD"),
    ):
        answer = api.call(method, path)
        expect_error(answer, 405, "METHOD_NOT_ALLOWED")
        assert answer.headers["allow"] == allow


@sqlite_only
def test_bodies_have_a_limit(start_api: Callable[..., Market]) -> None:
    api = start_api(max_body_bytes=2000)
    client = api.key("client")
    fits = json.dumps({"prompt": "x" * 1900}).encode()
    assert api.post("/v1/jobs", client, content=fits).status_code == 201
    large = json.dumps({"prompt": "x" * 2000}).encode()
    error = expect_error(api.post("/v1/jobs", client, content=large), 413, "BODY_TOO_LARGE")
    assert error["error"]["details"] == {"max_body_bytes": 2000}
    batch = json.dumps({"jobs": [{"prompt": "x" * 1900}] * 10}).encode()
    assert api.post("/v1/jobs/batch", client, content=batch).status_code == 200
    too_many = json.dumps({"jobs": [{"prompt": "x" * 1900}] * 20}).encode()
    expect_error(api.post("/v1/jobs/batch", client, content=too_many), 413, "BODY_TOO_LARGE")
    expect_error(api.post("/nowhere", client, content=large), 413, "BODY_TOO_LARGE")
    over = json.dumps({"jobs": [{"prompt": "x"}] * 1001}).encode()
    expect_error(api.post("/v1/jobs/batch", client, content=over), 400, "INVALID_REQUEST")


@sqlite_only
def test_streamed_bodies_are_counted_while_they_come(start_api: Callable[..., Market]) -> None:
    api = start_api(max_body_bytes=2000)
    client = api.key("client")
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 100
            yield b" " * 100
            await asyncio.sleep(0)

    expect_error(api.post("/v1/jobs", client, content=chunks()), 413, "BODY_TOO_LARGE")
    assert sent < 5000


@sqlite_only
def test_what_breaks_inside_is_a_500_that_tells_nothing(api: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    client = api.key("client")

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("secret-of-the-house")

    monkeypatch.setattr("aitbc.coordinator.api.acts.jobs.job_lifecycle.submit", broken)
    answer = api.post("/v1/jobs", client, json={"prompt": "x"})
    expect_error(answer, 500, "INTERNAL_ERROR")
    assert "secret" not in answer.text
    monkeypatch.undo()
    assert api.post("/v1/jobs", client, json={"prompt": "x"}).status_code == 201


@sqlite_only
def test_any_content_type_is_read_as_json(api: Market) -> None:
    client = api.key("client")
    for content_type in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-8",
    ):
        headers = {**client, "Content-Type": content_type}
        assert api.post("/v1/jobs", headers, content=b'{"prompt": "x"}').status_code == 201


def test_every_error_body_is_the_documented_one(api: Market) -> None:
    from aitbc.coordinator.api.schemas.replies import Error

    answers: list[httpx.Response] = [
        api.get("/nowhere"),
        api.call("PATCH", "/v1/jobs"),
        api.get("/v1/jobs"),
        api.get("/v1/jobs", api.key("miner")),
        api.post("/v1/jobs", api.key("client"), json={}),
        api.post("/v1/jobs", api.key("client", grant_units=0), json={"prompt": "x"}),
    ]
    assert [answer.status_code for answer in answers] == [404, 405, 401, 403, 400, 402]
    for answer in answers:
        held_to(Error, answer.json())


def test_what_the_dialects_share_is_no_submission_by_itself() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Submission.model_validate({})
