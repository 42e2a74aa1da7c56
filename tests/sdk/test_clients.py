"""Both clients against a fake: what they send, how they retry, what they return and raise."""

from __future__ import annotations

import inspect
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from aitbc import sdk
from aitbc.sdk import AsyncClient, Client, operations
from tests.sdk.fake_coordinator import JOB_ID, Caller, FakeCoordinator, error_reply, job_json


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def created(**changes: Any) -> httpx.Response:
    return httpx.Response(201, json=job_json(**changes))


def ok(data: Any, **headers: str) -> httpx.Response:
    return httpx.Response(
        200, json=data, headers={name.replace("_", "-"): text for name, text in headers.items()}
    )


def test_submit_sends_what_was_asked_and_reads_money_exactly(kind: str) -> None:
    fake = FakeCoordinator([created()])
    job = Caller(kind, fake).submit(
        "hello",
        model="m",
        max_tokens=8,
        temperature=0.1,
        seed=1,
        stop="x",
        max_price="0.1",
        region="eu",
        ttl_s=60,
    )
    request = fake.requests[0]
    assert (request.method, request.url.path) == ("POST", "/v1/jobs")
    assert fake.body() == {
        "prompt": "hello",
        "model": "m",
        "params": {"max_tokens": 8, "temperature": 0.1, "seed": 1, "stop": ["x"]},
        "constraints": {"region": "eu", "max_price": 0.1},
        "ttl_s": 60,
    }
    assert request.headers["x-api-key"] == "k"
    assert request.headers["idempotency-key"]
    assert job.price_held == Decimal("0.00012345")
    assert job.account == "alice"
    assert job.created_at.isoformat() == "2026-01-02T03:04:05.678000+00:00"
    assert not job.done
    json.dumps(job.parameters)  # no Decimals where there is no money


def test_chat_and_embeddings_use_their_own_forms(kind: str) -> None:
    vectors = {"embeddings": [[0.5, -1.0], [0.25, 2.0]]}
    fake = FakeCoordinator([created(), created(job_type="embedding", output=vectors, status="completed")])
    caller = Caller(kind, fake)
    caller.submit_chat([{"role": "user", "content": "hi"}])
    assert fake.body() == {"messages": [{"role": "user", "content": "hi"}]}
    job = caller.embed(["a", "b"], model="e")
    assert fake.requests[1].url.path == "/v1/client/jobs"
    assert fake.body() == {"job_type": "embedding", "parameters": {"input": ["a", "b"], "model": "e"}}
    assert job.embeddings == [[0.5, -1.0], [0.25, 2.0]]
    assert all(type(x) is float or type(x) is int for x in job.embeddings[0])


@pytest.mark.parametrize(
    "first",
    [
        httpx.ConnectError("refused"),
        httpx.ReadError("broke off"),
        httpx.ReadTimeout("slow"),
        error_reply(502, "X"),
        httpx.Response(503, text="<html>proxy</html>"),
        error_reply(504, "X"),
        error_reply(429, "RATE_LIMITED", headers={"retry-after": "3"}),
    ],
    ids=str,
)
def test_a_failed_try_is_repeated_under_the_same_idempotency_key(kind: str, first: Any) -> None:
    fake = FakeCoordinator([first, first, created()])
    caller = Caller(kind, fake)
    assert caller.submit("hello").job_id == JOB_ID
    keys = {request.headers["idempotency-key"] for request in fake.requests}
    assert len(fake.requests) == 3
    assert len(keys) == 1
    assert len(caller.slept) == 2
    if "retry-after" in getattr(first, "headers", {}):
        assert caller.slept == [3.0, 3.0]


def test_two_calls_have_two_keys_and_a_given_key_is_used(kind: str) -> None:
    fake = FakeCoordinator([created(), created(), created()])
    caller = Caller(kind, fake)
    caller.submit("a")
    caller.submit("a")
    caller.submit("a", idempotency_key="mine")
    keys = [request.headers["idempotency-key"] for request in fake.requests]
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


def test_tries_are_bounded_and_the_last_error_is_raised(kind: str) -> None:
    caller = Caller(kind, FakeCoordinator([httpx.ConnectError("refused")] * 4))
    with pytest.raises(sdk.CoordinatorUnreachable) as unreachable:
        caller.job("x")
    assert unreachable.value.code == "UNREACHABLE"
    assert "http://coordinator.test" in str(unreachable.value)
    assert len(caller.slept) == 3
    with pytest.raises(sdk.ServerError) as server:
        Caller(kind, FakeCoordinator([error_reply(503, "STORAGE_UNAVAILABLE")] * 4)).job("x")
    assert server.value.code == "STORAGE_UNAVAILABLE"


def test_a_long_retry_after_is_raised_at_once(kind: str) -> None:
    fake = FakeCoordinator([error_reply(429, "RATE_LIMITED", headers={"retry-after": "3600"})])
    with pytest.raises(sdk.RateLimited) as limited:
        Caller(kind, fake).job("x")
    assert limited.value.retry_after_s == 3600


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "INVALID_REQUEST", sdk.InvalidRequest),
        (401, "UNAUTHORIZED", sdk.AuthenticationError),
        (402, "INSUFFICIENT_FUNDS", sdk.PaymentRequired),
        (403, "FORBIDDEN", sdk.PermissionDenied),
        (404, "JOB_NOT_FOUND", sdk.NotFound),
        (409, "LEASE_LOST", sdk.Conflict),
        (413, "BODY_TOO_LARGE", sdk.InvalidRequest),
        (500, "INTERNAL_ERROR", sdk.ServerError),
    ],
)
def test_errors_are_typed_and_not_retried(
    kind: str, status: int, code: str, error: type[sdk.ApiError]
) -> None:
    fake = FakeCoordinator([error_reply(status, code, "the message")])
    with pytest.raises(error) as caught:
        Caller(kind, fake).job("x")
    assert (caught.value.code, caught.value.message, caught.value.status) == (code, "the message", status)
    assert caught.value.details == {"why": "test"}
    assert caught.value.request_id == "req-1"
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(404, json={"detail": "Not Found"}),
        httpx.Response(200, json=[1]),
        httpx.Response(200, json={}),
        httpx.Response(200, json=job_json(created_at="soon")),
        httpx.Response(200, json=job_json(price="1")),
        httpx.Response(302, headers={"location": "http://elsewhere.test"}),
    ],
    ids=str,
)
def test_something_else_than_a_coordinator_is_named_as_such(kind: str, reply: httpx.Response) -> None:
    with pytest.raises(sdk.UnexpectedAnswer):
        Caller(kind, FakeCoordinator([reply])).job("x")


def test_run_waits_through_queue_and_work_and_tells_of_it(kind: str) -> None:
    moved = httpx.Response(202, json=job_json(queue_position=0))
    fake = FakeCoordinator(
        [
            created(),
            httpx.Response(202, json=job_json()),
            moved,
            httpx.Response(202, json=job_json("running")),
            httpx.Response(202, json=job_json("running")),
            ok(job_json("completed")),
        ]
    )
    seen: list[tuple[str, str | None]] = []
    caller = Caller(kind, fake)
    job = caller.run("hello", on_progress=lambda job: seen.append((job.status, job.miner_id)))
    assert job.text == "hi"
    assert job.price == Decimal("0.1")
    assert seen == [
        ("pending", None),
        ("pending", None),
        ("running", "miner-1"),
        ("completed", "miner-1"),
    ]
    assert all(float(request.url.params["wait"]) > 0 for request in fake.requests[1:])
    # This fake never holds an answer back; a client that took that for a long poll would spin.
    assert len(caller.slept) == 4


def test_wait_survives_a_restart_of_the_coordinator(kind: str) -> None:
    down = [httpx.ConnectError("refused")] * 8
    fake = FakeCoordinator([*down, error_reply(503, "SHUTTING_DOWN"), ok(job_json("completed"))])
    assert Caller(kind, fake).wait(JOB_ID).status == "completed"


def test_wait_ends_where_told_and_hands_over_the_job(kind: str) -> None:
    def running(request: httpx.Request) -> httpx.Response:
        return httpx.Response(202, json=job_json("running"))

    with pytest.raises(sdk.WaitTimeout) as late:
        Caller(kind, running).wait(JOB_ID, timeout_s=0.05)
    assert late.value.job.miner_id == "miner-1"


def test_a_failed_job_raises_its_cause(kind: str) -> None:
    end = job_json("failed", cause="EXPIRED", error="nobody took it", actor="system")
    caller = Caller(kind, FakeCoordinator([ok(end), ok(end)]))
    with pytest.raises(sdk.JobFailed) as failed:
        caller.wait(JOB_ID)
    assert (failed.value.code, failed.value.message) == ("EXPIRED", "nobody took it")
    assert caller.wait(JOB_ID, check=False).cause == "EXPIRED"


def test_cancelling_a_cancelled_job_is_done_already(kind: str) -> None:
    refused = error_reply(409, "JOB_NOT_CANCELLABLE")
    assert (
        Caller(kind, FakeCoordinator([refused, ok(job_json("cancelled"))])).cancel("x").status == "cancelled"
    )
    with pytest.raises(sdk.Conflict):
        Caller(kind, FakeCoordinator([refused, ok(job_json("completed"))])).cancel("x")


def test_batch_reports_each_item_by_itself(kind: str) -> None:
    items = [
        {"ok": True, "job": {"job_id": "a", "status": "pending", "price_held": 1}},
        {"ok": False, "error": {"code": "INSUFFICIENT_FUNDS", "message": "broke", "details": {}}},
    ]
    fake = FakeCoordinator([ok({"items": items})])
    first, second = Caller(kind, fake).batch(["one", sdk.embedding_job("two", model="e")])
    assert fake.body()["jobs"][1]["job_type"] == "embedding"
    assert (first.ok, first.job_id, first.price_held) == (True, "a", Decimal(1))
    assert (second.ok, second.error.code) == (False, "INSUFFICIENT_FUNDS")


def test_lists_come_as_pages(kind: str) -> None:
    fake = FakeCoordinator([ok([job_json()], x_total_count="7"), ok([], x_next_cursor="c2")])
    caller = Caller(kind, fake)
    page = caller.jobs(status="pending", limit=1)
    assert (len(page), page.total, page[0].status) == (1, 7, "pending")
    assert dict(fake.requests[0].url.params) == {"status": "pending", "limit": "1", "offset": "0"}
    assert caller.receipts(client="alice", cursor="c1").next_cursor == "c2"
    assert dict(fake.requests[1].url.params) == {"client": "alice", "limit": "20", "cursor": "c1"}


def test_the_other_reads(kind: str) -> None:
    event = {
        "seq": 1,
        "at": "2026-01-02T03:04:05Z",
        "type": "created",
        "actor": "client",
        "status": "pending",
    }
    explanation = {
        "status": "pending",
        "eligible_miners": 0,
        "registered_miners": 2,
        "reasons": {"MODEL_NOT_SERVED": 2},
        "nearest_change": {"change": {"model": "b"}, "text": "use model b"},
        "queue_position": None,
        "summary": "no miner serves it",
    }
    quote = {
        "eligible_miners": 1,
        "price_per_1k": {"min": 0.02, "max": 0.03, "median": 0.025},
        "max_units": 300,
        "worst_case_price": 0.009,
        "typical_price": None,
        "expected_wait_s": 0.5,
        "reasons": {},
    }
    key = {"key_id": "abc", "role": "client", "limit": 5, "spent": 0.5}
    account = {"account": "alice", "balance": 1000, "held": 0.5, "available": 999.5, "key": key}
    miner = {
        "miner_id": "m",
        "status": "active",
        "job_types": ["embedding"],
        "models": [{"name": "e", "price_per_1k": 0.01, "engine": None}],
        "gpus": [{"name": "H200", "memory_gb": 139.5}],
        "region": None,
        "concurrency": 2,
        "running": 1,
        "last_heartbeat": None,
    }
    health = {"status": "ok", "version": "1"}
    fake = FakeCoordinator(
        [
            ok([event]),
            ok(explanation),
            ok(quote),
            ok(account),
            ok([miner]),
            ok(health, date="Fri, 02 Jan 2026 03:04:05 GMT"),
        ]
    )
    caller = Caller(kind, fake)
    assert caller.events("x")[0].type == "created"
    assert caller.explain("x").nearest_change == "use model b"
    assert caller.quote("hello").price_per_1k.median == Decimal("0.025")
    assert caller.balance().available == Decimal("999.5")
    assert caller.miners()[0].models[0].price_per_1k == Decimal("0.01")
    assert caller.health().time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("bad", ["../keys", "a/b", "a?b=c", "a#b", "%2e%2e", "ü"])
def test_an_id_cannot_reach_another_path(kind: str, bad: str) -> None:
    fake = FakeCoordinator([error_reply(404, "JOB_NOT_FOUND")])
    with pytest.raises(sdk.NotFound):
        Caller(kind, fake).job(bad)
    raw = fake.requests[0].url.raw_path.decode()
    assert raw.startswith("/v1/jobs/")
    assert raw.count("/") == 3
    assert "?" not in raw
    for empty in ("", ".", ".."):
        with pytest.raises(ValueError):
            Caller(kind, fake).job(empty)


def test_bad_arguments_fail_before_anything_is_sent(kind: str) -> None:
    caller = Caller(kind, FakeCoordinator([]))
    with pytest.raises(TypeError, match="unknown job option: temprature"):
        caller.submit("x", temprature=1)
    with pytest.raises(ValueError):
        caller.submit("x", max_price="0.123456789")
    with pytest.raises(ValueError):
        caller.submit("x", temperature=float("nan"))


@pytest.mark.parametrize("url", ["ftp://x", "example.org", "http://", "http://user:pw@host", "http://h/?a=b"])
def test_bad_addresses_are_refused(url: str) -> None:
    with pytest.raises(ValueError):
        Client(url)


@pytest.mark.parametrize("key", ["sch\u00f6n", "two words", "line\nbreak"])
def test_bad_keys_are_refused(key: str) -> None:
    with pytest.raises(ValueError):
        Client("http://localhost", key)


def test_a_base_path_is_kept_and_the_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AITBC_URL", "http://coordinator.test/api/")
    monkeypatch.setenv("AITBC_API_KEY", "from-env")
    fake = FakeCoordinator([ok([])])
    with Client(transport=httpx.MockTransport(fake)) as client:
        client.miners()
    assert str(fake.requests[0].url) == "http://coordinator.test/api/v1/miners"
    assert fake.requests[0].headers["x-api-key"] == "from-env"


def test_the_two_clients_offer_the_same_operations() -> None:
    def methods(owner: type) -> dict[str, inspect.Signature]:
        return {
            name: inspect.signature(member)
            for name, member in vars(owner).items()
            if not name.startswith("_") and name not in {"close", "aclose", "url"}
        }

    assert methods(Client) == methods(AsyncClient)
    assert {"submit", "submit_chat", "embed", "run", "batch", "cancel"} <= methods(Client).keys()
    assert inspect.signature(Client("http://h").job).parameters.keys() == {"job_id"}
    assert Client.job.__doc__ == operations.job.__doc__
