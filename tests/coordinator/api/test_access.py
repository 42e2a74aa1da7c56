"""Who may call what: nobody, a bad key, the wrong role, somebody else of the right role, the owner."""

from collections.abc import Callable
from typing import Any

import pytest

from aitbc.coordinator.api_keys.service import revoke_key, rotate_key
from aitbc.core.clock import ManualClock
from tests.coordinator.api.conftest import sqlite_only
from tests.coordinator.api.support import Headers, Market, expect_error
from tests.coordinator.api.test_exchange import OF_EXCHANGE
from tests.coordinator.api.test_governance import OF_GOVERNANCE
from tests.coordinator.api.test_gpus import OF_GPUS
from tests.coordinator.api.test_payments import OF_PAYMENTS
from tests.coordinator.api.test_users import OF_USERS

JOB_BODY = {"prompt": "x"}
ROLE_BODY = {"job_type": "llm_inference", "parameters": {"prompt": "x"}}
MINER = {"miner_id": "m1"}
RESULT = {**MINER, "result": "Hi."}
FAILURE = {**MINER, "cause": "ENGINE_ERROR"}

# (method, path, body, roles that get in, what another account of the right role is told)
PROTECTED: list[tuple[str, str, Any, set[str], str | None]] = [
    ("POST", "/v1/jobs", JOB_BODY, {"client"}, None),
    ("GET", "/v1/jobs", None, {"client", "admin"}, None),
    ("POST", "/v1/jobs/batch", {"jobs": [JOB_BODY]}, {"client"}, None),
    ("POST", "/v1/jobs/quote", JOB_BODY, {"client"}, None),
    ("GET", "/v1/jobs/{job}", None, {"client", "miner", "admin"}, "JOB_NOT_FOUND"),
    ("GET", "/v1/jobs/{job}/result", None, {"client", "admin"}, "JOB_NOT_FOUND"),
    ("GET", "/v1/jobs/{job}/events", None, {"client", "miner", "admin"}, "JOB_NOT_FOUND"),
    ("GET", "/v1/jobs/{job}/explain", None, {"client", "admin"}, "JOB_NOT_FOUND"),
    ("POST", "/v1/client/jobs", ROLE_BODY, {"client"}, None),
    ("GET", "/v1/client/jobs/{job}/status", None, {"client", "admin"}, "JOB_NOT_FOUND"),
    ("GET", "/v1/client/jobs/{job}/receipts", None, {"client", "admin"}, "JOB_NOT_FOUND"),
    ("GET", "/v1/jobs/available?miner_id=m1", None, {"miner"}, "FORBIDDEN"),
    ("POST", "/v1/jobs/{pending}/claim", MINER, {"miner"}, "FORBIDDEN"),
    ("GET", "/v1/miner/jobs?miner_id=m1&max=1&known={job}", None, {"miner"}, "FORBIDDEN"),
    ("POST", "/v1/miner/heartbeat", MINER, {"miner"}, "FORBIDDEN"),
    (
        "POST",
        "/v1/miners/register",
        {**MINER, "capabilities": ["llama3.2"], "concurrency": 8},
        {"miner"},
        "FORBIDDEN",
    ),
    (
        "POST",
        "/v1/miner/register",
        {**MINER, "capabilities": ["llama3.2"], "concurrency": 8},
        {"miner"},
        "FORBIDDEN",
    ),
    (
        "POST",
        "/v1/miner/results",
        {**MINER, "results": [{"job_id": "x", "result": "y"}]},
        {"miner"},
        "FORBIDDEN",
    ),
    ("POST", "/v1/jobs/{job}/complete", RESULT, {"miner"}, "FORBIDDEN"),
    ("POST", "/v1/miner/result", {**RESULT, "job_id": "{job}"}, {"miner"}, "FORBIDDEN"),
    ("POST", "/v1/jobs/{job2}/fail", {**FAILURE, "retryable": False}, {"miner"}, "FORBIDDEN"),
    ("POST", "/v1/miner/fail", {**FAILURE, "job_id": "{job3}", "retryable": False}, {"miner"}, "FORBIDDEN"),
    ("POST", "/v1/jobs/{pending2}/cancel", None, {"client", "admin"}, "JOB_NOT_FOUND"),
    ("GET", "/v1/miner/status?miner_id=m1", None, {"miner"}, "FORBIDDEN"),
    ("POST", "/v1/miner/deregister", MINER, {"miner"}, "FORBIDDEN"),
    ("GET", "/v1/account", None, {"client", "miner", "admin"}, None),
    ("GET", "/v1/statements", None, {"client", "miner", "admin"}, None),
    ("GET", "/v1/jobs/{job}/payment", None, {"client", "miner", "admin"}, "JOB_NOT_FOUND"),
]

PUBLIC = ["/health", "/metrics", "/openapi.json", "/docs", "/redoc", "/v1/miners", "/v1/receipts", "/v1/keys"]


def test_every_endpoint_as_everybody(api: Market) -> None:
    owners = {
        "client": api.key("client", "alice"),
        "miner": api.key("miner", "mill"),
        "admin": api.key("admin"),
    }
    others = {"client": api.key("client", "bob"), "miner": api.key("miner", "mole")}
    api.miner(owners["miner"])
    names = {}
    for name in ("job", "job2", "job3"):
        names[name] = api.job(owners["client"])
        api.claim(owners["miner"], names[name])
    for name in ("pending", "pending2", "pending3"):
        names[name] = api.job(owners["client"])

    def call(method: str, path: str, body: Any, headers: Headers | None) -> Any:
        filled = (
            {k: names.get(v[1:-1], v) if isinstance(v, str) else v for k, v in body.items()} if body else None
        )
        return api.call(method, path.format(**names), headers, json=filled)

    for method, path, body, roles, to_others in PROTECTED:
        where = f"{method} {path}"
        for headers in (None, {"X-Api-Key": ""}, {"X-Api-Key": "wrong"}, {"Authorization": "Bearer x"}):
            answer = call(method, path, body, headers)
            assert answer.status_code == 401, where
            expect_error(answer, 401, "UNAUTHORIZED")
            assert "www-authenticate" in answer.headers
        for role, headers in owners.items():
            if role not in roles:
                answer = call(method, path, body, headers)
                assert answer.status_code == 403, (where, role, answer.text)
                expect_error(answer, 403, "FORBIDDEN")
        for role in roles & others.keys() if to_others else ():
            answer = call(method, path, body, others[role])
            assert answer.json().get("error_code") == to_others, (where, role, answer.text)
            assert answer.status_code in (403, 404)
        for role in sorted(roles, key="admin miner client".index):
            if (role, method) == ("admin", "POST"):
                continue
            answer = call(method, path, body, owners[role])
            assert answer.status_code < 300, (where, role, answer.text)
    expect_error(
        api.post(f"/v1/jobs/{names['pending2']}/cancel", owners["admin"]), 409, "JOB_NOT_CANCELLABLE"
    )
    assert api.post(f"/v1/jobs/{names['pending3']}/cancel", owners["admin"]).json()["actor"] == "admin"


@sqlite_only
def test_the_table_has_every_protected_operation(api: Market) -> None:
    document = api.get("/openapi.json").json()
    listed = {
        (method, path.partition("?")[0])
        for method, path, *_ in [*PROTECTED, *OF_USERS, *OF_PAYMENTS, *OF_GPUS, *OF_EXCHANGE, *OF_GOVERNANCE]
    }
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            shape = path.replace("{job_id}", "{job}")
            named = any(
                m == method.upper()
                and p.replace("{job2}", "{job}").replace("{pending}", "{job}").replace("{pending2}", "{job}")
                == shape
                for m, p in listed
            )
            assert named == ("security" in operation), f"{method} {path}"


@sqlite_only
def test_what_is_public_needs_no_key_and_minds_no_bad_one(api: Market) -> None:
    for path in PUBLIC:
        assert api.get(path).status_code == 200, path
        assert api.get(path, {"X-Api-Key": "wrong"}).status_code == 200, path


@sqlite_only
def test_keys_are_shown_in_either_header(api: Market) -> None:
    key = api.key("client")["X-Api-Key"]
    for headers in (
        {"x-api-key": key},
        {"Authorization": f"Bearer {key}"},
        {"authorization": f"bearer  {key} "},
        {"X-Api-Key": key, "Authorization": "Bearer wrong"},
    ):
        assert api.get("/v1/account", headers).status_code == 200, headers
    for headers in ({"Authorization": key}, {"Authorization": f"Basic {key}"}, {"X-Session-Token": key}):
        expect_error(api.get("/v1/account", headers), 401, "UNAUTHORIZED")


@pytest.mark.parametrize("warm", [True, False])
def test_revoked_rotated_and_expired_keys(api: Market, clock: ManualClock, warm: bool) -> None:
    revoked, rotated = api.key("client"), api.key("client")
    expiring = api.key("client", expires_at_ms=clock.now_ms() + 500)
    every = (revoked, rotated, expiring)
    if warm:
        assert [api.get("/v1/account", headers).status_code for headers in every] == [200] * 3
    key_ids = [headers["X-Api-Key"].split("_")[2] for headers in every]
    api.write(revoke_key, key_ids[0])
    new = api.write(rotate_key, key_ids[1], 0.2)
    expect_error(api.get("/v1/account", revoked), 401, "UNAUTHORIZED")
    assert api.get("/v1/account", {"X-Api-Key": new.key}).json()["key"]["key_id"] == key_ids[1]
    assert api.get("/v1/account", rotated).status_code == 200
    clock.advance(0.5)
    expect_error(api.get("/v1/account", rotated), 401, "UNAUTHORIZED")
    expect_error(api.get("/v1/account", expiring), 401, "UNAUTHORIZED")


def test_a_key_revoked_elsewhere_works_for_a_second_at_most(api: Market, clock: ManualClock) -> None:
    headers = api.key("client")
    assert api.get("/v1/account", headers).status_code == 200
    api.runtime.db.write_sync(revoke_key, headers["X-Api-Key"].split("_")[2])
    clock.advance(1)
    expect_error(api.get("/v1/account", headers), 401, "UNAUTHORIZED")


@sqlite_only
def test_static_keys(start_api: Callable[..., Market]) -> None:
    api = start_api(
        api_keys="first-static-key, miner:second-static-key,admin:third-static-key", devnet_grant="7"
    )
    both, miner, admin = ({"X-Api-Key": f"{one}-static-key"} for one in ("first", "second", "third"))
    account = api.get("/v1/account", both).json()
    assert account["account"].startswith("static-")
    assert account["balance"] == 7
    job_id = api.job(both)
    api.miner(both, "own")
    api.miner(miner)
    expect_error(api.post("/v1/jobs", miner, json=JOB_BODY), 403, "FORBIDDEN")
    expect_error(api.post("/v1/jobs", admin, json=JOB_BODY), 403, "FORBIDDEN")
    assert api.get(f"/v1/jobs/{job_id}", admin).status_code == 200
    expect_error(api.get("/v1/account", {"X-Api-Key": "first-static-key,"}), 401, "UNAUTHORIZED")
    expect_error(api.get("/v1/account", {"X-Api-Key": "miner:second-static-key"}), 401, "UNAUTHORIZED")


@sqlite_only
def test_the_memory_of_keys_is_bounded(api: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aitbc.coordinator.api.plumbing.auth.CACHE_ENTRIES", 3)
    for _ in range(6):
        assert api.get("/v1/account", api.key("client")).status_code == 200
    assert len(api.app.access.keys._known) == 3
