"""Health, metrics, the OpenAPI document and its pages, which need no internet."""

import re
from typing import Any

import pytest

from aitbc import __version__
from aitbc.coordinator.api.schemas import replies
from aitbc.coordinator.errors import StorageUnavailable
from aitbc.core.clock import ManualClock
from tests.coordinator.api.conftest import sqlite_only
from tests.coordinator.api.support import Market, expect_error, held_to

METRIC = re.compile(r"^([a-z_]+)(\{.*\})? ([0-9.e+-]+|NaN)$")


def samples(api: Market) -> dict[str, float]:
    """Every sample of /metrics, by name and labels."""
    answer = api.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    found = {}
    for line in answer.text.splitlines():
        if not line.startswith("#"):
            match = METRIC.match(line)
            assert match is not None, line
            found[match[1] + (match[2] or "")] = float(match[3])
    return found


def test_health(api: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    health = held_to(replies.Health, api.get("/health").json())
    assert (health["version"], health["chain_id"]) == (__version__, "ait-devnet")
    assert health["database"] in ("sqlite", "postgresql")
    assert health["sealing_stopped"] is None
    api.runtime.sealing_stopped = "Witness w1 knows more."
    assert api.get("/health").json()["sealing_stopped"] == "Witness w1 knows more."

    async def down(*_: Any) -> None:
        raise StorageUnavailable()

    monkeypatch.setattr(api.runtime.db, "glance", down)
    answer = api.get("/health")
    expect_error(answer, 503, "STORAGE_UNAVAILABLE")
    assert answer.headers["retry-after"] == "1"


def test_metrics_have_the_documented_names(api: Market, clock: ManualClock) -> None:
    client, miner = api.key("client"), api.key("miner")
    before = samples(api)
    api.miner(miner)
    ids = [api.job(client) for _ in range(3)]
    api.claim(miner, ids[0])
    api.claim(miner, ids[1])
    api.complete(miner, ids[1])
    clock.advance(7)
    api.get(f"/v1/jobs/{ids[0]}", client)
    now = samples(api)
    assert now["active_jobs"] == 2
    assert now["registered_miners"] == 1
    assert now["aitbc_active_miners"] == 1
    assert now["aitbc_running_jobs"] == 1
    assert now["aitbc_queue_depth"] == 1
    assert now["aitbc_queue_age_seconds"] == 7
    gets = 'api_requests_total{method="GET",path="/v1/jobs/{job_id}",status="200"}'
    assert now[gets] - before.get(gets, 0) == 1
    posts = 'api_request_duration_seconds_count{method="POST",path="/v1/jobs"}'
    assert now[posts] - before.get(posts, 0) == 3
    assert now["aitbc_dispatch_latency_seconds_count"] - before["aitbc_dispatch_latency_seconds_count"] == 2
    for name in ("aitbc_writer_batch_size_count", "aitbc_waiting_polls"):
        assert name in now
    assert "aitbc_lease_expiries_total" in api.get("/metrics").text


@sqlite_only
def test_metrics_never_carry_raw_paths(api: Market) -> None:
    client = api.key("client")
    for path in ("/secret-path-123", "/v1/jobs/secret-job-123", "/v1/receipts/secret-receipt"):
        api.get(path, client)
    api.call("SECRETVERB", "/v1/jobs")
    text = api.get("/metrics").text
    assert "secret" not in text.lower()


@sqlite_only
def test_the_document_says_what_the_program_does(api: Market) -> None:
    document = api.get("/openapi.json").json()
    assert document == api.get("/api/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert not {"HTTPValidationError", "ValidationError"} & schemas.keys()
    assert {"ApiKey", "Bearer"} <= document["components"]["securitySchemes"].keys()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            replies_of = operation["responses"]
            assert "422" not in replies_of, where
            assert operation["summary"], where
            if "security" in operation:
                assert {"401", "403", "429"} <= replies_of.keys(), where
            if "requestBody" in operation:
                assert {"400", "413"} <= replies_of.keys(), where
            for status, reply in replies_of.items():
                if int(status) >= 400:
                    schema = reply["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/Error"}, f"{where} {status}"
    created = document["paths"]["/v1/jobs"]["post"]
    assert {"201", "400", "401", "402", "403", "409", "413", "429"} <= created["responses"].keys()
    assert "Idempotency-Key" in {parameter["name"] for parameter in created["parameters"]}


@sqlite_only
@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_pages_load_nothing_from_elsewhere(api: Market, page: str) -> None:
    for prefix in ("", "/api"):
        answer = api.get(prefix + page)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")
        policy = answer.headers["content-security-policy"]
        assert "http" not in policy
        assert "default-src 'none'" in policy
        links = re.findall(r'(?:src|href|url|spec-url)[=:]\s*"([^"]+)"', answer.text)
        assert links
        for link in links:
            assert "//" not in link
            assert not link.startswith("/")
            found = api.get(f"{prefix}/{link}")
            assert found.status_code == 200, link
            assert len(found.content) > 500
    expect_error(api.get("/docs/assets/unknown.js"), 404, "NOT_FOUND")
    expect_error(api.get("/docs/assets/..%2fdocs.py"), 404, "NOT_FOUND")


def test_licences_of_the_pages_ship_with_them() -> None:
    from aitbc.coordinator.api.docs import _FOLDERS

    for folder in _FOLDERS.values():
        assert (folder / "LICENSE").is_file()


@sqlite_only
def test_the_prefix_and_the_headers_of_every_answer(api: Market) -> None:
    for path in ("/health", "/api/health", "/nowhere", "/api/v1/jobs"):
        answer = api.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert len(answer.headers.get_list("x-request-id")) == 1
    assert api.get("/apihealth").status_code == 404
    assert "max-age" in api.get("/docs/assets/swagger-ui.css").headers["cache-control"]


@sqlite_only
def test_request_ids(api: Market) -> None:
    assert api.get("/health", {"X-Request-Id": "abc-1.2_3"}).headers["x-request-id"] == "abc-1.2_3"
    made = {api.get("/health").headers["x-request-id"] for _ in range(5)}
    assert len(made) == 5
    for bad in ("", "a b", "x" * 65, "<script>", "é"):
        answer = api.get("/nowhere", {"X-Request-Id": bad})
        assert answer.headers["x-request-id"] != bad
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


@sqlite_only
def test_head_is_get_without_a_body(api: Market) -> None:
    assert api.call("HEAD", "/health").status_code == 200
