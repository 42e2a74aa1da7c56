"""Idempotency-Key: the first answer again, a conflict for another body, no memory of failures."""

from concurrent.futures import Future
from typing import Any

import httpx
from sqlalchemy import text

from aitbc.coordinator.idempotency.service import purge
from aitbc.core.clock import ManualClock
from tests.coordinator.api.support import Headers, Market, expect_error

JOB = {"prompt": "x"}


def with_key(headers: Headers, key: str = "k1") -> Headers:
    return {**headers, "Idempotency-Key": key}


def test_the_first_answer_is_given_again(api: Market, clock: ManualClock) -> None:
    client, miner = api.key("client"), api.key("miner")
    role = {"job_type": "llm_inference", "parameters": JOB}
    registration = {"capabilities": ["llama3.2"]}
    for path, headers, body, status in (
        ("/v1/jobs", client, JOB, 201),
        ("/v1/client/jobs", client, role, 201),
        ("/v1/jobs/batch", client, {"jobs": [JOB, {"prompt": 1}]}, 200),
        ("/v1/miners/register", miner, registration, 201),
        ("/v1/miner/register", miner, registration, 200),
    ):
        first = api.post(path, with_key(headers), json=body)
        assert (first.status_code, "idempotency-replayed" in first.headers) == (status, False)
        clock.advance(5)
        again = api.post("/api" + path, with_key(headers), json=body)
        assert (again.status_code, again.content) == (status, first.content)
        assert again.headers["idempotency-replayed"] == "true"
        assert again.headers["x-request-id"] != first.headers["x-request-id"]
        other = api.post(path, with_key(headers), json={**body, "extra": 1})
        expect_error(other, 409, "IDEMPOTENCY_CONFLICT")
        fresh = api.post(path, with_key(headers, "k2"), json=body)
        assert fresh.content != first.content
    assert len(api.get("/v1/jobs", client).json()) == 6
    assert len(api.get("/v1/miners").json()) == 4


def test_keys_belong_to_their_account(api: Market) -> None:
    alice, bob = api.key("client", "alice"), api.key("client", "bob")
    first = api.post("/v1/jobs", with_key(alice), json=JOB).json()
    second = api.post("/v1/jobs", with_key(bob), json=JOB).json()
    assert first["job_id"] != second["job_id"]
    same_account = api.post("/v1/jobs", with_key(api.key("client", "alice")), json=JOB).json()
    assert same_account["job_id"] == first["job_id"]


def test_failures_are_not_remembered(api: Market) -> None:
    poor = api.key("client", "poor", grant_units=0)
    expect_error(api.post("/v1/jobs", with_key(poor), json=JOB), 402, "INSUFFICIENT_FUNDS")
    expect_error(api.post("/v1/jobs", with_key(poor), json={}), 400, "INVALID_REQUEST")
    free = {**JOB, "constraints": {"max_price": 0}}
    assert api.post("/v1/jobs", with_key(poor), json=free).status_code == 201


def test_bad_keys(api: Market) -> None:
    client = api.key("client")
    for key in ("", " ", "a b", "x" * 256, "é", "\x7f"):
        answer = api.post("/v1/jobs", {**client, "Idempotency-Key": key}, json=JOB)
        expect_error(answer, 400, "INVALID_REQUEST")
    assert api.post("/v1/jobs", with_key(client, "~" * 255), json=JOB).status_code == 201


def test_a_race_makes_one_job(api: Market) -> None:
    client = with_key(api.key("client"))
    racing: list[Future[Any]] = [
        api.begin(api.client.post("/v1/jobs", headers=client, json=JOB)) for _ in range(12)
    ]
    answers: list[httpx.Response] = [each.result(60) for each in racing]
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert len(api.get("/v1/jobs", client).json()) == 1


def test_old_answers_are_purged(api: Market, clock: ManualClock) -> None:
    client = api.key("client")
    first = api.post("/v1/jobs", with_key(client), json=JOB).json()
    clock.advance(10)
    assert api.write(purge, clock.now_ms() - 10_000) == 0
    assert api.write(purge, clock.now_ms()) == 1
    assert api.post("/v1/jobs", with_key(client), json=JOB).json()["job_id"] != first["job_id"]


def stored_bytes(api: Market) -> int:
    query = text("SELECT sum(length(body)) AS n FROM idempotent_answers")
    return int(api.run(api.runtime.db.read(lambda tx: tx.query(query)))[0].n)


def test_a_long_prompt_is_not_stored_with_its_answer(api: Market) -> None:
    """It is in the request that asks for the answer again."""
    client, prompt = api.key("client"), "word " * 100_000
    for path, body in (
        ("/v1/jobs", {"prompt": prompt, "model": "huge"}),
        ("/v1/client/jobs", {"job_type": "llm_inference", "parameters": {"prompt": prompt, "model": "huge"}}),
    ):
        first = api.post(path, with_key(client), json=body)
        assert first.json()["prompt"] == prompt
        again = api.post(path, with_key(client), json=body)
        assert again.content == first.content
        assert again.headers["idempotency-replayed"] == "true"
    assert stored_bytes(api) < 10_000


def test_a_replay_keeps_the_model_that_was_meant_then(api: Market) -> None:
    client, miner = api.key("client"), api.key("miner")
    api.miner(miner, "m1", capabilities=["tiny"])
    first = api.post("/v1/jobs", with_key(client), json=JOB)
    assert first.json()["model"] == "tiny"
    api.miner(miner, "m2", capabilities=["llama3.2"])
    again = api.post("/v1/jobs", with_key(client), json=JOB)
    assert again.content == first.content
    assert api.post("/v1/jobs", client, json=JOB).json()["model"] == "llama3.2"


def test_a_long_answer_is_stored_packed(api: Market) -> None:
    miner = with_key(api.key("miner"))
    body = {"miner_id": "m1", "models": [{"name": f"model-{n}", "engine": "ollama"} for n in range(256)]}
    first = api.post("/v1/miners/register", miner, json=body)
    assert first.status_code == 201
    assert api.post("/v1/miners/register", miner, json=body).content == first.content
    assert stored_bytes(api) < len(first.content) / 4
