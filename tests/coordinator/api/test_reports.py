"""Whatever a miner says of a job is accepted in some form, and what it may read of one is no more than it needs."""

import json
from typing import Any

import pytest

from aitbc.core.clock import ManualClock
from tests.coordinator.api.support import Headers, Market, expect_error

SECRET = "a very private question"


@pytest.fixture
def client(api: Market) -> Headers:
    return api.key("client", "alice")


@pytest.fixture
def miner(api: Market) -> Headers:
    key = api.key("miner", "mill")
    api.miner(key)
    return key


def leased(api: Market, client: Headers, miner: Headers) -> str:
    job = api.job(client, prompt=SECRET)
    api.claim(miner, job)
    return job


FAILURES: dict[str, bytes] = {
    "nothing but who": b'"miner_id": "m1"',
    "nul": b'"miner_id": "m1", "cause": "ENGINE_ERROR", "message": "cannot render \\u0000"',
    "raw control": b'"miner_id": "m1", "cause": "ENGINE_ERROR", "message": "a\x00\x1b[31mb"',
    "lone surrogate": b'"miner_id": "m1", "cause": "ENGINE_ERROR", "message": "\\ud83d\\u00e9 \\udc00"',
    "a pair": b'"miner_id": "m1", "cause": "ENGINE_ERROR", "message": "\\ud83e\\udd99 \\ud800"',
    "bad utf-8": b'"miner_id": "m1", "cause": "ENGINE_ERROR", "message": "\xff\xfe"',
    "long": b'"miner_id": "m1", "cause": "ENGINE_ERROR", "message": "' + b"x" * 100_000 + b'"',
    "message that is none": b'"miner_id": "m1", "cause": "TIMEOUT", "message": {"a": [1, "\\u0000"]}',
    "unknown cause": b'"miner_id": "m1", "cause": "GPU_ON_FIRE", "message": "hot"',
    "cause that is none": b'"miner_id": "m1", "cause": ["\\u0000"], "retryable": "maybe"',
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("by_role", [True, False])
def test_a_failure_report_is_never_refused(
    api: Market, client: Headers, miner: Headers, name: str, by_role: bool
) -> None:
    job = leased(api, client, miner)
    fields = FAILURES[name]
    if by_role:
        content, path = b'{"job_id": "' + job.encode() + b'", ' + fields + b"}", "/v1/miner/fail"
    else:
        content, path = b"{" + fields + b"}", f"/v1/jobs/{job}/fail"
    answer = api.post(path, miner, content=content)
    assert answer.status_code == 200, answer.text
    seen = api.get(f"/v1/jobs/{job}", client).json()
    assert seen["status"] == "pending"
    assert seen["cause"] in ("ENGINE_ERROR", "TIMEOUT")
    said = seen["error"] or ""
    assert "\0" not in said
    assert "\x1b" not in said
    assert len(said) <= 500
    if name == "unknown cause":
        assert said == "GPU_ON_FIRE: hot"
    if name == "a pair":
        assert said == "🦙 \ufffd"


@pytest.mark.parametrize("text", ["before\0after", "\0", "tab\tand \x1b and \x7f"])
def test_an_answer_may_hold_any_character(api: Market, client: Headers, miner: Headers, text: str) -> None:
    """Its hash is over what the miner signed, so that it is kept as it is."""
    job = leased(api, client, miner)
    answer = api.complete(miner, job, result={"text": text, "finish_reason": "stop"})
    assert answer.status_code == 200, answer.text
    assert api.get(f"/v1/jobs/{job}/result", client).json()["result"] == text


def test_an_answer_with_half_a_character_is_mended(api: Market, client: Headers, miner: Headers) -> None:
    job = leased(api, client, miner)
    body = b'{"miner_id": "m1", "result": "half \\ud83e of a llama"}'
    assert api.post(f"/v1/jobs/{job}/complete", miner, content=body).status_code == 200
    assert api.get(f"/v1/jobs/{job}/result", client).json()["result"] == "half \ufffd of a llama"


@pytest.mark.parametrize("result", [None, 7, {"text": 1}, {"text": "x", "finish_reason": "abort"}, {}])
def test_a_refused_result_counts_as_a_try(api: Market, client: Headers, miner: Headers, result: Any) -> None:
    """It may send a better one; but a miner that has nothing better does not keep the job for ever."""
    job = leased(api, client, miner)
    for tries in (2, 3):
        expect_error(api.complete(miner, job, result=result), 400, "INVALID_REQUEST")
        seen = api.get(f"/v1/jobs/{job}", client).json()
        assert (seen["status"], seen["attempts"]) == ("running", tries)
    batch = {"miner_id": "m1", "results": [{"job_id": job, "result": result}]}
    assert api.post("/v1/miner/results", miner, json=batch).json()["items"][0]["ok"] is False
    seen = api.get(f"/v1/jobs/{job}", client).json()
    assert seen["status"] != "running"
    assert seen["cause"] == "ENGINE_ERROR"
    assert "INVALID_REQUEST" in seen["error"]


def test_the_refused_results_of_a_batch_are_counted_in_one_transaction(
    api: Market, client: Headers, miner: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [leased(api, client, miner) for _ in range(3)]
    named = [*jobs, jobs[0]]
    results = [{"job_id": job, "result": {}} for job in named]
    backend = api.runtime.db.backend
    written: list[str] = []
    write = backend.write

    async def counted(call: Any) -> Any:
        written.append(call[0].__name__)
        return await write(call)

    monkeypatch.setattr(backend, "write", counted)
    answer = api.post("/v1/miner/results", miner, json={"miner_id": "m1", "results": results})
    assert [item["ok"] for item in answer.json()["items"]] == [False] * 4
    assert written == ["complete_batch", "count_refused"]
    tries = [api.get(f"/v1/jobs/{job}", client).json()["attempts"] for job in jobs]
    assert tries == [3, 2, 2]


def test_a_refused_result_of_somebody_else_counts_nothing(
    api: Market, client: Headers, miner: Headers
) -> None:
    job = leased(api, client, miner)
    thief = api.key("miner", "thief")
    api.miner(thief, "m2")
    expect_error(api.complete(thief, job, "m2", result=7), 409, "LEASE_LOST")
    body = {"miner_id": "m1", "result": 7, "lease_id": "an older one"}
    expect_error(api.post(f"/v1/jobs/{job}/complete", miner, json=body), 409, "LEASE_LOST")
    assert api.get(f"/v1/jobs/{job}", client).json()["attempts"] == 1


def test_registrations_and_heartbeats_are_not_refused_for_a_name(api: Market, client: Headers) -> None:
    key = api.key("miner", "odd")
    body = b"""{"miner_id": "odd", "models": [{"name": "m", "engine": "e\\u0000", "quantisation": "\\ud800"}],
        "gpus": [{"name": "RTX\\u0000 \\udfff", "memory_gb": 8}], "endpoint": "\\u0007",
        "address": "0x\\u0000"}"""
    shown = api.post("/v1/miners/register", key, content=body)
    assert shown.status_code == 201, shown.text
    assert shown.json()["gpus"] == [{"name": "RTX\ufffd \ufffd", "memory_gb": 8}]
    assert "\0" not in json.dumps(shown.json(), ensure_ascii=False)
    load = {"running": -1, "gpu_utilisation": 101, "memory_used_gb": 3, "note": "\0"}
    beat = api.post("/v1/miner/heartbeat", key, json={"miner_id": "odd", "load": load, "jobs": ["\0"]})
    assert beat.status_code == 200, beat.text


def test_what_was_asked_is_shown_with_the_lease_and_no_longer(
    api: Market, clock: ManualClock, client: Headers, miner: Headers
) -> None:
    """Over all that a miner or a stranger can read."""
    other = api.key("miner", "other")
    job = api.job(client, prompt=SECRET)
    paths = [
        "/v1/jobs/available?miner_id=m1", f"/v1/jobs/{job}", f"/v1/jobs/{job}/events", f"/v1/jobs/{job}/explain",
        f"/v1/jobs/{job}/result", "/v1/jobs", "/v1/miners", "/explorer/jobs", "/v1/explorer/receipts", "/v1/receipts",
        "/v1/miner/heartbeat", "/metrics",
    ]  # fmt: skip

    def told(key: Headers) -> list[str]:
        return [path for path in paths if SECRET in api.get(path, key).text]

    assert told(miner) == told(other) == told({}) == []
    api.claim(miner, job)
    assert told(miner) == [f"/v1/jobs/{job}"]
    assert told(other) == told({}) == []
    api.post(f"/v1/jobs/{job}/fail", miner, json={"miner_id": "m1", "cause": "ENGINE_ERROR"})
    assert told(miner) == []
    api.wait(clock, 1)
    second = api.job(client, prompt=SECRET)
    paths.append(f"/v1/jobs/{second}")
    api.claim(miner, second)
    api.complete(miner, second, result="an answer to " + SECRET)
    assert told(miner) == told(other) == told({}) == [], "it has answered, and needs neither any more"
    assert f"/v1/jobs/{second}" in told(client)
