"""A result is as large as its job allowed, on every route; lists stay small whatever was asked and answered."""

from typing import Any

import httpx
import pytest

from aitbc.core.jobspec import RESULT_BYTES_FREE, RESULT_BYTES_PER_TOKEN
from tests.coordinator.api.support import Headers, Market, expect_error

MOST = RESULT_BYTES_FREE + RESULT_BYTES_PER_TOKEN  # of a job of one token


@pytest.fixture
def miner(api: Market) -> Headers:
    headers = api.key("miner")
    api.miner(headers, capabilities=["llama3.2", "llm_inference", "embedding"], concurrency=64)
    return headers


def leased(api: Market, miner: Headers, client: Headers, tokens: int = 1) -> str:
    job_id = api.job(client, params={"max_tokens": tokens})
    api.claim(miner, job_id)
    return job_id


def by_complete(api: Market, miner: Headers, job_id: str, result: Any) -> httpx.Response:
    return api.complete(miner, job_id, result=result)


def by_result(api: Market, miner: Headers, job_id: str, result: Any) -> httpx.Response:
    return api.post("/v1/miner/result", miner, json={"miner_id": "m1", "job_id": job_id, "result": result})


def in_batch(api: Market, miner: Headers, job_id: str, result: Any) -> dict[str, Any]:
    body = {"miner_id": "m1", "results": [{"job_id": job_id, "result": result}]}
    item: dict[str, Any] = api.post("/v1/miner/results", miner, json=body).json()["items"][0]
    return item


def batch_of(jobs: dict[str, Any]) -> dict[str, Any]:
    return {"miner_id": "m1", "results": [{"job_id": job, "result": text} for job, text in jobs.items()]}


@pytest.mark.parametrize("send", [by_complete, by_result])
@pytest.mark.parametrize("text", ["x" * (MOST + 1), "é" * (MOST // 2 + 1), "x" * 900_000])
def test_a_result_larger_than_its_job_allows_is_refused_and_counts(
    api: Market, miner: Headers, send: Any, text: str
) -> None:
    client = api.key("client")
    job_id = leased(api, miner, client)
    for _attempt in range(3):
        body = expect_error(send(api, miner, job_id, text), 413, "RESULT_TOO_LARGE")
        assert body["error"]["details"]["max_bytes"] == MOST
        assert str(MOST) in body["detail"]
    assert send(api, miner, job_id, text).status_code == 409, "it does not go on for ever"
    assert api.get(f"/v1/jobs/{job_id}", client).json()["status"] == "failed"


def test_it_is_refused_in_a_batch_as_well(api: Market, miner: Headers) -> None:
    client = api.key("client")
    job_id = leased(api, miner, client)
    error = in_batch(api, miner, job_id, "x" * (MOST + 1))["error"]
    assert (error["code"], error["details"]["max_bytes"]) == ("RESULT_TOO_LARGE", MOST)
    body = expect_error(
        api.post("/v1/miner/results", miner, json=batch_of({job_id: "x" * 10_000_000})),
        413,
        "RESULT_TOO_LARGE",
    )
    assert body["error"]["details"]["max_bytes"] == MOST, "it is not read at all, and so has no items"
    assert in_batch(api, miner, job_id, "fine")["ok"]


def test_what_a_job_allows_is_taken(api: Market, miner: Headers) -> None:
    client = api.key("client")
    assert by_complete(api, miner, leased(api, miner, client), "x" * MOST).status_code == 200
    text = "x" * 200_000
    job_id = leased(api, miner, client, tokens=4096)
    assert by_complete(api, miner, job_id, text).status_code == 200
    answer = api.get(f"/v1/jobs/{job_id}", client)
    assert answer.json()["result"] == text and answer.json()["output"] is None
    assert len(answer.content) < len(text) + 4096, "it is there once"
    for path in (f"/v1/jobs/{job_id}/result", f"/v1/client/jobs/{job_id}/status"):
        assert len(api.get(path, client).content) < len(text) + 4096


def test_embeddings_have_their_own_bound(api: Market, miner: Headers) -> None:
    client = api.key("client")
    body = {"job_type": "embedding", "parameters": {"input": ["a", "b"], "model": "llama3.2"}}
    job_id = api.post("/v1/client/jobs", client, json=body).json()["job_id"]
    api.claim(miner, job_id)
    vectors = [[0.1234567890123456] * 4096] * 2
    assert in_batch(api, miner, job_id, {"embeddings": vectors})["ok"]
    assert api.get(f"/v1/jobs/{job_id}", client).json()["result"].startswith("[[0.12345")


@pytest.mark.parametrize("path", ["/v1/jobs"])
def test_a_list_is_small_whatever_was_asked_and_answered(api: Market, miner: Headers, path: str) -> None:
    client = api.key("client", grant_units=10**13)
    for _ in range(30):
        job_id = api.job(client, prompt="p" * 100_000, params={"max_tokens": 4096})
        api.claim(miner, job_id)
        assert by_complete(api, miner, job_id, "r" * 200_000).status_code == 200
    short = leased(api, miner, client)
    by_complete(api, miner, short, "brief")
    answer = api.get(f"{path}?limit=100", client)
    listed = answer.json()
    assert len(answer.content) < 31 * 4096
    assert [listed[0][name] for name in ("job_id", "prompt", "result")] == [short, "Hello?", "brief"]
    assert all(job["result"] is None and job["prompt"] is None for job in listed[1:])
    assert api.get(f"/v1/jobs/{listed[1]['job_id']}", client).json()["prompt"] == "p" * 100_000


def test_a_large_body_is_within_what_the_leases_allow(api: Market, miner: Headers) -> None:
    client = api.key("client")
    jobs = [leased(api, miner, client, tokens=4096) for _ in range(3)]
    answer = api.post("/v1/miner/results", miner, json=batch_of(dict.fromkeys(jobs, "\x01" * 250_000)))
    assert [item["ok"] for item in answer.json()["items"]] == [True] * 3, "each byte of it was sent as six"
    again = api.post("/v1/miner/results", miner, json=batch_of(dict.fromkeys(jobs, "\x01" * 250_000)))
    assert again.json() == answer.json(), "the leases have ended, and the answer may have been lost"


def test_embeddings_are_within_what_the_leases_allow(api: Market, miner: Headers) -> None:
    client = api.key("client")
    job_ids = []
    for texts in (["a"] * 2, ["b"] * 3):
        body = {"job_type": "embedding", "parameters": {"input": texts, "model": "llama3.2"}}
        job_ids.append(api.post("/v1/client/jobs", client, json=body).json()["job_id"])
        api.claim(miner, job_ids[-1])
    vector = [-0.1234567890123456] * 16_384
    sent = {job: {"embeddings": [vector] * count} for job, count in zip(job_ids, (2, 3), strict=True)}
    assert [i["ok"] for i in api.post("/v1/miner/results", miner, json=batch_of(sent)).json()["items"]] == [
        True
    ] * 2


@pytest.mark.parametrize("others", [0, 2])
def test_a_batch_that_is_larger_than_all_leases_is_refused_whole(
    api: Market, miner: Headers, others: int
) -> None:
    client = api.key("client")
    jobs = [leased(api, miner, client) for _ in range(1 + others)]
    sent = batch_of({job: "x" * (10_000_000 if job is jobs[0] else 3) for job in jobs})
    expect_error(api.post("/v1/miner/results", miner, json=sent), 413, "RESULT_TOO_LARGE")
    seen = api.get(f"/v1/jobs/{jobs[0]}", client).json()
    assert seen["attempts"] == (1 if others else 2), "where it names one job alone, it is a try of that"
    assert all(in_batch(api, miner, job, "fine")["ok"] for job in jobs)


def test_a_name_after_the_result_is_found(api: Market, miner: Headers) -> None:
    client = api.key("client")
    job_id = leased(api, miner, client)
    body = {"miner_id": "m1", "result": 'say "job_id": "another"' * 30_000, "job_id": job_id}
    error = expect_error(api.post("/v1/miner/result", miner, json=body), 413, "RESULT_TOO_LARGE")
    assert error["error"]["details"]["max_bytes"] == MOST
    assert api.get(f"/v1/jobs/{job_id}", client).json()["attempts"] == 2


def test_without_leases_nothing_large_is_read(api: Market, miner: Headers) -> None:
    stranger, client = api.key("miner"), api.key("client")
    job_id = leased(api, miner, client)
    body = {"miner_id": "m1", "job_id": job_id, "result": "x" * 300_000}
    for path, sent in (
        ("/v1/miner/result", body),
        (f"/v1/jobs/{job_id}/complete", body),
        ("/v1/miner/results", batch_of({job_id: "x" * 300_000})),
    ):
        expect_error(api.post(path, stranger, json=sent), 409, "LEASE_LOST")
    sent = batch_of(dict.fromkeys(("one", "another"), "x" * 300_000))
    expect_error(api.post("/v1/miner/results", stranger, json=sent), 413, "RESULT_TOO_LARGE")
    assert api.get(f"/v1/jobs/{job_id}", client).json()["attempts"] == 1, "it is another's job"
