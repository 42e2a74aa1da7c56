"""A job's way through both dialects, each answer held to its documented form."""

from typing import Any

import httpx
from pydantic import TypeAdapter

from aitbc.coordinator.api.schemas import replies
from aitbc.core.clock import ManualClock
from tests.coordinator.api.support import Market, expect_error


def checked(answer: httpx.Response, form: Any, status: int = 200) -> Any:
    """The JSON of an answer that has this status and documented form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    TypeAdapter(form).validate_json(answer.content)
    return answer.json()


def test_a_job_by_resource(api: Market) -> None:
    client, miner = api.key("client", "alice"), api.key("miner", "mill")
    prompt = {"prompt": "Hello?", "params": {"max_tokens": 16, "seed": 7}}
    job = checked(api.post("/v1/jobs", client, json=prompt), replies.Job, 201)
    job_id = job["job_id"]
    assert (job["status"], job["client_id"], job["prompt"]) == ("pending", "alice", "Hello?")
    assert job["params"] == {"max_tokens": 16, "temperature": 0.7, "top_p": 0.9, "seed": 7}
    assert job["price_held"] > 0
    account = checked(api.get("/v1/account", client), replies.Account)
    assert (account["account"], account["balance"], account["held"]) == ("alice", 1000, job["price_held"])
    assert api.get("/v1/jobs/available", miner, params={"miner_id": "m1"}).status_code == 404
    shown = checked(
        api.post("/v1/miners/register", miner, json={"miner_id": "m1", "capabilities": ["llama3.2"]}),
        replies.Miner,
        201,
    )
    assert (shown["status"], shown["job_types"], shown["capabilities"]) == (
        "active",
        ["llm_inference"],
        ["llama3.2"],
    )
    offered = checked(api.get("/v1/jobs/available", miner, params={"miner_id": "m1"}), replies.Job)
    assert offered["job_id"] == job_id
    assert "Hello?" not in str(offered), "what is asked takes a lease"
    assert (offered["prompt"], offered["parameters"], offered["params"]) == (None, {}, {})
    assert checked(api.get(f"/v1/jobs/{job_id}", client), replies.Job)["queue_position"] == 1
    pending = checked(api.get(f"/v1/jobs/{job_id}/result", client), replies.Result, 202)
    assert pending["status"] == "pending"
    claim = {"miner_id": "m1"}
    lease = checked(api.post(f"/v1/jobs/{job_id}/claim", miner, json=claim), replies.Assignment)
    assert lease["parameters"]["prompt"] == "Hello?"
    assert lease["request"]["input"] == {"prompt": "Hello?"}
    expect_error(api.post(f"/v1/jobs/{job_id}/claim", miner, json=claim), 409, "JOB_NOT_AVAILABLE")
    assert api.get("/v1/jobs/available", miner, params={"miner_id": "m1"}).json() is None
    running = checked(api.get(f"/v1/jobs/{job_id}/result", client), replies.Result, 202)
    assert (running["status"], running["miner_id"]) == ("running", "m1")
    result = {
        "miner_id": "m1",
        "result": "Hi.",
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        "completed_at": "2026-01-01T00:00:00Z",
    }
    receipt = checked(api.post(f"/v1/jobs/{job_id}/complete", miner, json=result), replies.Receipt)
    assert (receipt["client"], receipt["provider"], receipt["units"]) == ("alice", "mill", 5)
    again = checked(api.post(f"/v1/jobs/{job_id}/complete", miner, json=result), replies.Receipt)
    assert again == receipt
    other = {**result, "result": "Ho."}
    expect_error(api.post(f"/v1/jobs/{job_id}/complete", miner, json=other), 409, "JOB_NOT_RUNNING")
    done = checked(api.get(f"/v1/jobs/{job_id}/result", client), replies.Result)
    assert (done["status"], done["result"], done["output"]) == (
        "completed",
        "Hi.",
        {"text": "Hi.", "finish_reason": None},
    )
    assert (done["receipt_id"], done["price"], done["progress"]) == (
        receipt["receipt_id"],
        receipt["price"],
        1,
    )
    account = checked(api.get("/v1/account", client), replies.Account)
    assert account["held"] == 0
    assert account["balance"] == 1000 - receipt["price"]
    events = checked(api.get(f"/v1/jobs/{job_id}/events", client), list[replies.JobEvent])
    assert [event["type"] for event in events] == ["created", "claimed", "completed"]
    expect_error(api.post(f"/v1/jobs/{job_id}/cancel", client), 409, "JOB_NOT_CANCELLABLE")


def test_a_job_by_role(api: Market) -> None:
    client, miner = api.key("client", "alice"), api.key("miner", "mill")
    body = {
        "job_type": "embedding",
        "parameters": {"input": ["a", "b"], "model": "nomic"},
        "priority": 9,
        "constraints": {"max_price": 0.5, "min_memory_gb": 8, "region": "eu"},
    }
    job = checked(api.post("/v1/client/jobs", client, json=body), replies.Job, 201)
    job_id = job["job_id"]
    assert job["constraints"] == {"max_price": 0.5, "min_memory_gb": 8, "region": "eu"}
    assert (job["priority"], job["parameters"]["input"], job["prompt"]) == (9, ["a", "b"], None)
    typed = {
        "capabilities": {
            "models": [{"name": "nomic", "engine": "ollama", "context_length": 2048, "price_per_1k": 0.25}],
            "job_types": ["embedding"],
        },
        "gpu_info": {"name": "RTX 4090", "memory": "24GB"},
        "region": "eu",
    }
    shown = checked(api.post("/v1/miner/register", miner, json=typed), replies.Miner)
    assert shown["models"][0]["price_per_1k"] == 0.25
    assert shown["gpus"] == [{"name": "RTX 4090", "memory_gb": 24}]
    taken = checked(api.get("/v1/miner/jobs", miner), replies.Assignments)["jobs"]
    assert [lease["job_id"] for lease in taken] == [job_id]
    assert taken[0]["unit_price"] == 0.25
    held = checked(api.get("/v1/miner/jobs", miner), replies.Assignments)["jobs"]
    assert [lease["lease_id"] for lease in held] == [taken[0]["lease_id"]]
    known = api.get("/v1/miner/jobs", miner, params={"known": f"{job_id},x"})
    told = checked(known, replies.Assignments)
    assert (told["jobs"], told["reason"], told["retry_after_s"]) == ([], "BUSY", None)
    beat = checked(
        api.post("/v1/miner/heartbeat", miner, json={"jobs": [job_id, "gone"], "load": {"running": 1}}),
        replies.Heartbeat,
    )
    assert [lease["job_id"] for lease in beat["leases"]] == [job_id]
    assert beat["cancelled"] == ["gone"]
    listed = checked(api.get("/v1/miners"), list[replies.ListedMiner])
    assert [(row["miner_id"], row["running"]) for row in listed] == [(shown["miner_id"], 1)]
    vectors = [[0.5, -1.25], [1e-7, 3]]
    sent = {"miner_id": shown["miner_id"], "job_id": job_id, "result": {"embeddings": vectors}}
    receipt = checked(api.post("/v1/miner/result", miner, json=sent), replies.Receipt)
    status = checked(api.get(f"/v1/client/jobs/{job_id}/status", client), replies.Job)
    assert status["output"] == {"embeddings": vectors}
    assert status["result"] == "[[0.5,-1.25],[1e-7,3]]"
    own = checked(api.get(f"/v1/client/jobs/{job_id}/receipts", client), list[replies.Receipt])
    assert own[0]["result"] == {"embeddings": vectors}
    public = checked(api.get(f"/v1/receipts/{receipt['id']}"), replies.Receipt)
    assert "result" not in public
    assert public == receipt
    left = api.post("/v1/miner/deregister", miner, json={"miner_id": shown["miner_id"]})
    assert checked(left, replies.Deregistered) == {"status": "inactive", "requeued": 0}
    expect_error(api.get("/v1/miner/jobs", miner), 409, "MINER_INACTIVE")


def test_a_job_given_back_and_one_cancelled(api: Market, clock: ManualClock) -> None:
    client, miner = api.key("client"), api.key("miner")
    api.miner(miner)
    job_id = api.job(client)
    api.claim(miner, job_id)
    failure = {"miner_id": "m1", "cause": "OUT_OF_MEMORY", "message": "no room"}
    failed = checked(api.post(f"/v1/jobs/{job_id}/fail", miner, json=failure), replies.FailedJob)
    assert failed == {"job_id": job_id, "status": "pending"}
    paused = checked(api.get("/v1/miner/jobs", miner), replies.Assignments)
    assert (paused["jobs"], paused["reason"], paused["retry_after_s"]) == ([], "PAUSED", 1)
    claim = api.post(f"/v1/jobs/{job_id}/claim", miner, json={"miner_id": "m1"})
    assert expect_error(claim, 409, "JOB_NOT_AVAILABLE")["error"]["details"]["reason"] == "FAILED_IT_BEFORE"
    api.wait(clock, 1)
    api.claim(miner, job_id)
    final = {"miner_id": "m1", "job_id": job_id, "cause": "BAD_REQUEST", "message": "too odd"}
    assert checked(api.post("/v1/miner/fail", miner, json=final), replies.FailedJob)["status"] == "pending"
    why = checked(api.get(f"/v1/jobs/{job_id}/explain", client), replies.Explanation)
    assert (why["reasons"], why["nearest_change"]["change"]) == ({"FAILED_IT_BEFORE": 1}, "wait")
    api.wait(clock, 3)
    job = checked(api.get(f"/v1/jobs/{job_id}", client), replies.Job)
    assert (job["cause"], job["actor"], job["error"]) == ("BAD_REQUEST", "miner", "too odd")
    second = api.job(client)
    cancelled = checked(api.post(f"/v1/jobs/{second}/cancel", client), replies.Job)
    assert (cancelled["status"], cancelled["cause"]) == ("cancelled", "CANCELLED_BY_CLIENT")
    assert checked(api.get("/v1/account", client), replies.Account)["available"] == 1000


def test_a_job_that_runs_again_shows_no_old_failure(api: Market, clock: ManualClock) -> None:
    """While it waits it says why it was given back; running or answered it is not a failure."""
    client, miner = api.key("client"), api.key("miner")
    api.miner(miner)
    job_id = api.job(client)

    def shown() -> tuple[Any, ...]:
        job = checked(api.get(f"/v1/jobs/{job_id}", client), replies.Job)
        return job["status"], job["cause"], job["error"]

    api.claim(miner, job_id)
    failure = {"miner_id": "m1", "cause": "OUT_OF_MEMORY", "message": "no room"}
    assert api.post(f"/v1/jobs/{job_id}/fail", miner, json=failure).status_code == 200
    assert shown() == ("pending", "OUT_OF_MEMORY", "no room")
    api.wait(clock, 1)
    api.claim(miner, job_id)
    assert shown() == ("running", None, None)
    assert api.complete(miner, job_id).status_code == 200
    assert shown() == ("completed", "COMPLETED", None)


def test_batches_succeed_and_fail_by_item(api: Market) -> None:
    client, miner = api.key("client"), api.key("miner")
    api.miner(miner)
    sent: list[Any] = [
        {"prompt": "one"},
        {"job_type": "llm_inference", "parameters": {"prompt": "two"}},
        {"job_type": "render", "parameters": {}},
        {"prompt": ""},
        {"prompt": "x", "priority": "high"},
        "three",
        None,
        {"prompt": "dear", "constraints": {"max_price": 1_000_000}},
    ]
    batch = checked(api.post("/v1/jobs/batch", client, json={"jobs": sent}), replies.Batch)["items"]
    assert [item["ok"] for item in batch] == [True, True, *[False] * 6]
    codes = [item["error"]["code"] for item in batch[2:]]
    assert codes == ["INVALID_JOB_TYPE", *["INVALID_REQUEST"] * 4, "INSUFFICIENT_FUNDS"]
    leases = api.get("/v1/miner/jobs", miner, params={"max": 10}).json()["jobs"]
    assert [lease["parameters"]["prompt"] for lease in leases] == ["one", "two"]
    results: list[Any] = [
        {"job_id": leases[0]["job_id"], "result": "1"},
        {"job_id": leases[1]["job_id"], "result": {"no": "text"}},
        {"job_id": "unknown", "result": "3"},
        {"result": "4"},
        5,
    ]
    answer = api.post("/v1/miner/results", miner, json={"miner_id": "m1", "results": results})
    items = checked(answer, replies.SubmittedResults)["items"]
    assert [item["ok"] for item in items] == [True, False, False, False, False]
    assert items[0]["receipt"]["job_id"] == leases[0]["job_id"]
    assert items[2]["error"]["code"] == "JOB_NOT_FOUND"
    states = {row["job_id"]: row["status"] for row in api.get("/v1/jobs", client).json()}
    assert states == {leases[0]["job_id"]: "completed", leases[1]["job_id"]: "running"}


def test_a_thousand_jobs_in_three_requests(api: Market) -> None:
    client, miner = api.key("client", "alice"), api.key("miner", "mill")
    api.miner(miner, concurrency=1000)
    api.approve("mill")
    jobs = [{"prompt": f"job {number}", "params": {"max_tokens": 8}} for number in range(1000)]
    items = checked(api.post("/v1/jobs/batch", client, json={"jobs": jobs}), replies.Batch)["items"]
    made = [item["job"]["job_id"] for item in items]
    taken = checked(api.get("/v1/miner/jobs", miner, params={"max": 1000}), replies.Assignments)["jobs"]
    assert [job["job_id"] for job in taken] == made
    results = [{"job_id": job_id, "result": "done"} for job_id in made]
    answer = api.post("/v1/miner/results", miner, json={"miner_id": "m1", "results": results})
    receipts = [item["receipt"] for item in checked(answer, replies.SubmittedResults)["items"]]
    assert [receipt["job_id"] for receipt in receipts] == made
    paid = sum(round(receipt["price"] * 10**8) for receipt in receipts)
    account = api.get("/v1/account", client).json()
    assert (round(account["balance"] * 10**8), account["held"]) == (1000 * 10**8 - paid, 0)


def test_lists_page_and_filter(api: Market, clock: ManualClock) -> None:
    client = api.key("client")
    made = []
    for _ in range(5):
        clock.advance(1)
        made.append(api.job(client))
    api.post(f"/v1/jobs/{made[0]}/cancel", client)
    first = api.get("/v1/jobs", client, params={"limit": 2})
    assert [job["job_id"] for job in checked(first, list[replies.Job])] == [made[4], made[3]]
    assert first.headers["x-total-count"] == "5"
    rest = api.get("/v1/jobs", client, params={"limit": 2, "offset": 4})
    assert [job["job_id"] for job in rest.json()] == [made[0]]
    cancelled = api.get("/v1/jobs", client, params={"status": "cancelled"})
    assert [job["job_id"] for job in cancelled.json()] == [made[0]]
    admin = api.key("admin")
    assert len(api.get("/v1/jobs", admin).json()) == 5


def test_receipts_page_and_filter(api: Market, clock: ManualClock) -> None:
    alice, bob, miner = api.key("client", "alice"), api.key("client", "bob"), api.key("miner", "mill")
    api.miner(miner)
    ids = []
    for client in (alice, bob, alice):
        clock.advance(1)
        job_id = api.job(client)
        api.claim(miner, job_id)
        ids.append(api.complete(miner, job_id).json()["receipt_id"])

    def listed(**query: Any) -> list[str]:
        return [row["id"] for row in checked(api.get("/v1/receipts", params=query), list[replies.Receipt])]

    assert listed() == ids[::-1]
    assert listed(client="alice") == [ids[2], ids[0]]
    assert listed(provider="mill", limit=1) == [ids[2]]
    assert listed(provider="alice") == []
    assert listed(model="other") == []
    assert listed(offset=2) == [ids[0]]
    page = api.get("/v1/receipts", params={"limit": 2})
    assert listed(cursor=page.headers["x-next-cursor"], limit=2) == [ids[0]]
    keys = checked(api.get("/v1/keys"), replies.PublicKeys)
    signer = page.json()[0]["signature"]["key_id"]
    assert [(key["key_id"], key["use"]) for key in keys["keys"]] == [(signer, "receipts"), (signer, "log")]


def test_explain_and_quote(api: Market) -> None:
    client, miner = api.key("client"), api.key("miner")
    job_id = api.job(client, constraints={"max_price": 0.001})
    alone = checked(api.get(f"/v1/jobs/{job_id}/explain", client), replies.Explanation)
    assert (alone["registered_miners"], alone["eligible_miners"]) == (0, 0)
    api.miner(miner, prices={"llama3.2": 0.02})
    dear = checked(api.get(f"/v1/jobs/{job_id}/explain", client), replies.Explanation)
    assert dear["reasons"] == {"PRICE_ABOVE_CAP": 1}
    assert dear["nearest_change"]["change"] == "max_price"
    quote = checked(api.post("/v1/jobs/quote", client, json={"prompt": "Hello?"}), replies.Quote)
    assert quote["price_per_1k"] == {"min": 0.02, "max": 0.02, "median": 0.02}
    role = {"job_type": "embedding", "parameters": {"input": ["x"]}}
    none = checked(api.post("/v1/jobs/quote", client, json=role), replies.Quote)
    assert (none["eligible_miners"], none["price_per_1k"]) == (0, None)


def test_limits_of_keys_show_and_hold(api: Market) -> None:
    client = api.key("client", limit_units=3 * 10**8, limit_period="day")
    dear = {"prompt": "x", "constraints": {"max_price": 8}, "params": {"max_tokens": 256}}
    assert api.post("/v1/jobs", client, json=dear).status_code == 201
    key = checked(api.get("/v1/account", client), replies.Account)["key"]
    assert (key["limit"], key["limit_period"]) == (3, "day")
    assert 2 < key["spent"] < 3
    expect_error(api.post("/v1/jobs", client, json=dear), 402, "KEY_LIMIT_EXCEEDED")
    broke = api.key("client", grant_units=0)
    expect_error(api.post("/v1/jobs", broke, json=dear), 402, "INSUFFICIENT_FUNDS")
    free = {"prompt": "x", "constraints": {"max_price": 0}}
    assert api.post("/v1/jobs", broke, json=free).status_code == 201
